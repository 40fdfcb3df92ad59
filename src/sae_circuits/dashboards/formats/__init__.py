"""Files of features for the viewers of others: a format a module."""

from sae_circuits.dashboards.formats.export import FORMATS, export

__all__ = ["FORMATS", "export"]
