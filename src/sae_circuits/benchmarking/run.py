"""`benchmark`: methods against tasks, cell by cell, each saved as it is finished."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sae_circuits.attribution import Method, attribute
from sae_circuits.attribution.run import find_method
from sae_circuits.benchmarking.files import write_files
from sae_circuits.benchmarking.folder import Folder
from sae_circuits.benchmarking.subjects import (
    PRUNERS,
    Given,
    Stage,
    Subject,
    open_models,
    subjects_of,
)
from sae_circuits.disk.atomic import ready_folder
from sae_circuits.errors import CircuitsError, OptionError
from sae_circuits.evaluation import against, agreement, curve
from sae_circuits.evaluation.benchmark import BY, Benchmark, Cell
from sae_circuits.graph import Scores
from sae_circuits.io import Record, load, save
from sae_circuits.metrics import Metric, get, logit_diff, metric_name
from sae_circuits.models.adapter import Adapter
from sae_circuits.peak import highest_bytes
from sae_circuits.progress import track
from sae_circuits.shards import Workers
from sae_circuits.sizes import Memory

EXACT = "exact"  # the method that others are compared with, where it is run too


def benchmark(
    out: str | Path,
    *,
    methods: Sequence[str | Method],
    models: Sequence[Any] = ("demo",),
    tasks: Sequence[Given] = ("ioi",),
    known: Sequence[str] = (),
    levels: Sequence[str] = ("edges",),
    seeds: int | Sequence[int] = 3,
    n: int = 64,
    eps: float = 0.05,
    metric: str | Metric = logit_diff,
    intervention: str = "corrupt",
    batch_size: int | None = None,
    memory: Memory | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    command: Sequence[str] = (),
    workers: Workers | None = None,
) -> Benchmark:
    """Run methods on tasks, and measure what they find.

    Each cell is written to the folder as it is finished, and is not made again: a run that was
    interrupted goes on where it stopped, and one with more methods, tasks or seeds adds theirs.
    At the end the folder has the tables, a page and MIB's circuit files too. Where a method is not
    defined, its cell says why.

    If `exact` is among the methods, it is run first, and those in the metric's unit are compared
    with it. CPR ranks edges by how much they help, CMD by size, as the MIB benchmark does; scores
    without a sign are ranked by size in both.

    Args:
        out: a folder of its own.
        methods: names, or methods of one's own.
        models: names that `load_model` takes, or models.
        tasks: names of `tasks.names()`; tasks; or folders, as `Path`, of which every data set is
            one (see `tasks.read_folder`).
        known: models with known circuits, of `testing.truths()`.
        levels: "edges"; "nodes", where circuits are made of whole heads and MLPs; "neurons", where
            an MLP's hidden units write apart.
        seeds: which, or how many from 0 on: of the prompts, and of the methods.
        n: prompts of each task.
        eps: of models with known circuits, how strongly other parts write to the output.
        metric, intervention, batch_size, memory: as in `attribute`, of the models' tasks and of
            the known.
        options: of methods, by name, such as `{"eap-ig": {"steps": 20}}`.
        command: for the record, how this was started.
        workers: as in `attribute`; they share the examples of each cell.

    Raises:
        UnknownName: no such method, task, level or model with a known circuit.
        OptionError: two methods, tasks or models of one name.
        OutputError: the folder holds something else, or a table that was made otherwise.

    Example:
        >>> import tempfile
        >>> import sae_circuits as sc
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     table = sc.benchmark(folder, methods=["eap", "random"], seeds=1, n=8)
        >>> table.best("cmd", table.places[0])
        'eap'
    """
    every = _first_exact([find_method(method) for method in methods])
    which = range(seeds) if isinstance(seeds, int) else seeds
    settings = {
        "n": n,
        "eps": eps,
        "metric": metric_name(get(metric)),
        "intervention": intervention,
        "options": {name: dict(given) for name, given in (options or {}).items()},
    }
    subjects = subjects_of(open_models(models), tasks, known, levels, n=n, eps=eps)
    for name in options or {}:
        if name not in {method.name for method in every}:
            raise OptionError(f"options of {name!r}, which is not among the methods")
    for method in every:
        method.require(intervention, dict((options or {}).get(method.name, {})))
    folder = Folder(ready_folder(out))
    folder.begin(Record.start(command or ["benchmark"], settings))
    how = {
        "metric": get(metric),
        "intervention": intervention,
        "batch_size": batch_size,
        "memory": memory,
        "workers": workers,
    }
    cells: list[Cell] = []
    columns = [(subject, seed) for subject in subjects for seed in which]
    for subject, seed in track(columns, description="benchmark"):
        column = Column(subject, seed, folder, how, options or {})
        cells += column.cells(every)
    order = {subject.place: i for i, subject in enumerate(subjects)}
    cells.sort(key=lambda cell: order[cell.model, cell.task, cell.level])
    found = Benchmark(tuple(cells))
    write_files(found, folder, folder.end())
    return found


@dataclass(frozen=True)
class Column:
    """A subject for one seed: what all methods are run on, set up when the first one needs it."""

    subject: Subject
    seed: int
    folder: Folder
    how: Mapping[str, Any]
    options: Mapping[str, Mapping[str, Any]]

    def cells(self, methods: Sequence[Method]) -> list[Cell]:
        """What each method does, as it was found before or made now."""
        stage: Stage | None = None
        found: list[Cell] = []
        for method in methods:
            path = self.folder.of(self.subject.place, method.name, self.seed) / "cell.json"
            if not path.exists():
                stage = stage or self.subject.set_up(self.seed)
                ready_folder(path.parent)
                save(self.fill(stage, method, path.parent), path)
            found.append(load(path, Cell))
        return found

    def fill(self, stage: Stage, method: Method, folder: Path) -> Cell:
        """Score, and measure the scores; a method that refuses gives a cell that says why."""
        subject = self.subject
        cell = Cell(subject.model, subject.task, subject.level, method.name, self.seed)
        asked = {"seed": self.seed, **self.how, **self.options.get(method.name, {})}
        start = time.perf_counter()
        try:
            peak, scores = highest_bytes(
                lambda: attribute(stage.model, stage.graph, stage.task, method=method, **asked),
                Adapter.of(stage.model).device,
            )
        except CircuitsError as error:
            return replace(cell, refused=str(error))
        measures = {"seconds": time.perf_counter() - start, "peak_mb": peak / 2**20}
        save(scores, folder / "scores.safetensors")
        # What has no sign cannot say which edges help: its largest come first in both curves.
        ranks = {by: by if method.in_metric_unit else "abs" for by in BY.values()}
        curves = {by: self.curve(stage, scores, rank) for by, rank in ranks.items()}
        measures |= {"cpr": curves["help"].cpr, "cmd": curves["abs"].cmd}
        measures |= self.compared(stage, method, scores)
        return replace(cell, measures=measures, n_edges=stage.graph.n_edges, curves=curves)

    def curve(self, stage: Stage, scores: Scores, by: str) -> Any:
        """Faithfulness over circuit sizes; random circuits are a method of their own."""
        asked = {**self.how, "seed": self.seed, "pruner": PRUNERS[self.subject.level]}
        return curve(stage.model, scores, stage.task, by=by, n_random=0, **asked)

    def compared(self, stage: Stage, method: Method, scores: Scores) -> dict[str, float]:
        """With the true circuit, where it is known, and with exact patching, where that was run.

        What is no effect in the metric's unit is not compared with patching's effects.
        """
        found: dict[str, float] = {}
        if stage.circuit is not None:
            close = against(scores, stage.circuit)
            found |= {"auroc": close.auroc, "auprc": close.auprc}
        exact = self.folder.of(self.subject.place, EXACT, self.seed) / "scores.safetensors"
        if exact.exists() and method.in_metric_unit:
            like = agreement(scores, load(exact, Scores))
            found |= {"pearson": like.pearson, "spearman": like.spearman, "sign": like.sign}
        return found


def _first_exact(methods: Sequence[Method]) -> list[Method]:
    """The methods, with `exact` before those that are compared with it.

    Raises:
        OptionError: none, or two of one name.
    """
    names = [method.name for method in methods]
    if not names or len(set(names)) < len(names):
        raise OptionError(f"methods {', '.join(names) or 'none'}: give some, each once")
    return sorted(methods, key=lambda method: method.name != EXACT)
