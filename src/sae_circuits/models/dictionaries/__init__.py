"""Dictionaries: whatever gives features. SAEs, transcoders, cross-layer transcoders."""

from sae_circuits.models.dictionaries.dictionary import Dictionary
from sae_circuits.models.dictionaries.load import load_saes
from sae_circuits.models.dictionaries.sites import Site

__all__ = ["Dictionary", "Site", "load_saes"]
