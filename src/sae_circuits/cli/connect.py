"""`sae-circuits connect`: what drives a feature, and by how much."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sae_circuits.cli import dictionaries, names, options
from sae_circuits.errors import FileFormatError, OptionError, OutputError, unknown

if TYPE_CHECKING:
    from sae_circuits.connectome.connect import Connections
    from sae_circuits.connectome.work import Reference
    from sae_circuits.models.dictionaries import Dictionary

Sae = Annotated[
    list[str] | None,
    typer.Option(
        help="Dictionaries; again for each: 'demo' (bundled, the default) or the name of a bundled "
        "one, a folder that sae-lens wrote or a folder of such, or a release that sae-lens knows."
    ),
]
SaeId = Annotated[
    list[str] | None,
    typer.Option(
        help="Which of them, such as z.0: of one --sae, any number; of several, one for each."
    ),
]
Feature = Annotated[
    str,
    typer.Option(help="The target, such as post1.f228; or 228, of the last --sae that is given."),
]
Methods = Annotated[
    list[str] | None,
    typer.Option(
        help="direct, total or patching; again for each. By default total.",
        autocompletion=names.of(names.CONNECTIONS),
    ),
]
ReferenceText = Annotated[
    str,
    typer.Option(
        help="What upstream features are set to: zero, mean, corrupt, a number, or a multiple "
        "of what they are, such as 2x."
    ),
]
Components = Annotated[
    list[str] | None,
    typer.Option(help="A head or an MLP upstream, such as a0.h3 or m1; again for each; or all."),
]
Through = Annotated[
    str | None,
    typer.Option(help="With --method direct: by way of a layer's heads or its MLP, as a1 or m1."),
]


def connect(
    feature: Feature,
    sae: Sae = None,
    sae_id: SaeId = None,
    sae_kind: dictionaries.SaeKind = None,
    model: options.Model = "demo",
    method: Methods = None,
    reference: ReferenceText = "zero",
    component: Components = None,
    through: Through = None,
    prompts: Annotated[
        Path | None, typer.Option(help="A file of texts, one on each line, instead of a task.")
    ] = None,
    task: options.TaskName = "ioi",
    n: options.N = 32,
    seed: options.Seed = 0,
    top: Annotated[int, typer.Option(min=1, help="How many features to list.")] = 20,
    out: Annotated[Path | None, typer.Option(help="A .csv for all, by each method.")] = None,
    page: Annotated[Path | None, typer.Option(help="A .html page with the target in it.")] = None,
    batch_size: options.BatchSize = None,
    memory: options.Memory = None,
    device: options.Device = None,
    dtype: options.Dtype = "float32",
    ray: options.Ray = None,
    workers: options.NWorkers = None,
    gpus_per_worker: options.GpusPerWorker = 0,
) -> None:
    """List the features that drive a feature, those that change it most first.

    A value is the change of the target's activation, summed over a prompt's tokens, when the
    upstream feature is set to the reference: below 0 where it drives the target.
    """
    from sae_circuits import connections
    from sae_circuits.connectome.connect import REFERENCES

    methods = method or ["total"]
    chosen = dictionaries.Dictionaries.each(sae or ["demo"], sae_id, sae_kind)
    options.check_memory(memory)
    _check(methods, task, dtype, chosen, {".csv": out, ".html": page})
    to = reference if reference in REFERENCES else _number(reference)
    parts = "all" if component == ["all"] else component or ()
    texts = None if prompts is None else _texts(prompts)
    load = partial(options.open_model, model, dtype=dtype)
    every = []
    with options.workers_of(ray, workers, gpus_per_worker, load) as shared:
        loaded = load(device=device)
        asked = texts or options.open_task(loaded, task, None, n, seed)
        each = [one.load(options.place_of(loaded)) for one in chosen]
        saes = [own for some in each for own in some]
        feature = _target(feature, each[-1], chosen[-1])
        how = {"reference": to, "components": parts, "through": through}
        how |= {"batch_size": batch_size, "memory": memory, "workers": shared}
        for name in methods:
            how["folder"] = None if out is None else _shards(out) / name
            found = connections(loaded, feature, saes, asked, method=name, **how)
            every.append(found)
            typer.echo(f"{found!r}, whose activation is {found.active:.4g}")
            for source, change in found.top(top):
                typer.echo(f"  {source:<14}{change:>12.4g}")
    _write(every, out, page)


def _check(
    methods: list[str],
    task: str,
    dtype: str,
    chosen: Sequence[dictionaries.Dictionaries],
    written: dict[str, Path | None],
) -> None:
    """What can be refused before anything is loaded."""
    from sae_circuits import tasks
    from sae_circuits.connectome.connect import METHODS

    for kind, asked, known in (("method", methods, METHODS), ("task", [task], tasks.names())):
        for name in asked:
            if name not in known:
                raise unknown(kind, name, known)
    options.check_dtype(dtype)
    for one in chosen:
        one.check()
    for ending, path in written.items():
        if path is not None and path.suffix != ending:
            raise OutputError(f"cannot write {str(path)!r}: end the name in {ending!r}")


def _write(found: list[Connections], out: Path | None, page: Path | None) -> None:
    from sae_circuits import ConnectomeView
    from sae_circuits.disk.atomic import write_whole
    from sae_circuits.features.frames import stacked

    if out is not None:
        tables = stacked([one.to_pandas() for one in found])
        write_whole(out, tables.to_csv(index=False))
        shutil.rmtree(_shards(out), ignore_errors=True)  # all of it is in the table now
        typer.echo(f"Table: {out}")
    if page is not None:
        typer.echo(f"Page: {ConnectomeView.build(found).render(page)}")


def _shards(out: Path) -> Path:
    """Where what is done is kept until the table is written."""
    return out.with_name(f"{out.name}.shards")


def _target(feature: str, last: list[Dictionary], of: dictionaries.Dictionaries) -> str:
    """The name of the target: a number is a feature of the dictionary that was named last."""
    from sae_circuits.graph.splits import PARTS

    if not (feature.isascii() and feature.isdigit()):
        return feature
    if len(last) > 1 and not of.ids:
        raise OptionError(
            f"--feature {feature} is of one dictionary, and --sae {of.source} has {len(last)}: say "
            f"which with --sae-id, or name the feature, such as post1.f{int(feature)}"
        )
    written = last[-1].writes[0]
    return f"{PARTS[written.kind]}{written.layer}.f{int(feature)}"


def _number(reference: str) -> Reference:
    try:
        if reference.endswith("x"):
            return "scale", float(reference[:-1])
        return float(reference)
    except ValueError:
        raise OptionError(
            f"--reference {reference!r}: give zero, mean, corrupt, a number, or a multiple as 2x"
        ) from None


def _texts(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(f"cannot read {str(path)!r}: {error}") from error
    texts = [line for line in lines if line.strip()]
    if not texts:
        raise FileFormatError(f"{str(path)!r} has no text: write one on each line")
    return texts
