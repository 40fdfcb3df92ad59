"""Notebooks and examples run from top to bottom, as a reader would run them."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# Training takes minutes on purpose; its own tests run it for a few steps.
EXAMPLES = [
    pytest.param(path, id=path.name, marks=[pytest.mark.slow] if path.name == "cluster.py" else [])
    for path in sorted((ROOT / "examples").glob("*.py"))
    if not path.name.startswith("train_")
]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))  # no kernel of the user's
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    client = nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")


@pytest.mark.parametrize("path", EXAMPLES)
def test_example_runs(path, tmp_path):
    assert ast.get_docstring(ast.parse(path.read_text())), "an example says what it shows"
    done = subprocess.run(
        [sys.executable, str(path)],
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
