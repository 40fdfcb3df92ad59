"""Corpora from texts, files, data sets and tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int32

from sae_circuits.errors import CorpusError, OptionError, TaskError, unknown
from sae_circuits.features.corpus import Corpus
from sae_circuits.features.text_files import read_texts
from sae_circuits.features.vocabulary import Vocabulary, tokenizer_of
from sae_circuits.progress import track
from sae_circuits.tasks.align import left_align
from sae_circuits.tasks.hugging_face import opened

MOST = 1024  # tokens of a prompt, unless asked otherwise: long ones cost memory and tell no more
AT_ONCE = 1000  # texts, to tokenize
_NOTHING = object()


def from_texts(
    texts: str | Iterable[str],
    model: Any,
    *,
    n_ctx: int | None = None,
    prepend_bos: bool = True,
    name: str = "texts",
) -> Corpus:
    """Make a corpus of texts, with a model's tokenizer.

    A text that is longer than a prompt may be becomes several prompts, the last of them shorter; a
    text without a token is left out.

    Args:
        texts: one or several; an iterator is read as it is tokenized.
        model: a model with a tokenizer, or a tokenizer.
        n_ctx: how many tokens a prompt has at most, the first among them; by default as many as
            the model reads, and 1,024 of these at most.
        prepend_bos: whether each prompt begins with the tokenizer's beginning-of-sequence token, if
            it has one.
        name: for messages and records.

    Raises:
        CorpusError: no tokenizer, what is no text, or no text with a token that the tokenizer
            knows.
        OptionError: more tokens a prompt than the model reads, or too few for a text.

    >>> import sae_circuits as sc
    >>> corpus = from_texts(["The capital of France is Paris", "The keys"], sc.load_model("demo"))
    >>> corpus, corpus.text(corpus.prompt(1))
    (Corpus('texts': 2 prompts, 10 tokens), '<|endoftext|> The keys')
    """
    tokenizer = tokenizer_of(model)
    if tokenizer is None:
        raise CorpusError(
            f"{type(model).__name__} has no tokenizer: pass a model with one, or give ids to "
            "Corpus.from_tokens"
        )
    first = [tokenizer.bos_token_id] if prepend_bos and tokenizer.bos_token_id is not None else []
    size = _context(model, n_ctx, len(first))
    texts = [texts] if isinstance(texts, str) else texts
    prompts = [
        prompt for ids in _streamed(tokenizer, texts, name) for prompt in _cut(ids, size, first)
    ]
    vocabulary = Vocabulary.of(model)
    if not any(not vocabulary.is_special[prompt].all() for prompt in prompts):
        raise CorpusError(
            f"{name!r}: no text has a token that the tokenizer knows: give texts that are not "
            "empty, in the language of the model"
        )
    return Corpus.of_prompts(prompts, vocabulary, name)


def from_files(
    paths: str | Path | Iterable[str | Path],
    model: Any,
    *,
    field: str = "text",
    lines: bool = False,
    encoding: str | None = None,
    n_ctx: int | None = None,
    prepend_bos: bool = True,
    name: str | None = None,
) -> Corpus:
    """Make a corpus of the texts in files.

    Args:
        paths: one file or several, which end in .txt, .jsonl (a value a line) or .json (a list).
        model: a model with a tokenizer, or a tokenizer.
        field: what holds the text, in JSON's objects; a value that is a text is taken itself.
        lines: whether each line of a .txt file is a text, and not the whole file.
        encoding: such as "latin-1"; by default UTF-8, or what the first bytes of a file say.
        n_ctx, prepend_bos: see `from_texts`.
        name: for messages and records; by default the first file's.

    Raises:
        FileFormatError: no such file, another kind of file, damage, a value without the field, or
            no text; the message names the file and the line.
        CorpusError, OptionError: see `from_texts`.
    """
    files = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    if not files:
        raise CorpusError("there is no file: give at least one")
    texts = (
        text
        for path in files
        for text in read_texts(path, field=field, lines=lines, encoding=encoding)
    )
    return from_texts(
        texts, model, n_ctx=n_ctx, prepend_bos=prepend_bos, name=name or files[0].stem
    )


def from_dataset(
    dataset: Any,
    model: Any,
    *,
    column: str = "text",
    split: str = "train",
    config: str | None = None,
    n: int | None = None,
    streaming: bool = False,
    n_ctx: int | None = None,
    prepend_bos: bool = True,
    name: str | None = None,
) -> Corpus:
    """Make a corpus of a column of a data set of Hugging Face's `datasets`.

    A column of token ids is taken as it is, a prompt a row; a row that is longer than a prompt may
    be is cut, and nothing is put before its parts.

    Args:
        dataset: a `Dataset`, a `DatasetDict`, or any rows as mappings; a folder that `save_to_disk`
            wrote or that holds files of a data set; a Parquet file; or a name on the hub, which
            needs the network or the hub's cache.
        model: a model with a tokenizer, or a tokenizer.
        column: of texts, or of token ids.
        split: which part, where there are several.
        config: which configuration.
        n: how many rows to read; by default all.
        streaming: read a data set of the hub as it arrives: with `n`, no more than these rows.
        n_ctx, prepend_bos: see `from_texts`.
        name: for messages and records; by default after the data set.

    Raises:
        UnknownName: there is no such split or column.
        CorpusError: the data set cannot be loaded, has no row, or holds neither texts nor ids in
            the column; see also `from_texts`.
        OptionError: see `from_texts`.
    """
    if n is not None and n < 1:
        raise OptionError(f"n={n}: ask for at least one row")
    try:
        source, title, rows = opened(dataset, split, config, streaming=streaming)
    except TaskError as error:
        raise CorpusError(str(error)) from error
    name, values = name or title, islice(_column(rows, column, source), n)
    if (first := next(values, _NOTHING)) is _NOTHING:
        raise CorpusError(f"{source} has no row: give at least one")
    values = _chained(first, values)
    if isinstance(first, str):
        return from_texts(values, model, n_ctx=n_ctx, prepend_bos=prepend_bos, name=name)
    size, vocabulary = _context(model, n_ctx, 0), Vocabulary.of(model)
    prompts = [
        prompt
        for i, value in enumerate(track(values, total=n, description="reading"))
        for prompt in _cut(_ids(value, f"row {i} of {source}", column, vocabulary), size, [])
    ]
    return Corpus.of_prompts(prompts, vocabulary, name)


def from_tokens(tokens: Any, of: Any, *, mask: Any = None, name: str = "tokens") -> Corpus:
    """Make a corpus of token ids.

    Args:
        tokens: whole numbers [prompt, pos] or, for one prompt, [pos]; of torch, numpy, or lists.
        of: a vocabulary, or the model or tokenizer that has it.
        mask: true at the tokens and false at the padding on either side of them, of the tokens'
            shape; without it, all are tokens.
        name: for messages and records.

    Raises:
        CorpusError: ids of another dtype or shape, or that the vocabulary lacks; a prompt without
            a token, or with padding between two.

    >>> vocabulary = Vocabulary(("<pad>", "a", "b"))
    >>> from_tokens([[0, 1, 2], [2, 1, 1]], vocabulary, mask=[[0, 1, 1], [1, 1, 1]]).tokens
    array([1, 2, 2, 1, 1], dtype=int32)
    """
    vocabulary = Vocabulary.of(of)
    ids = _tensor(tokens, name)
    real = None if mask is None else torch.as_tensor(mask)
    if real is not None and real.ndim == 1:
        real = real[None]
    try:
        aligned, lengths = left_align(ids, real)
    except TaskError as error:
        raise CorpusError(f"{name!r}: {error}") from error
    kept = torch.arange(aligned.shape[1], device=ids.device) < lengths[:, None]
    flat = _checked_ids(aligned[kept].cpu().numpy(), name, vocabulary)
    starts = np.concatenate([[0], np.cumsum(lengths.cpu().numpy())]).astype(np.int64)
    return Corpus(flat, starts, vocabulary, name)


# -- parts -----------------------------------------------------------------------------------------


def _context(model: Any, n_ctx: int | None, first: int) -> int:
    """How many tokens a prompt may have, of which so many come before its text."""
    reads = getattr(getattr(model, "cfg", None), "n_ctx", None)
    size = min(reads or MOST, MOST) if n_ctx is None else n_ctx
    if reads is not None and size > reads:
        raise OptionError(f"n_ctx={size} is more than the {reads} tokens that the model reads")
    if size <= first:
        raise OptionError(
            f"n_ctx={size} leaves no room for a text: give at least {first + 1} tokens"
        )
    return size


def _streamed(tokenizer: Any, texts: Iterable[str], name: str) -> Iterator[list[int]]:
    """The ids of each text, tokenized many at a time."""
    total = len(texts) if isinstance(texts, Sequence) else None
    waiting: list[str] = []
    for i, text in enumerate(track(texts, total=total, description="tokenizing")):
        if not isinstance(text, str):
            raise CorpusError(
                f"text {i} of {name!r} is a {type(text).__name__}, {text!r}: give strings"
            )
        waiting.append(text)
        if len(waiting) == AT_ONCE:
            yield from encoded(tokenizer, waiting)
            waiting = []
    if waiting:
        yield from encoded(tokenizer, waiting)


def encoded(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """The ids of texts, with no special tokens added."""
    # Not verbose: it would warn of texts that are longer than the context, and these are cut.
    return tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)[
        "input_ids"
    ]


def _cut(
    ids: Sequence[int] | np.ndarray, size: int, first: list[int]
) -> Iterator[Int32[np.ndarray, "pos"]]:
    """Prompts of so many tokens at most, each after the first ones."""
    ids, head = np.asarray(ids, dtype=np.int32), np.asarray(first, dtype=np.int32)
    step = size - len(first)
    for i in range(0, len(ids), step):
        yield np.concatenate([head, ids[i : i + step]])


def _column(rows: Any, column: str, source: str) -> Iterator[Any]:
    """What each row holds in a column."""
    names = getattr(rows, "column_names", None)
    if names is not None and column in names:
        rows = rows.select_columns([column])  # so that no other one is decoded
    for row in rows:
        if column not in row:
            raise unknown(f"column of {source}", column, map(str, names or row))
        yield row[column]


def _chained(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


def _ids(value: Any, where: str, column: str, vocabulary: Vocabulary) -> Int32[np.ndarray, "pos"]:
    ids = np.asarray(value)
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise CorpusError(
            f"{where} holds {value!r} in the column {column!r}: give a text or token ids in each "
            "row, and leave out the rows without"
        )
    return _checked_ids(ids, where, vocabulary) if ids.size else ids.astype(np.int32)


def _checked_ids(ids: np.ndarray, where: str, vocabulary: Vocabulary) -> Int32[np.ndarray, "pos"]:
    """The ids in 32 bits, which all that the vocabulary has fit into."""
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= len(vocabulary):
        raise CorpusError(
            f"{where} holds token id {low if low < 0 else high}, and the vocabulary has ids 0 to "
            f"{len(vocabulary) - 1}: tokenize with the model's own tokenizer"
        )
    return ids.astype(np.int32)


def _tensor(tokens: Any, name: str) -> torch.Tensor:
    try:
        ids = torch.as_tensor(tokens)
    except (TypeError, ValueError, RuntimeError) as error:
        raise CorpusError(
            f"{name!r} is no table of token ids: {error}; give whole numbers [prompt, pos], or "
            "prompts of unequal length to Corpus.of_prompts"
        ) from error
    if ids.ndim not in (1, 2) or not ids.numel():
        raise CorpusError(
            f"{name!r} has the shape {tuple(ids.shape)}: give token ids [prompt, pos], at least one"
        )
    if ids.dtype.is_floating_point or ids.dtype.is_complex or ids.dtype == torch.bool:
        raise CorpusError(f"{name!r} has {ids.dtype}: token ids are whole numbers")
    return ids.to(torch.int64).reshape(-1, ids.shape[-1])
