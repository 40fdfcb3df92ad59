"""The main job in stages, each saved as it finishes and taken up again by a later run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_circuits.cli import names
from sae_circuits.cli.dictionaries import Dictionaries
from sae_circuits.cli.folder import RunFolder, command_line, content_hash, stamp
from sae_circuits.cli.options import check_memory, check_names, open_model, open_task, place_of
from sae_circuits.errors import GraphError, OptionError, unknown
from sae_circuits.graph import Circuit, Scores, TensorGraph
from sae_circuits.io import Record

if TYPE_CHECKING:
    from sae_circuits.evaluation import Report
    from sae_circuits.shards import Workers
    from sae_circuits.tasks import Task

NEURONS: dict[str | None, bool | str] = {
    None: False, "mlp": "mlp", "heads": "heads", "all": True,
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """All that decides what comes out of a run; how it is batched does not."""

    model: str = "demo"
    task: str = "ioi"
    task_file: Path | None = None
    skip: bool = False
    method: str = "eap-ig"
    steps: int = 5
    metric: str = "logit_diff"
    intervention: str = "corrupt"
    edges: int = 200
    pruner: str = "top-n"
    by: str = "abs"
    neurons: str | None = None
    saes: Dictionaries = field(default_factory=Dictionaries)
    features: int = 200
    through: bool = False
    n: int = 64
    seed: int = 0
    device: str | None = None
    dtype: str = "float32"
    curve: bool = True

    def check(self) -> None:
        """Refuse what can be seen to be wrong before a model is loaded.

        Raises:
            UnknownName: with the nearest names.
            FileFormatError: there is no such task file.
            OptionError: the method is not defined for the intervention, or cannot choose
                features; or dictionaries that cannot be loaded, or that are missing.
        """
        from sae_circuits.attribution.methods import METHODS

        check_names(
            task=self.task,
            task_file=self.task_file,
            metric=self.metric,
            intervention=self.intervention,
            dtype=self.dtype,
        )
        for kind, value, known in (
            ("method", self.method, tuple(METHODS)),
            ("pruner", self.pruner, names.PRUNERS),
            ("order", self.by, names.ORDERS),
            *(
                [("kind of neuron", self.neurons, tuple(filter(None, NEURONS)))]
                * bool(self.neurons)
            ),
        ):
            if value not in known:
                raise unknown(kind, value, known)
        METHODS[self.method].require(self.intervention, self.options())
        self.saes.check()
        if self.through and self.saes.source is None:
            raise OptionError("--through says how features read: give dictionaries with --sae")
        if self.chooses and "nodes" not in METHODS[self.method].levels:
            raise OptionError(
                f"--method {self.method} scores edges only and cannot choose features: give "
                "--features 0 to keep all, or another method"
            )

    @property
    def chooses(self) -> bool:
        """Whether some of many features are chosen first."""
        parted = self.saes.source is not None or self.neurons is not None
        return parted and self.features > 0

    def said(self) -> dict[str, Any]:
        """The settings for the record, with the content of the files that they name."""
        content = asdict(self)
        del content["saes"], content["features"], content["through"]
        if self.neurons is None:
            del content["neurons"]
        else:
            content |= {"features": self.features}
        if self.saes.source is not None:
            own = {"features": self.features, "through": self.through}
            content |= {**self.saes.said(), **own}
        if self.task_file is None:
            del content["skip"]
        else:
            digest = content_hash(self.task_file)
            content |= {"task": None, "task_file": self.task_file.name, "task_file_sha256": digest}
        if (folder := Path(self.model)).is_dir():
            content["model_files"] = stamp(folder)
        return content

    def require_edges(self, graph: TensorGraph) -> None:
        """Refuse to keep more edges than there are.

        Raises:
            GraphError: with how many there are.
        """
        if self.edges > graph.n_edges:
            raise GraphError(
                f"{self.edges:,} edges are asked for, and {self.model!r} has {graph.n_edges:,}"
                + (f" with {self.features:,} features or neurons" if self.chooses else "")
            )

    def options(self) -> dict[str, Any]:
        """The options of the method, of those that it has."""
        from sae_circuits.attribution.methods import METHODS

        return {"steps": self.steps} if "steps" in METHODS[self.method].options else {}


def run(
    settings: Settings,
    out: Path,
    arguments: Sequence[str],
    *,
    batch_size: int | None = None,
    memory: str | None = None,
    overwrite: bool = False,
    workers: Workers | None = None,
) -> Report:
    """Find, test and draw a circuit; every file is written whole, in the order of the stages.

    Raises:
        CircuitsError: of any kind; what can be checked is checked before the model runs.
    """
    from sae_circuits.evaluation import Report
    from sae_circuits.explorer.folder import write_pictures

    settings.check()
    check_memory(memory)
    record = Record.start(command_line(arguments), settings.said())
    folder = RunFolder(out, record, overwrite)
    folder.check()
    model = open_model(settings.model, settings.device, settings.dtype)
    saes = settings.saes.load(place_of(model))
    graph = TensorGraph.from_model(
        model, saes=saes, neurons=NEURONS[settings.neurons], through=settings.through
    )
    settings.require_edges(graph)
    task = open_task(
        model, settings.task, settings.task_file, settings.n, settings.seed, skip=settings.skip
    )
    task.check(model, settings.metric, batch_size=batch_size, memory=memory)
    folder.begin()
    job = Job(settings, model, graph, task, folder, batch_size, memory, workers)
    scores = folder.stage("scores.safetensors", Scores, job.scores)
    scores = scores.with_saes(saes) if saes else scores
    circuit = folder.stage("circuit.json", Circuit, lambda: job.circuit(scores))
    circuit = circuit.with_saes(saes) if saes else circuit
    report = folder.stage("report.json", Report, lambda: job.report(scores, circuit))
    write_pictures(report, folder.path, record=folder.record, task=task)
    folder.finish()
    return report


def summary(report: Report, out: Path) -> str:
    """The key figures, and where the picture and the page are."""
    from sae_circuits.explorer.folder import EXPLORER
    from sae_circuits.viz.report_page import verdict

    lines = [verdict(report)]
    if report.of.graph.has_errors:
        n_features = sum(len(b) for b in report.of.graph.writers if b.is_narrow)
        kinds = {b.kind for b in report.of.graph.writers if b.is_narrow}
        lines.append(
            f"{' and '.join(f'{kind}s' for kind in sorted(kinds)).capitalize()}: "
            f"{sum(node.kind in kinds for node in report.of.nodes):,} of "
            f"{n_features:,} are in; faithfulness {report.faithfulness:.3f}, "
            f"{report.faithfulness_errors_removed:.3f} without error nodes, "
            f"{report.faithfulness_errors_kept:.3f} with all of their edges."
        )
    if (curve := report.curve) is not None:
        lines.append(
            f"Over circuit sizes: CPR {curve.cpr:.3f} (random {curve.random_cpr:.3f}), "
            f"CMD {curve.cmd:.3f} (random {curve.random_cmd:.3f})."
        )
    picture = next(p for p in (out / "circuit.svg", out / "circuit.html") if p.exists())
    files = {"Picture": picture, "Explore": out / EXPLORER, "Report": out / "report.html"}
    return "\n".join([*lines, *(f"{name + ':':<9}{path}" for name, path in files.items())])


@dataclass(frozen=True)
class Job:
    """A model and a task with the settings: one method a stage."""

    settings: Settings
    model: Any
    graph: TensorGraph
    task: Task
    folder: RunFolder
    batch_size: int | None
    memory: str | None
    workers: Workers | None

    def scores(self) -> Scores:
        """Score every edge, of a graph with dictionaries those between its strongest features."""
        from sae_circuits.attribution import attribute, attribute_nodes

        settings, graph = self.settings, self.graph
        how = {**self._how("scores"), "method": settings.method, **settings.options()}
        if settings.chooses:
            of_nodes = {**how, "folder": self.folder.shards("scores") / "nodes"}
            nodes = attribute_nodes(self.model, graph, self.task, **of_nodes)
            how["folder"] = self.folder.shards("scores") / "edges"
            graph = graph.restrict(nodes.features(settings.features))
            settings.require_edges(graph)
        return attribute(self.model, graph, self.task, **how)

    def circuit(self, scores: Scores) -> Circuit:
        """Keep the edges asked for."""
        return self._pruner()(scores, self.settings.edges, by=self.settings.by)

    def report(self, scores: Scores, circuit: Circuit) -> Report:
        """Test the circuit, and draw the curve unless that is left out."""
        from sae_circuits.evaluation import Curve, evaluate

        report = evaluate(self.model, circuit, self.task, **self._how("report"))
        if not self.settings.curve:
            return report
        return report.with_curve(self.folder.stage("curve.json", Curve, lambda: self.curve(scores)))

    def curve(self, scores: Scores) -> Any:
        """Faithfulness over circuit sizes."""
        from sae_circuits.evaluation import curve

        return curve(
            self.model,
            scores,
            self.task,
            by=self.settings.by,
            pruner=self._pruner(),
            random=("size", "degrees"),
            **self._how("curve"),
        )

    def _pruner(self) -> Callable[..., Circuit]:
        from sae_circuits import prune

        return {"top-n": prune.top_n, "best-first": prune.best_first}[self.settings.pruner]

    def _how(self, stage: str) -> dict[str, Any]:
        from sae_circuits import metrics

        return {
            "metric": metrics.get(self.settings.metric),
            "intervention": self.settings.intervention,
            "batch_size": self.batch_size,
            "memory": self.memory,
            "seed": self.settings.seed,
            "workers": self.workers,
            "folder": self.folder.shards(stage),
        }
