"""A recipe says how a task's examples are written; `build` makes a task from it for a tokenizer.

A template names the lists that it draws from: `"The {nouns[0]} near the {nouns[1]}"` draws two
entries of the list `nouns`. So what a tokenizer cannot write as single tokens is known before
anything is drawn, and what is held out from a model's training is a recipe with other contents.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from sae_circuits.errors import TaskError
from sae_circuits.tasks.strings import Pair, from_pairs, problem
from sae_circuits.tasks.task import Task
from sae_circuits.tasks.vocabulary import Vocabulary
from sae_circuits.tasks.words import WordLists

LEAST_TRIES = 1000
OTHERWISE = "take another task, or bring prompts of your own with Task.from_strings"

Write = Callable[[random.Random, str, WordLists], Pair]
Keep = Callable[[Vocabulary, str], bool]


def single_tokens(vocabulary: Vocabulary, entry: str) -> bool:
    """Tell whether every form of an entry is one token after a space."""
    return all(vocabulary.is_token(form) for form in entry.split())


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a task's examples are written: templates, word lists, and a function that draws one.

    Args:
        name: the task's name.
        templates: prompts with a slot `{list}` or `{list[i]}` for each word that is drawn.
        words: the lists by name.
        write: draws one example, given a random generator, a template and the lists.
        least: how many entries of a list an example needs, where that is more than one.
        keep: tells which entries of a list suit a vocabulary, where single tokens are not the rule.
    """

    name: str
    templates: tuple[str, ...]
    words: WordLists
    write: Write
    least: Mapping[str, int] = field(default_factory=dict)
    keep: Mapping[str, Keep] = field(default_factory=dict)

    def lists(self, template: str) -> tuple[str, ...]:
        """Return the names of the lists that a template draws from."""
        slots = (slot for _, slot, _, _ in string.Formatter().parse(template) if slot)
        return tuple(dict.fromkeys(n for s in slots if (n := s.split("[")[0]) in self.words))

    def pairs(self, rng: random.Random) -> Iterator[Pair]:
        """Yield examples without end."""
        while True:
            yield self.write(rng, rng.choice(self.templates), self.words)


def literal(template: str) -> str:
    """Return a template's own words, without its slots.

    >>> literal("The {nouns[0]} near the {nouns[1]} of")
    'The  near the  of'
    """
    return "".join(text for text, *_ in string.Formatter().parse(template))


def suited(recipe: Recipe, vocabulary: Vocabulary) -> Recipe:
    """Return the recipe without the words and templates that a vocabulary cannot write.

    Raises:
        TaskError: no template is left; the message says which list is short, and of how much.
    """
    keep = {name: recipe.keep.get(name, single_tokens) for name in recipe.words}
    words = {
        name: tuple(entry for entry in entries if keep[name](vocabulary, entry))
        for name, entries in recipe.words.items()
    }
    short = {name for name in words if len(words[name]) < recipe.least.get(name, 1)}
    templates = tuple(
        template
        for template in recipe.templates
        if vocabulary.knows(literal(template)) and short.isdisjoint(recipe.lists(template))
    )
    if not templates:
        raise TaskError(_nothing_left(recipe, words, short))
    return replace(recipe, templates=templates, words=words)


def _nothing_left(recipe: Recipe, words: WordLists, short: Iterable[str]) -> str:
    counts = "; ".join(
        f"the list {name!r} keeps {len(words[name])} of {len(recipe.words[name])} entries and "
        f"needs {recipe.least.get(name, 1)}"
        for name in sorted(short)
    )
    reason = counts or "every template has words that the tokenizer does not know"
    return f"task {recipe.name!r} cannot be written with this tokenizer: {reason}; {OTHERWISE}"


def distinct(pairs: Iterator[Pair], n: int) -> list[Pair]:
    """Return n examples with different clean prompts; fewer of them come several times."""
    found: dict[str, Pair] = {}
    for pair in pairs:
        found.setdefault(pair.clean, pair)
        if len(found) == n:
            break
    seen = list(found.values())
    return [seen[i % len(seen)] for i in range(n)] if seen else []


def fitting(
    recipe: Recipe, vocabulary: Vocabulary, n: int, seed: int, *, prepend_bos: bool = True
) -> list[Pair]:
    """Draw n examples that fit a tokenizer, distinct ones as far as fifty tries for each find them.

    Raises:
        TaskError: none that is drawn fits; the message says why the first does not.
    """
    drawn = islice(recipe.pairs(random.Random(seed)), max(50 * n, LEAST_TRIES))
    reasons: list[str] = []

    def fits(pair: Pair) -> bool:
        reason = problem(vocabulary, pair, prepend_bos=prepend_bos)
        if reason is not None:
            reasons.append(reason)
        return reason is None

    found = distinct(filter(fits, drawn), n)
    if not found:
        raise TaskError(
            f"task {recipe.name!r} cannot be written with this tokenizer: none of {len(reasons):,} "
            f"drawn examples fits, the first since {reasons[0]}; {OTHERWISE}"
        )
    return found


def build(recipe: Recipe, model: Any, n: int, seed: int, *, prepend_bos: bool = True) -> Task:
    """Write n examples of a recipe for a model's tokenizer.

    An example whose two prompts differ in token length, or whose answer is not one token, is drawn
    anew.

    Args:
        recipe: what to write.
        model: a model with a `.tokenizer`, or a tokenizer.
        n: how many examples; distinct ones where there are so many.
        seed: of the random draw.
        prepend_bos: whether prompts begin with the tokenizer's beginning-of-sequence token.

    Raises:
        TaskError: n is not positive, or the tokenizer cannot write the task.
        ContextError: a prompt is longer than the model's context.
    """
    if n < 1:
        raise TaskError(f"a task of {n} examples is empty: ask for at least one")
    vocabulary = Vocabulary.of(model)
    chosen = suited(recipe, vocabulary)
    pairs = fitting(chosen, vocabulary, n, seed, prepend_bos=prepend_bos)
    return from_pairs(model, vocabulary, pairs, prepend_bos=prepend_bos, name=recipe.name)
