"""`sae-circuits render`: a saved circuit or attribution graph as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sae_circuits.cli import circuits


def render(
    circuit: circuits.File,
    picture: Annotated[Path, typer.Argument(help="Ends in .svg, .png, .pdf, .dot or .html.")],
    top: Annotated[int | None, typer.Option(min=1, help="Draw only the strongest edges.")] = None,
    title: Annotated[str | None, typer.Option(help="Replaces the line under the picture.")] = None,
    store: circuits.Stores = None,
    eap_ig: circuits.EapIg = False,
    neuronpedia: circuits.Neuronpedia = False,
) -> None:
    """Draw a saved circuit or attribution graph.

    Features get labels and top tokens from --store. Of a circuit by span, the edges at any span are
    drawn.
    """
    from sae_circuits.graph import SpanCircuit
    from sae_circuits.viz.render import render as draw
    from sae_circuits.viz.render import suffix_of

    suffix_of(picture)
    value = circuits.read(circuit, eap_ig=eap_ig, neuronpedia=neuronpedia)
    drawn = value.union if isinstance(value, SpanCircuit) else value
    said: dict[str, dict[str, str]] = {}
    if stores := circuits.opened(store):
        from sae_circuits.features.captions import captions

        said = captions(drawn, stores)
    typer.echo(draw(drawn, picture, title=title, max_edges=top, **said))
