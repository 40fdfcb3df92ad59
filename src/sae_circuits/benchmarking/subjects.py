"""What methods are compared on: a model with a task, at a level, for a seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sae_circuits.errors import OptionError, unknown
from sae_circuits.graph import Circuit, Scores, TensorGraph
from sae_circuits.models import load_model
from sae_circuits.models.adapter import Adapter
from sae_circuits.prune import top_n, top_nodes
from sae_circuits.tasks import Task, make, names
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


def subjects_of(
    models: Mapping[str, Any],
    tasks: Sequence[str | Task],
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
    """
    for level in levels:
        if level not in LEVELS:
            raise unknown("level", level, LEVELS)
    for name in known:
        if name not in truths():
            raise unknown("model with a known circuit", name, truths())
    for task in tasks:
        if isinstance(task, str) and task not in names():
            raise unknown("task", task, names())
    titles = [task if isinstance(task, str) else task.name for task in tasks]
    if len(set(titles)) < len(titles):
        raise OptionError(f"tasks {', '.join(titles)}: give each a name of its own")
    found = [
        Subject(name, title, level, _trained(model, task, level, n))
        for name, model in models.items()
        for title, task in zip(titles, tasks, strict=True)
        for level in levels
    ]
    return found + [Subject(KNOWN, name, "edges", _built(name, n, eps)) for name in known]


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


def _trained(model: Any, task: str | Task, level: str, n: int) -> Callable[[int], Stage]:
    def set_up(seed: int) -> Stage:
        neurons = {"neurons": "mlp"} if level == "neurons" else {}
        graph = TensorGraph.from_model(model, **neurons)
        return Stage(model, graph, task if isinstance(task, Task) else make(task, model, n, seed))

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
            (middle, high)
            if len(top_nodes(scores, middle, by=by)) <= n
            else (low, middle - 1)
        )
    found = top_nodes(scores, low, by=by)
    return found if len(found) <= n else Circuit.empty(scores.graph)


PRUNERS = {"edges": top_n, "nodes": whole_nodes, "neurons": top_n}
