"""Writing a view in one of the formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sae_circuits.dashboards.formats import circuit_tracer, neuronpedia
from sae_circuits.dashboards.views import FeatureView
from sae_circuits.disk.atomic import ready_folder, write_whole
from sae_circuits.errors import OptionError, unknown

FORMATS = {module.NAME: module.files for module in (neuronpedia, circuit_tracer)}


def export(view: FeatureView, folder: str | Path, format: str, **options: Any) -> Path:
    """`FeatureView.export`."""
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    folder = Path(folder)
    try:
        made = FORMATS[format](view, folder, **options)
    except TypeError as error:
        raise OptionError(f"format {format!r} has no such option: {error}") from error
    ready_folder(folder)
    for name, content in made:
        (folder / name).parent.mkdir(exist_ok=True)
        write_whole(folder / name, content)
    return folder
