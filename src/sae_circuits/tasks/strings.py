"""A task from two lists of prompts, with answers as words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from sae_circuits.errors import TaskError
from sae_circuits.tasks.align import FILLER, NO_ANSWER, check_pairs, pack
from sae_circuits.tasks.task import Task
from sae_circuits.tasks.vocabulary import Vocabulary


def from_strings(
    model: Any,
    clean: Sequence[str],
    corrupt: Sequence[str],
    *,
    answer: Sequence[str | Sequence[str]],
    wrong: Sequence[str | Sequence[str]] | None = None,
    prepend_bos: bool = True,
    name: str = "strings",
) -> Task:
    """Make a task from two lists of prompts.

    Args:
        model: a model with a `.tokenizer`, or a tokenizer.
        clean, corrupt: the prompts; the two of a pair have equally many tokens.
        answer: for each pair, one word or several. A word is what follows the prompt letter by
            letter, so it has a space in front where the text needs one; between two letters the
            space is put in. Each is one token.
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
    columns = {"corrupt": corrupt, "answer": answer} | ({} if wrong is None else {"wrong": wrong})
    for what, column in columns.items():
        if len(column) != len(clean):
            raise TaskError(f"{what} has {len(column)} entries, and clean has {len(clean)}")
    if not clean:
        raise TaskError(f"task {name!r} is empty: it needs at least one pair of prompts")
    vocabulary = Vocabulary.of(model)
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


def _answers(
    vocabulary: Vocabulary, prompts: Sequence[str], answers: Sequence[str | Sequence[str]]
) -> torch.Tensor:
    rows = [[each] if isinstance(each, str) else each for each in answers]
    tokens = [
        [_answer(vocabulary, prompt, word) for word in row]
        for prompt, row in zip(prompts, rows, strict=True)
    ]
    return pack(tokens, NO_ANSWER)


def _answer(vocabulary: Vocabulary, prompt: str, word: str) -> int:
    # "gave a drink to" + "Mary" would go on as "toMary", which some tokenizers write as two
    # tokens, the second of them another "Mary" than the one that follows a space.
    joined = f" {word}" if prompt[-1:].isalpha() and word[:1].isalpha() else word
    token = vocabulary.following(prompt, joined)
    if token is None and joined.isdigit():
        # A tokenizer may have a token for 1280, and then "12" and "80" make one. A model that has
        # read "12" still goes on with "80", as it stands after a sign.
        token = vocabulary.following("-", joined)
    if token is None:
        raise TaskError(
            f"the answer {word!r} is not one token after {prompt!r}: take a word that the "
            "tokenizer keeps whole, with the space before it in the answer, not in the prompt"
        )
    return token
