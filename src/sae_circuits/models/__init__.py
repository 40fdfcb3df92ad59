"""The models: loading them, and the one view through which the rest of the package sees them."""

from sae_circuits.models.adapter import Adapter
from sae_circuits.models.load import demo_path, load_model, names

__all__ = ["Adapter", "demo_path", "load_model", "names"]
