"""What the README and the docs show runs as written: Python blocks, and command lines."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from command_line import call

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"^(?:<!-- not run: (?P<why>.+?) -->\n)?```(?P<kind>python|console)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


def blocks(page: Path, kind: str) -> list[tuple[int, str]]:
    """List line number and text of the page's blocks of one kind, but for those said not to run."""
    text = page.read_text()
    return [
        (text.count("\n", 0, found.start("code")) + 1, found["code"])
        for found in FENCE.finditer(text)
        if found["kind"] == kind and found["why"] is None
    ]


def with_blocks(kind: str) -> list[object]:
    return [
        pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES if blocks(page, kind)
    ]


@pytest.mark.parametrize("page", with_blocks("python"))
def test_python_blocks_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for line, code in blocks(page, "python"):
        # Blank lines in front, so that a traceback shows the page's own line numbers.
        exec(compile("\n" * (line - 1) + code, str(page), "exec"), names)


@pytest.mark.parametrize("page", with_blocks("console"))
def test_command_lines_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for line, code in blocks(page, "console"):
        for command in re.findall(r"^\$ sae-circuits (.*)$", code, re.MULTILINE):
            done = call(*shlex.split(command))
            assert done.exit_code == 0, f"{page.name}:{line}: {command}\n{done.output}"


def test_pages_link_only_to_what_is_there():
    for page in [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
