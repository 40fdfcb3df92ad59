"""`sae-circuits trace`: from a prompt to its attribution graph, its pictures and its files."""

from __future__ import annotations

import re
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sae_circuits.cli import options
from sae_circuits.errors import OptionError

if TYPE_CHECKING:
    from sae_circuits.graph import AttributionGraph
    from sae_circuits.shards import Workers

N_LISTED = 12
MEMORY = "512MiB"


def trace(
    prompt: Annotated[str, typer.Option(help="The text whose continuation is to be explained.")],
    out: Annotated[Path, typer.Option(help="The folder for all that comes out.")] = Path(
        "trace-run"
    ),
    model: options.Model = "demo",
    transcoders: Annotated[
        str,
        typer.Option(
            help="'demo' (bundled), a folder that sae-lens wrote or a folder of such, or one with "
            "a cross-layer transcoder."
        ),
    ] = "demo",
    n_logits: Annotated[int, typer.Option(min=1, help="How many logits at most.")] = 10,
    node_share: Annotated[
        float, typer.Option(help="Keep the fewest nodes that hold this share of influence.")
    ] = 0.8,
    edge_share: Annotated[
        float, typer.Option(help="Keep the fewest edges that hold this share of influence.")
    ] = 0.98,
    device: options.Device = None,
    dtype: options.Dtype = "float32",
    memory: Annotated[
        str,
        typer.Option(
            help="For rows of the matrix, such as 2GiB or 50% of the device's memory; the run of "
            "the model itself is not counted. Of each worker."
        ),
    ] = MEMORY,
    ray: options.Ray = None,
    workers: options.NWorkers = None,
    gpus_per_worker: options.GpusPerWorker = 0,
    overwrite: options.Overwrite = False,
) -> None:
    """Trace what a model says on a prompt back to its tokens, through features.

    A run that has finished or was interrupted is taken up again by the same command.
    """
    settings = Settings(model, prompt, transcoders, n_logits, node_share, edge_share, device, dtype)
    settings.check()
    options.check_memory(memory)  # before a cluster is started
    load = partial(options.open_model, model, dtype=dtype)
    with options.workers_of(ray, workers, gpus_per_worker, load) as shared:
        how = {"memory": memory, "workers": shared, "overwrite": overwrite}
        graph = run(settings, out, sys.argv[1:], **how)
    typer.echo(table(graph))
    for name in ("graph.svg", "graph.html"):
        if (out / name).exists():
            typer.echo(f"{'Picture:' if name.endswith('svg') else 'Page:':<9}{out / name}")


@dataclass(frozen=True)
class Settings:
    """All that decides what comes out of a run."""

    model: str
    prompt: str
    transcoders: str
    n_logits: int
    node_share: float
    edge_share: float
    device: str | None
    dtype: str

    def check(self) -> None:
        """Refuse what can be seen to be wrong before a model is loaded.

        Raises:
            OptionError: a share that is none, or an empty prompt.
            UnknownName: of a dtype.
        """
        for name in ("node_share", "edge_share"):
            if not 0 < getattr(self, name) <= 1:
                option = f"--{name.replace('_', '-')}"
                raise OptionError(
                    f"{option} is {getattr(self, name)}: a share is above 0 and at most 1"
                )
        if not self.prompt.strip():
            raise OptionError("the prompt is empty: give a text whose continuation to explain")
        options.check_dtype(self.dtype)

    def said(self) -> dict[str, Any]:
        """The settings for the record, with stamps of the folders that they name."""
        from sae_circuits.cli.folder import stamp

        content = {"command": "trace", **asdict(self)}
        for name in ("model", "transcoders"):
            if (folder := Path(getattr(self, name))).is_dir():
                content[f"{name}_files"] = stamp(folder)
        return content


def run(
    settings: Settings,
    out: Path,
    arguments: list[str],
    *,
    memory: str = MEMORY,
    workers: Workers | None = None,
    overwrite: bool = False,
) -> AttributionGraph:
    """Trace a prompt and write graph.json, pictures and the file for Neuronpedia's viewer.

    Raises:
        CircuitsError: of any kind; the folder is checked before the model runs.
    """
    from sae_circuits.cli.folder import RunFolder, command_line
    from sae_circuits.graph import Architecture, AttributionGraph
    from sae_circuits.io import Record, to_neuronpedia
    from sae_circuits.models.dictionaries import load_saes
    from sae_circuits.viz.dot import has_dot

    folder = RunFolder(out, Record.start(command_line(arguments), settings.said()), overwrite)
    folder.check()
    model = options.open_model(settings.model, settings.device, settings.dtype)
    kind = "transcoder" if settings.transcoders == "demo" else None
    transcoders = load_saes(settings.transcoders, kind=kind)

    def made() -> AttributionGraph:
        from sae_circuits.tracing import trace

        return trace(
            model,
            settings.prompt,
            transcoders=transcoders,
            n_logits=settings.n_logits,
            node_share=settings.node_share,
            edge_share=settings.edge_share,
            memory=memory,
            workers=workers,
            folder=folder.shards("graph"),
        )

    folder.begin()
    graph = folder.stage("graph.json", AttributionGraph, made)
    graph.explore(out / "graph.html")
    if has_dot():
        graph.render(out / "graph.svg")
    n_layers = Architecture.of(model).n_layers
    to_neuronpedia(graph, out / "graph.neuronpedia.json", slug=slug_of(out), n_layers=n_layers)
    folder.finish()
    return graph


def table(graph: AttributionGraph) -> str:
    """What is said and how likely, the most influential nodes, and the scores, one a line."""
    influence = dict(zip(graph.nodes, graph.influence.tolist(), strict=True))
    activation = dict(zip(graph.nodes, graph.activation.tolist(), strict=True))
    logits = [node for node in graph.nodes if node.kind == "logits"]
    said = ", ".join(
        f"{graph.token_text(node) or node.name!r} {activation[node]:.1%}" for node in logits
    )
    inner = [node for node in graph.nodes if node.kind in ("feature", "error")]
    strongest = sorted(inner, key=lambda node: -influence[node])[:N_LISTED]
    width = max([len(node.name) for node in strongest], default=0) + 2
    lines = [f"Says:{said}" if said.startswith(" ") else f"Says: {said}"]
    lines.append(f"{'node':<{width}}{'at token':<16}{'activation':>10}{'influence':>11}")
    for node in strongest:
        token = repr(graph.text[node.pos]) if node.pos is not None else ""
        value = f"{activation[node]:.4g}" if node.kind == "feature" else ""
        lines.append(f"{node.name:<{width}}{token:<16}{value:>10}{influence[node]:>11.4f}")
    lines.append(
        f"{len(graph.nodes):,} of {graph.n_active:,} nodes, {len(graph.weight):,} edges; "
        f"replacement {graph.replacement:.3f}, completeness {graph.completeness:.3f}"
    )
    return "\n".join(lines)


def slug_of(folder: Path) -> str:
    """A folder's name in the letters that a graph's name may have.

    >>> slug_of(Path("runs/Mary & John"))
    'mary-john'
    """
    return re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-") or "graph"
