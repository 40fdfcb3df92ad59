"""`sae-circuits explore`: the page on which a saved circuit is filtered, grouped and compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sae_circuits.cli import circuits
from sae_circuits.errors import FileFormatError, OptionError

if TYPE_CHECKING:
    from sae_circuits.evaluation import Curve


def explore(
    circuit: circuits.File,
    other: Annotated[
        Path | None, typer.Argument(help="A second circuit of the same graph, to compare with.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The page: .html.")] = Path("explorer.html"),
    curve: Annotated[
        Path | None,
        typer.Option(help="A report.json or curve.json of the same scores, to show beside it."),
    ] = None,
    store: circuits.Stores = None,
    link: Annotated[
        list[str] | None,
        typer.Option(
            help="Where a dictionary's features have a page: m3=../m3/index.html; again for each."
        ),
    ] = None,
    arrangement: Annotated[
        Path | None, typer.Option(help="What Save wrote on another page of the circuit.")
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option(help="Of the circuits that are compared, once for each.")
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(min=1, help="Edges in the page; by default the circuit's and 2,000 more."),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Of the page.")] = None,
    eap_ig: circuits.EapIg = False,
    neuronpedia: circuits.Neuronpedia = False,
) -> None:
    """Make a page on which a saved circuit is explored, or two are compared.

    It needs no network. With --store, features say what they fire on and show examples.
    """
    from sae_circuits.explorer.view import require_page

    require_page(out)
    links = places(link or [])
    names = two(name, compared=other is not None)
    found = circuits.read(circuit, eap_ig=eap_ig, neuronpedia=neuronpedia)
    second = None if other is None else circuits.read(other, eap_ig=eap_ig, neuronpedia=neuronpedia)
    faithfulness = None if curve is None else read_curve(curve)
    found.explore(
        out, other=second, curve=faithfulness, stores=circuits.opened(store), links=links,
        arrangement=arrangement, names=names, max_edges=top, title=title,
    )  # fmt: skip
    typer.echo(out)


def places(links: list[str]) -> dict[str, str]:
    """Addresses by place, from PLACE=ADDRESS.

    >>> places(["m3=../m3/index.html"])
    {'m3': '../m3/index.html'}

    Raises:
        OptionError: another form.
    """
    split = [link.partition("=") for link in links]
    for link, (place, sign, address) in zip(links, split, strict=True):
        if not (place and sign and address):
            raise OptionError(f"--link is {link!r}: write a place and an address, m3=m3/index.html")
    return {place: address for place, _, address in split}


def two(names: list[str] | None, *, compared: bool) -> tuple[str, str] | None:
    """The names of two circuits, if they are given.

    Raises:
        OptionError: not two, or of one circuit.
    """
    if names is None:
        return None
    if not compared or len(names) != 2:
        raise OptionError(f"{len(names)} names by --name: give two, of two circuits")
    return names[0], names[1]


def read_curve(path: Path) -> Curve:
    """The curve in a file of a report or of a curve.

    Raises:
        FileFormatError: a file of something else, or a report without a curve.
    """
    from sae_circuits.evaluation import Curve, Report
    from sae_circuits.io import load

    value = load(path)
    if isinstance(value, Report):
        value = value.curve
    if not isinstance(value, Curve):
        what = "a report without a curve" if value is None else type(value).__name__.lower()
        raise FileFormatError(f"{str(path)!r} holds {what}: give a report or a curve by --curve")
    return value
