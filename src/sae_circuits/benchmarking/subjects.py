"""What methods are compared on: a model with a task, at a level, for a seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sae_circuits.errors import OptionError, unknown
from sae_circuits.graph import Circuit, Scores, TensorGraph
from sae_circuits.models import load_model
from sae_circuits.models.adapter import Adapter
from sae_circuits.prune import top_n, top_nodes
from sae_circuits.tasks import Task, make, names, read_folder
from sae_circuits.testing import truth, truths

LEVELS = ("edges", "nodes", "neurons")
KNOWN = "known"  # the model's name in the table, for models with a known circuit


@dataclass(frozen=True, eq=False)
class Stage:
    """A subject that has been set up.

    Args:
        graph: whose edges are scored.
        circuit: the true one, where it is known.
    """

    model: Any
    graph: TensorGraph
    task: Task
    circuit: Circuit | None = None


@dataclass(frozen=True, eq=False)
class Subject:
    """A model with a task, at a level.

    Args:
        model: its name in the table.
        task: its name in the table.
        set_up: makes what methods run on, from a seed.
    """

    model: str
    task: str
    level: str
    set_up: Callable[[int], Stage]

    @property
    def place(self) -> tuple[str, str, str]:
        """Its column in the table."""
        return self.model, self.task, self.level


Given = str | Path | Task  # a bundled task, a folder of data sets, or a task


def subjects_of(
    models: Mapping[str, Any],
    tasks: Sequence[Given],
    known: Sequence[str],
    levels: Sequence[str],
    *,
    n: int,
    eps: float,
) -> list[Subject]:
    """Every subject, those with known circuits last.

    Raises:
        UnknownName: no such task, level or model with a known circuit.
        OptionError: two tasks of one name.
        FileFormatError, TaskError: see `tasks.read_folder`.
    """
    for level in levels:
        _require("level", level, LEVELS)
    for name in known:
        _require("model with a known circuit", name, truths())
    for task in tasks:
        if isinstance(task, str):
            _require("task", task, names())
    found: list[Subject] = []
    for name, model in models.items():
        for title, draw in _draws(model, tasks, n).items():
            found += [Subject(name, title, at, _trained(model, draw, at)) for at in levels]
    return found + [Subject(KNOWN, name, "edges", _built(name, n, eps)) for name in known]


def _require(kind: str, name: str, there: Sequence[str]) -> None:
    if name not in there:
        raise unknown(kind, name, there)


def _draws(model: Any, tasks: Sequence[Given], n: int) -> dict[str, Callable[[int], Task]]:
    """For each task, by its name, what makes its prompts from a seed."""
    pairs: list[tuple[str, Callable[[int], Task]]] = []
    for task in tasks:
        if isinstance(task, str):
            pairs.append((task, lambda seed, task=task: make(task, model, n, seed)))
        elif isinstance(task, Path):
            every = read_folder(model, task, skip=True)
            pairs += [(name, partial(_some, each, n)) for name, each in every.items()]
        else:
            pairs.append((task.name, lambda seed, task=task: task))
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise OptionError(f"tasks {', '.join(names)}: give each a name of its own")
    return dict(pairs)


def _some(task: Task, n: int, seed: int) -> Task:
    """n prompts of a task, drawn by a seed; all where it has no more."""
    order = torch.randperm(len(task), generator=torch.Generator().manual_seed(seed))
    return task[order[:n].tolist()]


def open_models(models: Sequence[Any]) -> dict[str, Any]:
    """The models by their names, those given by name loaded.

    Raises:
        OptionError: two models of one name.
    """
    loaded = [load_model(model) if isinstance(model, str) else model for model in models]
    titles = [Adapter.of(model).architecture.model for model in loaded]
    if len(set(titles)) < len(titles):
        raise OptionError(f"models {', '.join(titles)}: two have one name")
    return dict(zip(titles, loaded, strict=True))


def _trained(model: Any, draw: Callable[[int], Task], level: str) -> Callable[[int], Stage]:
    def set_up(seed: int) -> Stage:
        graph = TensorGraph.from_model(model, neurons="mlp" if level == "neurons" else ())
        return Stage(model, graph, draw(seed))

    return set_up


def _built(name: str, n: int, eps: float) -> Callable[[int], Stage]:
    def set_up(seed: int) -> Stage:
        known = truth(name, n=n, eps=eps, seed=seed)
        return Stage(known.model, known.graph, known.task, known.circuit)

    return set_up


def whole_nodes(scores: Scores, n: int, *, by: str = "abs") -> Circuit:
    """Keep the first heads and MLPs with all edges between them, at most n edges in all.

    The sum of its edges' scores ranks a node; see `prune.top_nodes`.
    """
    low, high = 0, scores.graph.n_src - 1
    while low < high:  # circuits of more nodes have more edges
        middle = (low + high + 1) // 2
        low, high = (
            (middle, high) if len(top_nodes(scores, middle, by=by)) <= n else (low, middle - 1)
        )
    found = top_nodes(scores, low, by=by)
    return found if len(found) <= n else Circuit.empty(scores.graph)


PRUNERS: Mapping[str, Callable[..., Circuit]] = {
    "edges": top_n,
    "nodes": whole_nodes,
    "neurons": top_n,
}
