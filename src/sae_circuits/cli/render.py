"""`sae-circuits render`: a saved circuit or attribution graph as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sae_circuits.errors import FileFormatError, OptionError


def render(
    circuit: Annotated[
        Path, typer.Argument(help="A circuit.json or graph.json, or a file that an option names.")
    ],
    picture: Annotated[Path, typer.Argument(help="Ends in .svg, .png, .pdf, .dot or .html.")],
    top: Annotated[int | None, typer.Option(min=1, help="Draw only the strongest edges.")] = None,
    title: Annotated[str | None, typer.Option(help="Replaces the line under the picture.")] = None,
    store: Annotated[
        list[Path] | None,
        typer.Option(
            help="A folder of 'features build', whose labels and top tokens features get; give it "
            "once for each dictionary."
        ),
    ] = None,
    eap_ig: Annotated[
        bool, typer.Option("--eap-ig", help="The file is a graph of EAP-IG or MIB.")
    ] = False,
    neuronpedia: Annotated[
        bool,
        typer.Option("--neuronpedia", help="The file is a graph of Neuronpedia or circuit-tracer."),
    ] = False,
) -> None:
    """Draw a saved circuit or attribution graph."""
    from sae_circuits.graph import AttributionGraph, Circuit
    from sae_circuits.io import from_neuronpedia, import_eap_ig, load
    from sae_circuits.viz.render import render as draw
    from sae_circuits.viz.render import suffix_of

    suffix_of(picture)
    if eap_ig and neuronpedia:
        raise OptionError("a file is of one kind: give --eap-ig or --neuronpedia")
    read = import_eap_ig if eap_ig else from_neuronpedia if neuronpedia else load
    value = read(circuit)
    if not isinstance(value, Circuit | AttributionGraph):
        raise FileFormatError(
            f"{str(circuit)!r} holds {type(value).__name__.lower()}, and a circuit or an "
            "attribution graph is needed"
        )
    said: dict[str, dict[str, str]] = {}
    if store:
        from sae_circuits.features.captions import captions
        from sae_circuits.features.dictionary import FeatureDictionary

        said = captions(value, [FeatureDictionary.load(folder) for folder in store])
    typer.echo(draw(value, picture, title=title, max_edges=top, **said))
