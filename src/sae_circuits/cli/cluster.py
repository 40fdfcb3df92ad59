"""`sae-circuits cluster`: features that are alike, and what passes through each cluster of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sae_circuits.cli import dictionaries, options
from sae_circuits.errors import OptionError, OutputError, unknown

if TYPE_CHECKING:
    from sae_circuits.graph import Clusters

SUFFIXES = (".json", ".csv", ".svg", ".png")
WIDEST = 44

By = Annotated[
    str,
    typer.Option(
        help="What they are alike in: decoder, co-activation (of a --store), or connections (of "
        "--scores, or the virtual weights of two dictionaries)."
    ),
]
Store = Annotated[
    list[Path] | None,
    typer.Option(help="A store of the features: for their labels, too. Again for each dictionary."),
]
ScoresFile = Annotated[
    list[Path] | None,
    typer.Option(
        help="Saved pair scores or virtual weights, for clusters' shares. Again for each."
    ),
]
Out = Annotated[
    list[Path] | None,
    typer.Option(help="A .json to load again, a .csv of features, a .svg or .png. Again for each."),
]
Method = Annotated[str, typer.Option(help="louvain or hdbscan.")]
Measure = Annotated[str, typer.Option(help="Of co-activation: jaccard, pearson or cosine.")]
Neighbours = Annotated[int, typer.Option("--k", min=1, help="Neighbours of each feature.")]
Resolution = Annotated[
    float, typer.Option(help="Of louvain; above 1 for more and smaller clusters.")
]


def cluster(
    sae: dictionaries.Sae = None,
    sae_id: dictionaries.SaeId = None,
    sae_kind: dictionaries.SaeKind = None,
    model: options.Model = "demo",
    by: By = "decoder",
    method: Method = "louvain",
    measure: Measure = "jaccard",
    k: Neighbours = 10,
    min_size: Annotated[int, typer.Option(min=2, help="Of a cluster.")] = 4,
    resolution: Resolution = 1.0,
    store: Store = None,
    scores: ScoresFile = None,
    repeats: Annotated[int, typer.Option(min=0, help="Samples for the stability.")] = 10,
    seed: options.Seed = 0,
    out: Out = None,
    device: options.Device = None,
) -> None:
    """Put the features of a dictionary into clusters, and say what each has in common.

    Stability, from 0 to 1, is how well a cluster is found again in half of the data. With --scores,
    in and out are the shares of all weight that lead into and out of its features.
    """
    import sae_circuits as sc
    from sae_circuits.connectome.clusters import KINDS
    from sae_circuits.connectome.partition import METHODS

    if by not in KINDS:
        raise unknown("kind of likeness", by, KINDS)
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    for path in out or ():
        if path.suffix not in SUFFIXES:
            raise OutputError(f"cannot write {str(path)!r}: end it in {', '.join(SUFFIXES)}")
        if not path.parent.is_dir():
            raise OutputError(
                f"cannot write {str(path)!r}: there is no folder {str(path.parent)!r}"
            )
    chosen = dictionaries.Dictionaries.of(sae, sae_id, sae_kind)
    _check(by, chosen, store, scores)
    stores = [sc.FeatureDictionary.load(path) for path in store or ()]
    given = [sc.load(path) for path in scores or ()]
    of: Any = stores[0] if by == "co-activation" else given
    if by == "decoder":
        of = _one(chosen.load("cpu"))
    elif by == "connections" and not given:
        of = _virtual_weights(model, device, chosen)
    found = sc.cluster(
        of,
        by,
        method=method,
        measure=measure,
        k=k,
        min_size=min_size,
        resolution=resolution,
        scores=given or None,
        stores=stores[1:] if by == "co-activation" else stores,
        repeats=repeats,
        seed=seed,
    )
    typer.echo(table(found))
    for path in out or ():
        write(found, path)
        typer.echo(f"Written: {path}")


def _check(
    by: str, chosen: dictionaries.Dictionaries, store: list[Path] | None, scores: list[Path] | None
) -> None:
    """Refuse what can be seen to be wrong before anything is loaded.

    Raises:
        OptionError: a part that is needed, or one that is not used.
    """
    if by == "co-activation" and not store:
        raise OptionError("--by co-activation needs --store: sae-circuits features build")
    if by == "decoder" and chosen.source is None:
        raise OptionError("--by decoder needs a dictionary: --sae demo --sae-id resid_post.1")
    if by == "connections" and (chosen.source is None) == (not scores):
        raise OptionError("--by connections needs --scores, or --sae with two --sae-id")
    if by == "co-activation" and chosen.source is not None:
        raise OptionError("--by co-activation takes the store alone: leave out --sae")
    chosen.check()


def _one(saes: list[Any]) -> Any:
    if len(saes) != 1:
        raise OptionError(f"{len(saes)} dictionaries are chosen: give one, with --sae-id")
    return saes[0]


def _virtual_weights(model: str, device: str | None, chosen: dictionaries.Dictionaries) -> Any:
    import sae_circuits as sc

    loaded = options.open_model(model, device, "float32")
    saes = chosen.load(options.place_of(loaded))
    if len(saes) != 2:
        raise OptionError(
            f"{len(saes)} dictionaries are chosen: give two, the earlier one first, with --sae-id"
        )
    return sc.virtual_weights(loaded, *saes)


def table(found: Clusters) -> str:
    """One line for each cluster."""
    shares = found.sizes is not None
    head = f"{'':<6}{'features':>9}{'stability':>11}"
    lines = [repr(found), head + (f"{'in':>7}{'out':>7}" if shares else "") + "  typical"]
    for row in found.to_pandas().to_dict("records"):
        line = f"{row['cluster']:<6}{row['features']:>9,}{row['stability']:>11.2f}"
        line += f"{row['in_share']:>7.2f}{row['out_share']:>7.2f}" if shares else ""
        text = f"{row['label']} ({row['label_share']:.0%})" if row["label"] else ""
        few = " ".join(str(row["typical"]).split()[:3])
        lines.append(f"{line}  {few}{'  ' if text else ''}{text}")
    return "\n".join(lines)


def write(found: Clusters, path: Path) -> None:
    """The clusters as the path's suffix says."""
    from sae_circuits.disk.atomic import write_whole

    if path.suffix == ".json":
        found.save(path)
    elif path.suffix == ".csv":
        write_whole(path, found.to_pandas("features").to_csv(index=False))
    else:
        from sae_circuits.viz.plots import clusters, png_of, svg_of

        figure = clusters(found)
        write_whole(path, png_of(figure) if path.suffix == ".png" else svg_of(figure))
