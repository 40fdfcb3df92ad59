from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from sae_circuits.cli.app import app

QUICK = ["--seeds", "1", "--n", "4", "--method", "eap", "--method", "random"]


def run(*arguments: str | Path):
    return CliRunner().invoke(app, ["benchmark", *map(str, arguments)])


@pytest.fixture(scope="module")
def table(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("benchmark") / "table"
    result = run(*QUICK, "--model", model_folder, "--task", "ioi", "--known", "or", "--out", out)
    assert result.exit_code == 0, result.output
    assert "AUROC" in result.output
    assert f"Page:  {out / 'table.html'}" in result.output
    return out


def test_the_folder_holds_all_files(table: Path, model_folder: Path) -> None:
    names = {path.name for path in table.iterdir()}
    assert names == {
        "benchmark.json", "cells", "mib", "mib-auroc.csv", "mib-cmd.csv", "mib-cpr.csv",
        "record.json", "table.csv", "table.html", "table.md",
    }  # fmt: skip
    cells = sorted(path.parent.name for path in table.glob("cells/*/*/*/*/*/cell.json"))
    assert cells == ["seed0"] * 4


def test_a_second_run_makes_nothing_anew(table: Path, model_folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in table.glob("cells/**/*.*")}
    how = ["--model", model_folder, "--task", "ioi", "--known", "or", "--out", table]
    assert run(*QUICK, *how).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in table.glob("cells/**/*.*")} == before


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--task", "oii"], "ioi"),
        (["--method", "epa"], "eap"),
        (["--known", "nand"], "and"),
        (["--level", "edge"], "edges"),
        (["--n", "5"], "n: 4, now 5"),
    ],
)
def test_bad_options_are_named(more: list[str], said: str, table: Path, tmp_path: Path) -> None:
    out = table if "--n" in more else tmp_path / "t"
    result = run(*QUICK, *more, "--out", out)
    assert result.exit_code == 2
    assert result.stderr.startswith("sae-circuits: ")
    assert result.stderr.count("\n") == 1
    assert said in result.stderr
