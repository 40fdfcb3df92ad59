"""Circuits and attribution graphs from files, ours and others', for the commands that show them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sae_circuits.errors import FileFormatError, OptionError

if TYPE_CHECKING:
    from sae_circuits.features.dictionary import FeatureDictionary
    from sae_circuits.graph import AttributionGraph, Circuit, SpanCircuit

File = Annotated[
    Path, typer.Argument(help="A circuit.json or graph.json, or a file that an option names.")
]
Stores = Annotated[
    list[Path] | None,
    typer.Option(
        "--store",
        help="A folder of 'features build', which says what features do; give it once for each "
        "dictionary.",
    ),
]
EapIg = Annotated[bool, typer.Option("--eap-ig", help="The file is a graph of EAP-IG or MIB.")]
Neuronpedia = Annotated[
    bool,
    typer.Option("--neuronpedia", help="The file is a graph of Neuronpedia or circuit-tracer."),
]


def read(
    path: Path, *, eap_ig: bool, neuronpedia: bool
) -> Circuit | SpanCircuit | AttributionGraph:
    """What a file holds.

    Raises:
        OptionError: a file of two kinds.
        FileFormatError: a file that cannot be read, or one of another thing.
    """
    from sae_circuits.graph import AttributionGraph, Circuit, SpanCircuit
    from sae_circuits.io import from_neuronpedia, import_eap_ig, load

    if eap_ig and neuronpedia:
        raise OptionError("a file is of one kind: give --eap-ig or --neuronpedia")
    value = (import_eap_ig if eap_ig else from_neuronpedia if neuronpedia else load)(path)
    if not isinstance(value, Circuit | SpanCircuit | AttributionGraph):
        raise FileFormatError(
            f"{str(path)!r} holds {type(value).__name__.lower()}, and a circuit or an attribution "
            "graph is needed"
        )
    return value


def opened(folders: list[Path] | None) -> list[FeatureDictionary]:
    """The stores in some folders.

    Raises:
        StoreError: a folder that holds none.
    """
    if not folders:
        return []
    from sae_circuits.features.dictionary import FeatureDictionary

    return [FeatureDictionary.load(folder) for folder in folders]
