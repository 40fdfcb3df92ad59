"""Run the notebooks and keep what they show in them, so that it can be read without running them.

    python notebooks/save_outputs.py 04_features.ipynb      # one; without names, all

A page of HTML above 60 kB is left out and named in its place: run the notebook to see it. Pictures
are kept in 64 colours.
"""

from __future__ import annotations

import base64
import io
import sys
import tempfile
from pathlib import Path

import nbclient
import nbformat
from PIL import Image

HERE = Path(__file__).parent
LARGEST = 60_000  # bytes of an output; the drawing of a circuit is below it


def main() -> None:
    """Run those that are named, or all."""
    for path in [HERE / name for name in sys.argv[1:]] or sorted(HERE.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        with tempfile.TemporaryDirectory() as folder:
            nbclient.NotebookClient(
                notebook,
                timeout=600,
                kernel_name="python3",
                record_timing=False,  # or every run would change every cell
                resources={"metadata": {"path": folder}},
            ).execute()
        for cell in notebook.cells:
            if cell.cell_type == "code":  # without bars of progress and warnings of this machine
                cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
                for output in cell.outputs:
                    _shorten(output.get("data", {}))
        notebook.metadata["language_info"] = {"name": "python"}  # not the version at hand
        nbformat.write(notebook, path)


def _shorten(data: dict[str, str]) -> None:
    """Leave a note where a page would be, and fewer colours in pictures, in place."""
    if "image/png" in data:
        small = io.BytesIO()
        picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
        picture.convert("RGB").quantize(64).save(small, "PNG", optimize=True)
        data["image/png"] = base64.b64encode(small.getvalue()).decode()
    page = data.get("text/html", "")
    if len(page.encode()) > LARGEST:
        data["text/html"] = (
            f"<p><em>A page of {len(page.encode()) // 1000} kB: run the notebook to see it here. "
            "Pictures of such pages are in the documentation.</em></p>"
        )


if __name__ == "__main__":
    main()
