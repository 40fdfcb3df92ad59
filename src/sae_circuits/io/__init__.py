"""Files: saving and loading, and the formats of others."""

from sae_circuits.io.eap_ig import export_eap_ig, import_eap_ig
from sae_circuits.io.files import load, save
from sae_circuits.io.neuronpedia import from_neuronpedia, to_neuronpedia
from sae_circuits.io.record import Record, versions

__all__ = [
    "Record",
    "export_eap_ig",
    "from_neuronpedia",
    "import_eap_ig",
    "load",
    "save",
    "to_neuronpedia",
    "versions",
]
