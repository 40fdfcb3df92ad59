"""`sae-circuits render`: a saved circuit as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def render(
    circuit: Annotated[Path, typer.Argument(help="A circuit.json, or a graph of EAP-IG or MIB.")],
    picture: Annotated[Path, typer.Argument(help="Ends in .svg, .png, .pdf, .dot or .html.")],
    top: Annotated[int | None, typer.Option(min=1, help="Draw only the strongest edges.")] = None,
    title: Annotated[str | None, typer.Option(help="Replaces the line under the picture.")] = None,
    eap_ig: Annotated[
        bool, typer.Option("--eap-ig", help="The file is a graph of EAP-IG or MIB.")
    ] = False,
) -> None:
    """Draw a saved circuit."""
    from sae_circuits.graph import Circuit
    from sae_circuits.io import import_eap_ig, load
    from sae_circuits.viz.render import render as draw
    from sae_circuits.viz.render import suffix_of

    suffix_of(picture)
    value = import_eap_ig(circuit) if eap_ig else load(circuit, Circuit)
    typer.echo(draw(value, picture, title=title, max_edges=top or 500))
