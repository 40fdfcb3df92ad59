"""A task from any list of pairs: four texts each, or keys and values with a template."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sae_circuits.errors import TaskError
from sae_circuits.tasks.keyed import keyed
from sae_circuits.tasks.recipes import build, suited
from sae_circuits.tasks.strings import Pair, from_pairs, problem, summary, warn_left_out
from sae_circuits.tasks.task import Task
from sae_circuits.tasks.vocabulary import Vocabulary


def pairs(
    model: Any,
    of: Iterable[Sequence[Any]] | Mapping[str, str],
    template: str | Sequence[str] | None = None,
    *,
    n: int | None = None,
    seed: int = 0,
    prepend_bos: bool = True,
    name: str = "pairs",
) -> Task:
    """Make a task from a list of pairs, without those that do not fit the tokenizer.

    With a template, `of` holds keys and values. Each example asks for a key's value, and its
    corrupt prompt has another key with another value and as many tokens: symmetric token
    replacement. Without a template, `of` holds (clean, corrupt, answer, wrong), answers as in
    `Task.from_strings`.

    Args:
        model: a model with a `.tokenizer`, or a tokenizer.
        of: (key, value) pairs or a mapping; or (clean, corrupt, answer, wrong), wrong optional.
        template: a prompt, or several, with `{}` where the key stands.
        n: how many examples; by default as many as there are pairs.
        seed: of the random draw, with a template.
        prepend_bos: whether prompts begin with the tokenizer's beginning-of-sequence token.
        name: what the task is called.

    Raises:
        TaskError: too few pairs fit the tokenizer, with how many; a template without `{}`.

    Warns:
        PairsLeftOut: says which pairs were left out, and why.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> capitals = {"France": "Paris", "Italy": "Rome", "Japan": "Tokyo"}
        >>> task = sc.tasks.pairs(model, capitals, "The capital of {} is")
        >>> task.clean_text[0], task.corrupt_text[0]
        ('The capital of Italy is', 'The capital of France is')

    Reference: Zhang and Nanda, arXiv 2309.16042.
    """
    given = list(of.items() if isinstance(of, Mapping) else of)
    if not given:
        raise TaskError(f"task {name!r} is empty: give at least one pair")
    if template is None:
        return _written(model, given, n, prepend_bos, name)
    templates = [template] if isinstance(template, str) else list(template)
    facts = [_fact(row) for row in given]
    recipe = keyed(name, [_slotted(each) for each in templates], facts)
    kept = suited(recipe, Vocabulary.of(model)).words["keys"]
    left = {
        repr(fact): "its value is not one token, or its key is not known"
        for fact in facts
        if fact not in kept
    }
    warn_left_out(f"task {name!r}", left, len(facts), callers=1)
    return build(recipe, model, len(given) if n is None else n, seed, prepend_bos=prepend_bos)


def _fact(row: Sequence[Any]) -> str:
    if len(row) != 2 or not all(isinstance(part, str) and part.strip() for part in row):
        raise TaskError(f"{row!r} is no pair of a key and a value: give two texts with a template")
    return f"{row[0].strip()}: {row[1].strip()}"


def _slotted(template: str) -> str:
    parts = template.split("{}")
    if len(parts) < 2:
        raise TaskError(f"the template {template!r} has no {{}} where the key stands")
    return "{keys}".join(part.replace("{", "{{").replace("}", "}}") for part in parts)


def _written(
    model: Any, rows: Sequence[Sequence[Any]], n: int | None, prepend_bos: bool, name: str
) -> Task:
    found = [_pair(row) for row in rows]
    vocabulary = Vocabulary.of(model)
    vocabulary.learn(text for pair in found for text in (pair.clean, pair.corrupt))
    reasons = [problem(vocabulary, pair, prepend_bos=prepend_bos) for pair in found]
    left = {f"pair {i}": reason for i, reason in enumerate(reasons) if reason is not None}
    kept = [pair for pair, reason in zip(found, reasons, strict=True) if reason is None]
    if len(kept) < (1 if n is None else n):
        raise TaskError(
            f"task {name!r}: {len(kept)} of {len(rows)} pairs fit this tokenizer, and "
            f"{'one is needed' if n is None else f'{n} are asked for'}: {summary(left)}"
        )
    warn_left_out(f"task {name!r}", left, len(rows), callers=2)
    return from_pairs(model, vocabulary, kept[:n], prepend_bos=prepend_bos, name=name)


def _pair(row: Sequence[Any]) -> Pair:
    if len(row) not in (3, 4) or not all(isinstance(text, str) for text in row[:2]):
        raise TaskError(
            f"{row!r} is not (clean, corrupt, answer, wrong): give four texts, or a template with "
            "keys and values"
        )
    answers = ((each,) if isinstance(each, str | int) else tuple(each or ()) for each in row[2:])
    return Pair(row[0], row[1], *answers)
