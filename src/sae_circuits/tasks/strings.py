"""A task from two lists of prompts, with answers as words."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from sae_circuits.errors import PairsLeftOut, TaskError, in_words
from sae_circuits.tasks.align import FILLER, NO_ANSWER, check_pairs, pack
from sae_circuits.tasks.task import Task
from sae_circuits.tasks.vocabulary import Vocabulary

Answer = str | int
"""A word that follows a prompt letter by letter, or a token id."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One example in words."""

    clean: str
    corrupt: str
    answer: tuple[Answer, ...]
    wrong: tuple[Answer, ...] = ()


def from_strings(
    model: Any,
    clean: Sequence[str],
    corrupt: Sequence[str],
    *,
    answer: Sequence[Answer | Sequence[Answer]],
    wrong: Sequence[Answer | Sequence[Answer]] | None = None,
    prepend_bos: bool = True,
    name: str = "strings",
) -> Task:
    """Make a task from two lists of prompts.

    Args:
        model: a model with a `.tokenizer`, or a tokenizer.
        clean, corrupt: the prompts; the two of a pair have equally many tokens.
        answer: for each pair, one word or several. A word is what follows the prompt letter by
            letter, so it has a space in front where the text needs one; between two letters the
            space is put in. Each is one token. A number is a token id.
        wrong: the same for wrong answers.
        prepend_bos: whether prompts begin with the tokenizer's beginning-of-sequence token, if it
            has one.
        name: what the task is called.

    Raises:
        AlignmentError: the prompts of a pair differ in token length; the message shows them.
        ContextError: a prompt is longer than the model's context.
        TaskError: lists of unequal length, no prompts, an answer that is not one token, or a word
            that the tokenizer does not know.
    """
    return _assembled(
        model,
        Vocabulary.of(model),
        clean,
        corrupt,
        answer=answer,
        wrong=wrong,
        prepend_bos=prepend_bos,
        name=name,
    )


def _assembled(
    model: Any,
    vocabulary: Vocabulary,
    clean: Sequence[str],
    corrupt: Sequence[str],
    *,
    answer: Sequence[Answer | Sequence[Answer]],
    wrong: Sequence[Answer | Sequence[Answer]] | None,
    prepend_bos: bool,
    name: str,
) -> Task:
    columns = {"corrupt": corrupt, "answer": answer} | ({} if wrong is None else {"wrong": wrong})
    for what, column in {"clean": clean, **columns}.items():
        _check_list(what, column)
        if len(column) != len(clean):
            raise TaskError(f"{what} has {len(column)} entries, and clean has {len(clean)}")
    if not clean:
        raise TaskError(f"task {name!r} is empty: it needs at least one pair of prompts")
    vocabulary.learn([*clean, *corrupt])
    rows, others = (
        [vocabulary.prompt(text, prepend_bos=prepend_bos) for text in prompts]
        for prompts in (clean, corrupt)
    )
    lengths, other_lengths = (torch.tensor([len(row) for row in side]) for side in (rows, others))
    check_pairs(lengths, other_lengths, clean, corrupt)
    task = Task.from_tokens(
        pack(rows, FILLER),
        pack(others, FILLER),
        answer=_answers(vocabulary, clean, answer),
        wrong=None if wrong is None else _answers(vocabulary, clean, wrong),
        mask=torch.arange(int(lengths.max())) < lengths[:, None],
        name=name,
    )
    task.check_fits(context=getattr(getattr(model, "cfg", None), "n_ctx", None))
    return replace(task, clean_text=tuple(clean), corrupt_text=tuple(corrupt))


def _check_list(what: str, column: object) -> None:
    """Refuse one text where a list is wanted, and prompts that are no texts."""
    if isinstance(column, str) or not isinstance(column, Sequence):
        raise TaskError(f"{what} is {in_words(column)}: give a list, with one entry for each pair")
    texts = (str,) if what in ("clean", "corrupt") else (str, int, Sequence)
    for i, entry in enumerate(column):
        if not isinstance(entry, texts):
            raise TaskError(f"{what} of pair {i} is {in_words(entry)}: give a text")


def from_pairs(
    model: Any,
    vocabulary: Vocabulary,
    pairs: Sequence[Pair],
    *,
    prepend_bos: bool = True,
    name: str = "pairs",
) -> Task:
    """Make a task from examples in words.

    Args:
        model: whose context the prompts have to fit, if it has one.
        vocabulary: its tokenizer's, which may have seen the prompts before.
        pairs: the examples.
        prepend_bos, name: see `from_strings`.

    Raises:
        AlignmentError, ContextError, TaskError: see `from_strings`.
    """
    has_wrong = any(pair.wrong for pair in pairs)
    return _assembled(
        model,
        vocabulary,
        [pair.clean for pair in pairs],
        [pair.corrupt for pair in pairs],
        answer=[pair.answer for pair in pairs],
        wrong=[pair.wrong for pair in pairs] if has_wrong else None,
        prepend_bos=prepend_bos,
        name=name,
    )


def problem(vocabulary: Vocabulary, pair: Pair, *, prepend_bos: bool = True) -> str | None:
    """Say why a pair makes no example for a tokenizer, or None where it does."""
    try:
        size, other = (
            len(vocabulary.prompt(text, prepend_bos=prepend_bos))
            for text in (pair.clean, pair.corrupt)
        )
        right, wrong = (
            {answer_id(vocabulary, pair.clean, word) for word in words}
            for words in (pair.answer, pair.wrong)
        )
    except TaskError as error:
        return str(error)
    if size != other:
        return f"the clean prompt has {size} tokens and the corrupt prompt {other}"
    if pair.clean == pair.corrupt:
        return f"the clean and the corrupt prompt are the same, {pair.clean!r}"
    if not right:
        return "there is no answer"
    if right & wrong:
        return f"the answers {pair.answer} and the wrong ones {pair.wrong} have a token in common"
    return None


def summary(problems: Mapping[str, str], shown: int = 5) -> str:
    """List what is the matter with which pairs, the first ones in full.

    >>> summary({"line 2": "no answer", "line 4": "no answer", "line 7": "too long"}, shown=2)
    'line 2: no answer; line 4: no answer; and 1 more'
    """
    first = [f"{where}: {what}" for where, what in list(problems.items())[:shown]]
    rest = [f"and {len(problems) - shown:,} more"] if len(problems) > shown else []
    return "; ".join([*first, *rest])


def warn_left_out(source: str, problems: Mapping[str, str], total: int, *, callers: int) -> None:
    """Warn of pairs that are left out, as was asked.

    Args:
        source: what holds the pairs.
        problems: where each of those stands, and what is the matter with it.
        total: how many pairs there are.
        callers: how many functions of ours lie between here and the user.
    """
    if problems:
        said = f"{source}: left out {len(problems):,} of {total:,} pairs: {summary(problems)}"
        warnings.warn(said, PairsLeftOut, stacklevel=callers + 2)


def _answers(
    vocabulary: Vocabulary, prompts: Sequence[str], answers: Sequence[Answer | Sequence[Answer]]
) -> torch.Tensor:
    rows: Iterable[Sequence[Answer]] = (
        [each] if isinstance(each, str | int) else each for each in answers
    )
    tokens = [
        [answer_id(vocabulary, prompt, word) for word in row]
        for prompt, row in zip(prompts, rows, strict=True)
    ]
    return pack(tokens, NO_ANSWER)


def answer_id(vocabulary: Vocabulary, prompt: str, word: Answer) -> int:
    """Return the token that an answer is after a prompt.

    Raises:
        TaskError: it is no token, or not one.
    """
    if isinstance(word, int):
        if not 0 <= word < vocabulary.size:
            raise TaskError(
                f"the answer {word} is no token id: this tokenizer has 0 to {vocabulary.size - 1}"
            )
        return word
    token = _token(vocabulary, prompt, word)
    if token is None:
        raise TaskError(
            f"the answer {word!r} is not one token after {prompt!r}: take a word that the "
            "tokenizer keeps whole, with the space before it in the answer, not in the prompt"
        )
    return token


def answer_word(vocabulary: Vocabulary, prompt: str, token: int) -> str:
    """Return the word that is a token after a prompt, such as " Mary": the inverse of `answer_id`.

    Raises:
        TaskError: no word is.
    """
    word = vocabulary.word(token)
    for said in (f" {word}", word, vocabulary.tokenizer.decode([token])):
        if said and _token(vocabulary, prompt, said) == token:
            return said
    raise TaskError(
        f"the answer {word!r} (token {token}) is no word that can follow {prompt!r}: "
        "take the layout 'eap-ig', which writes token ids"
    )


def _token(vocabulary: Vocabulary, prompt: str, word: str) -> int | None:
    # "gave a drink to" + "Mary" would go on as "toMary", which some tokenizers write as two
    # tokens, the second of them another "Mary" than the one that follows a space.
    joined = f" {word}" if prompt[-1:].isalpha() and word[:1].isalpha() else word
    token = vocabulary.following(prompt, joined)
    if token is None and joined.isdigit():
        # A tokenizer may have a token for 1280, and then "12" and "80" make one. A model that has
        # read "12" still goes on with "80", as it stands after a sign.
        token = vocabulary.following("-", joined)
    return token
