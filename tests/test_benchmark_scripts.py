"""The scripts under benchmarks/: one set of flags, and a table of devices that goes on."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
# Ours; a peer's script runs in the peer's environment.
SCRIPTS = [
    path
    for path in sorted(FOLDER.glob("*.py"))
    if "__main__" in path.read_text() and not path.name.startswith("peer_")
]
ALL = {"--quick", "--json", "--device", "--threads", "--repeats"}


def run(script: Path, *args: str) -> str:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), *args]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def called(tree: ast.Module) -> list[str]:
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [func.id for func in calls if isinstance(func, ast.Name)]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_takes_the_flags_that_all_have(script):
    tree = ast.parse(script.read_text())
    assert {"flags", "read_flags"} <= set(called(tree))
    text = script.read_text()
    assert "args.device" in text  # and does something with it
    assert not any(f'add_argument("{flag}"' in text for flag in ALL)


def test_the_flags_that_all_have():
    said = run(FOLDER / "devices.py", "--help")
    assert all(flag in said for flag in (*ALL, "--seconds"))


@pytest.mark.slow
def test_the_table_of_devices_goes_on_where_it_ended(tmp_path):
    file = tmp_path / "devices.json"
    quick = "--quick", "--repeats", "1", "--json", str(file)
    assert "2 cases are not measured yet" in run(FOLDER / "devices.py", *quick, "--seconds", "-1")
    run(FOLDER / "devices.py", *quick)
    first = json.loads(file.read_text())
    assert [row["shape"] for row in first["devices"]] == ["tiny"] * 2 + ["tiny Llama"] * 2
    assert all(row["time_over_floor"] > 0 for row in first["devices"])
    run(FOLDER / "devices.py", *quick)
    assert json.loads(file.read_text()) == first
