"""What the site's pages promise: every public name, every paper, every page in its place."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import sae_circuits as sc

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ARXIV = re.compile(r"(?<![\d./])(\d{4}\.\d{5}|0803\.0476|0812\.1770)(?![\d])")


ENTRIES = [
    entry
    for page in sorted((DOCS / "api").glob("*.md"))
    for entry in re.findall(r"^::: (sae_circuits\.[\w.]+)$", page.read_text(), re.MULTILINE)
]


def sources() -> dict[str, str]:
    """From which module each public name is imported."""
    stub = ast.parse((ROOT / "src/sae_circuits/__init__.pyi").read_text())
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return {name.name: f"sae_circuits.{i.module or ''}" for i in imports for name in i.names}


def entry_of(module: ModuleType, name: str, source: str) -> str:
    """Name what the site can find: it takes a module for the function that is called like it."""
    value = getattr(module, name)
    namesake = ROOT / "src" / source.replace(".", "/") / name
    hidden = namesake.is_dir() or namesake.with_suffix(".py").is_file()
    hidden = hidden and not isinstance(value, ModuleType)
    return f"{value.__module__}.{name}" if hidden else f"{module.__name__}.{name}"


def test_the_api_pages_hold_each_public_name_once():
    wanted = {entry_of(sc, n, of) for n, of in sources().items() if n != "__version__"}
    for module in (sc.tasks, sc.viz):
        names = set(module.__all__) - {"Task"}
        wanted |= {entry_of(module, name, module.__name__) for name in names}
    assert sorted(ENTRIES) == sorted({*wanted, "sae_circuits.testing"})


def test_the_references_are_the_papers_that_the_code_names():
    sources = [*(ROOT / "src").rglob("*.py"), *DOCS.glob("*.md")]
    references = DOCS / "references.md"
    named = {
        number
        for path in sources
        if path != references
        for number in ARXIV.findall(path.read_text())
        if f"10.1080/0{number}" not in path.read_text()
    }
    listed = re.findall(r"\[([\d.]+)\]\(https://arxiv\.org/abs/\1\)", references.read_text())
    assert sorted(listed) == sorted(named - DOI)


DOI = {"1927.10502", "1963.10500"}  # parts of DOIs, which look the same


def test_every_method_of_attribution_has_its_paper_among_the_references():
    table = (DOCS / "references.md").read_text()
    assert {name for name in sc.methods() if f"`{name}`" not in table} == {"random"}


def test_every_page_stands_in_the_navigation():
    listed = set(re.findall(r"([\w/.-]+\.(?:md|ipynb))$", (ROOT / "mkdocs.yml").read_text(), re.M))
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    notebooks = {str(path.relative_to(ROOT)) for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert listed == pages | notebooks
    assert {name for name in notebooks if name not in (DOCS / "tutorials.md").read_text()} == set()


def test_the_picture_of_the_layers_names_every_package(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS / "pictures"))
    import layers

    named = {name for names, _ in layers.rows() for name in names}
    there = {path.stem for path in (ROOT / "src/sae_circuits").iterdir() if path.stem[0] != "_"}
    assert named == there - {"data", "py"}
    for name in ("layers", "sheet"):
        del sys.modules[name]


def test_the_list_of_commands_has_all_of_them(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS / "_site"))
    import commands

    page = commands.all_commands()
    titles = re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert {"discover", "features build", "dashboard index"} <= set(titles)
    assert "| `--edges` | `200` | How many edges to keep. |" in page
    assert "| `--out` | required |" in page
    del sys.modules["commands"]


def test_the_drawings_are_those_that_their_script_makes(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS / "pictures"))
    import draw

    for drawing in draw.KEPT_TRUE:
        drawn = (DOCS / "pictures" / f"{drawing.__name__}.svg").read_text()
        assert drawn == drawing().svg(), "run make pictures"
    for name in ("draw", "layers", "sheet"):
        del sys.modules[name]


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.name)
def test_notebooks_are_kept_with_what_they_show_and_stay_small(path):
    import nbformat

    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    assert all(cell.execution_count for cell in cells), "run notebooks/save_outputs.py"
    assert not [o for c in cells for o in c.outputs if o.output_type == "error"]
    assert path.stat().st_size < 200_000
    assert all(ast.parse(cell.source) for cell in cells)
