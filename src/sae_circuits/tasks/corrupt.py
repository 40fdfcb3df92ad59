"""Corrupt prompts made from clean ones, token for token.

Each takes one text, several, or a task, and gives back the same: a corrupt text for each clean one,
or the task with other corrupt prompts and the same answers. A corrupt prompt has as many tokens as
its clean one, or there is an error that shows the two.
"""

from __future__ import annotations

import random as rng_of
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, TypeVar, cast

import torch

from sae_circuits.errors import AlignmentError, OptionError, TaskError
from sae_circuits.tasks.align import FILLER, check_pairs, pack
from sae_circuits.tasks.task import Task
from sae_circuits.tasks.vocabulary import Vocabulary
from sae_circuits.tasks.words import NAMES

Prompts = TypeVar("Prompts", str, Sequence[str], Task)
Candidates = Callable[[str], Iterable[str]]
TRIES = 200  # of random words in the place of one


def swap(
    model: Any, prompts: Prompts, words: tuple[str, str] | Sequence[tuple[str, str]] | None = None
) -> Prompts:
    """Exchange two words wherever they stand.

    Args:
        model: a model with a `.tokenizer`, or a tokenizer.
        prompts: a text, several, or a task.
        words: two words for all prompts, or two for each; of a task, by default each pair's first
            right and first wrong answer.

    Raises:
        AlignmentError: the exchange changes a prompt's number of tokens.
        TaskError: a prompt has none of the words.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> text = "When Mary and John went to the store, John gave a drink to"
        >>> sc.tasks.corrupt.swap(model, text, ("Mary", "John"))
        'When John and Mary went to the store, Mary gave a drink to'
    """
    vocabulary = Vocabulary.of(model)
    pairs = _answers(vocabulary, prompts) if words is None else _each(words, _count(prompts))
    if len(pairs) != _count(prompts):
        raise OptionError(f"there are {len(pairs)} pairs of words for {_count(prompts)} prompts")

    def change(text: str, i: int) -> str:
        first, second = pairs[i]
        others = {first: second, second: first}
        return _pattern(others).sub(lambda found: others[found[0]], text)

    return _corrupted(vocabulary, prompts, change)


def abc(model: Any, prompts: Prompts, pool: Sequence[str] = NAMES, seed: int = 0) -> Prompts:
    """Put another name of the pool for each name, no two alike: "ABC" where the prompt says "ABB".

    Args:
        model: a model with a `.tokenizer`, or a tokenizer.
        prompts: a text, several, or a task.
        pool: the names, both those to be replaced and those to replace them.
        seed: of the draw.

    Raises:
        AlignmentError: no other name of the pool has as many tokens.
        TaskError: a prompt has no name of the pool.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> text = "When Mary and John went to the store, John gave a drink to"
        >>> names = ("Mary", "John", "Tom", "James", "Anna")
        >>> sc.tasks.corrupt.abc(model, text, names)
        'When James and Tom went to the store, Anna gave a drink to'

    Reference: Wang et al., arXiv 2211.00593.
    """
    return _from_pool(model, prompts, pool, seed, each=True)


def symmetric(model: Any, prompts: Prompts, pool: Sequence[str], seed: int = 0) -> Prompts:
    """Put another word of the pool for a word, the same wherever it stands.

    Symmetric token replacement: what stands there instead is as likely a word, so that the run
    stays among those that the model knows.

    Args:
        model: a model with a `.tokenizer`, or a tokenizer.
        prompts: a text, several, or a task.
        pool: words, or groups of words, of one kind.
        seed: of the draw.

    Raises:
        AlignmentError: no other word of the pool has as many tokens.
        TaskError: a prompt has no word of the pool.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> sc.tasks.corrupt.symmetric(model, "The capital of France is", ("France", "Italy"))
        'The capital of Italy is'

    Reference: Zhang and Nanda, arXiv 2309.16042.
    """
    return _from_pool(model, prompts, pool, seed, each=False)


def random(
    model: Any, prompts: Prompts, words: Iterable[str] | None = None, seed: int = 0
) -> Prompts:
    """Put random tokens for some words, as many as there are.

    Args:
        model: a model with a `.tokenizer`, or a tokenizer.
        prompts: a text, several, or a task.
        words: which words to replace, by random words of the tokenizer's vocabulary. Of a task,
            by default whatever tokens differ between clean and corrupt prompts, by any tokens.
        seed: of the draw.

    Raises:
        AlignmentError: no random words were found that have as many tokens.
        TaskError: a prompt has none of the words.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> task = sc.tasks.facts(model, n=4)
        >>> other = sc.tasks.corrupt.random(model, task)
        >>> bool(((other.corrupt != task.clean) == (task.corrupt != task.clean)).all())
        True
    """
    vocabulary, rng = Vocabulary.of(model), rng_of.Random(seed)
    if words is None:
        if not isinstance(prompts, Task):
            raise OptionError("name the words to replace by random ones: a text does not tell")
        return _random_tokens(vocabulary, prompts, rng)
    pattern = _pattern(words)

    def candidates(word: str) -> Iterator[str]:
        size = len(vocabulary.encode(f" {word}"))
        drawn = _random_words(vocabulary, rng)
        return (" ".join(islice(drawn, size)) for _ in range(TRIES))

    def change(text: str, i: int) -> str:
        return _exchanged(vocabulary, text, pattern, candidates, each=True)

    return _corrupted(vocabulary, prompts, change)


# -- parts -----------------------------------------------------------------------------------------


def _count(prompts: Task | str | Sequence[str]) -> int:
    return 1 if isinstance(prompts, str) else len(prompts)


def _answers(vocabulary: Vocabulary, prompts: Task | str | Sequence[str]) -> list[tuple[str, str]]:
    """The first right and the first wrong answer of each pair of a task."""
    if not isinstance(prompts, Task) or not bool((prompts.wrong >= 0).any(-1).all()):
        raise OptionError("name the two words to swap: only a task with wrong answers tells them")
    ids = zip(prompts.answer[:, 0].tolist(), prompts.wrong[:, 0].tolist(), strict=True)
    return [(vocabulary.word(right), vocabulary.word(wrong)) for right, wrong in ids]


def _each(words: tuple[str, str] | Sequence[tuple[str, str]], count: int) -> list[tuple[str, str]]:
    first, *rest = words
    if isinstance(first, str):
        return [(first, str(rest[0]))] * count
    return [(str(a), str(b)) for a, b in words]


def _pattern(words: Iterable[str]) -> re.Pattern[str]:
    longest_first = sorted(words, key=len, reverse=True)
    if not longest_first:
        raise OptionError("there is no word to look for: name at least one")
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")


def _from_pool(
    model: Any, prompts: Prompts, pool: Sequence[str], seed: int, *, each: bool
) -> Prompts:
    vocabulary, rng, pattern = Vocabulary.of(model), rng_of.Random(seed), _pattern(pool)

    def change(text: str, i: int) -> str:
        return _exchanged(
            vocabulary, text, pattern, lambda _: rng.sample(pool, len(pool)), each=each
        )

    return _corrupted(vocabulary, prompts, change)


def _exchanged(
    vocabulary: Vocabulary,
    text: str,
    pattern: re.Pattern[str],
    candidates: Candidates,
    *,
    each: bool,
) -> str:
    """Put for each word the first candidate that is not used yet and keeps the number of tokens.

    Args:
        each: draw anew where a word stands again.
    """
    size, used = len(vocabulary.encode(text)), set(pattern.findall(text))
    chosen: dict[str, str] = {}
    done, last = "", 0
    for match in pattern.finditer(text):
        done, last, word = done + text[last : match.start()], match.end(), match[0]
        if each or word not in chosen:
            fresh = (other for other in candidates(word) if other not in used)
            fitting = (
                other
                for other in fresh
                if len(vocabulary.encode(done + other + text[last:])) == size
            )
            if (found := next(fitting, None)) is None:
                raise AlignmentError(
                    f"nothing can be put for {word!r} in {text!r}: no other word there is has as "
                    "many tokens; give a larger pool, or take the prompt out"
                )
            chosen[word] = found
            used.add(found)
        done += chosen[word]
    return done + text[last:]


def _corrupted(
    vocabulary: Vocabulary, prompts: Prompts, change: Callable[[str, int], str]
) -> Prompts:
    """Change every text, see that each has as many tokens as before, and give back what came."""
    task = prompts if isinstance(prompts, Task) else None
    texts = _texts(prompts)
    others = [change(text, i) for i, text in enumerate(texts)]
    for i, (text, other) in enumerate(zip(texts, others, strict=True)):
        if text == other:
            raise TaskError(f"prompt {i} has none of the words to be replaced: {text!r}")
    rows, other_rows = (
        [vocabulary.prompt(x, prepend_bos=False) for x in y] for y in (texts, others)
    )
    sizes, other_sizes = (torch.tensor([len(row) for row in y]) for y in (rows, other_rows))
    check_pairs(sizes, other_sizes, texts, others)
    if task is None:
        return cast("Prompts", others[0] if isinstance(prompts, str) else others)
    begun = (task.lengths.cpu() > sizes).tolist()  # by the beginning-of-sequence token
    tokens = [
        vocabulary.prompt(text, prepend_bos=bos) for text, bos in zip(others, begun, strict=True)
    ]
    corrupt = pack(tokens, FILLER).to(task.corrupt.device)
    check_pairs(
        task.lengths, torch.tensor([len(row) for row in tokens]).to(corrupt.device), texts, others
    )
    return replace(task, corrupt=corrupt, corrupt_text=tuple(others))


def _texts(prompts: Task | str | Sequence[str]) -> list[str]:
    if isinstance(prompts, Task):
        if not prompts.clean_text:
            raise TaskError(
                f"task {prompts.name!r} was made from tokens and has no text: give the texts"
            )
        return list(prompts.clean_text)
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    if not texts:
        raise TaskError("there is no prompt: give at least one")
    return texts


def _random_words(vocabulary: Vocabulary, rng: rng_of.Random) -> Iterator[str]:
    """Draw words that are one token after a space."""
    while True:
        word = vocabulary.word(rng.randrange(vocabulary.size))
        if word.isalpha() and vocabulary.is_token(word):
            yield word


def _random_tokens(vocabulary: Vocabulary, task: Task, rng: rng_of.Random) -> Task:
    """Put any tokens but special ones where clean and corrupt prompts differ."""
    usable = vocabulary.ordinary
    corrupt = task.corrupt.clone()
    differing = (task.clean != task.corrupt).nonzero().tolist()
    if len({row for row, _ in differing}) < len(task):
        raise TaskError(
            f"task {task.name!r} has a pair whose prompts are the same: name the words to replace"
        )
    for row, place in differing:
        now = int(task.clean[row, place])
        drawn = rng.choice(usable)
        while drawn == now:
            drawn = rng.choice(usable)
        corrupt[row, place] = drawn
    if not task.corrupt_text:
        return replace(task, corrupt=corrupt)
    texts = tuple(
        vocabulary.tokenizer.decode([i for i in ids[:size] if i != vocabulary.bos])
        for ids, size in zip(corrupt.tolist(), task.lengths.tolist(), strict=True)
    )
    return replace(task, corrupt=corrupt, corrupt_text=texts)
