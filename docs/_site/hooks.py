"""What the site does to the pages: files from outside docs/, links to them, the list of commands.

A page is written for a checkout: it links to `../examples/x.py` and holds comments for the tests.
On the site such a file is a page of its own, and the link leads there.
"""

from __future__ import annotations

import os
import re
import sys
from functools import partial
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

sys.path.insert(0, str(Path(__file__).parent))  # mkdocs loads hooks as files, not from a package
from commands import all_commands
from names import all_names

ROOT = Path(__file__).parents[2]
OUTSIDE = [
    "notebooks/*.ipynb", "examples/*.py", "benchmarks/*.py", "src/sae_circuits/data/**/README.md",
    "CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff", "LICENSE",
]  # fmt: skip
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)#\s]+)")
NAMED = re.compile(r"\[`?[\w./-]+\.(?:md|ipynb)`?\](?=\(([^)#\s]+))")  # a link that says its file
HREF = re.compile(r'(?:(?<=href=")|(?<=src="))(?!https?:|mailto:|data:|#)([^"#]+)')
DRAWING = re.compile(r'<img alt="([^"]*)" src="([^"]*pictures/[^"]+\.svg)" ?/?>')
NOT_RUN = re.compile(r"^<!-- not run: .+? -->\n(?=```)", re.MULTILINE)
LISTS = {
    "<!-- the site lists the commands here -->": all_commands,
    "<!-- the site lists the names here -->": all_names,
}


@event_priority(100)  # before the plugin that makes pages of notebooks
def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside docs/ that pages speak of, code as pages that show it."""
    for path in (path for pattern in OUTSIDE for path in sorted(ROOT.glob(pattern))):
        name = str(path.relative_to(ROOT))
        if path.suffix == ".ipynb":
            files.append(File(name, str(ROOT), config.site_dir, use_directory_urls=False))
            continue
        content = path.read_text() if path.suffix == ".md" else _code_page(path)
        hidden = InclusionLevel.NOT_IN_NAV
        files.append(File.generated(config, _address(name), content=content, inclusion=hidden))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to where the site has their files; drop what is said to the tests."""
    markdown = NOT_RUN.sub("", markdown)
    for mark, listing in LISTS.items():
        if mark in markdown:
            markdown = markdown.replace(mark, listing())
    markdown = NAMED.sub(partial(_by_title, page=page), markdown)
    return LINK.sub(partial(_on_site, page=page, files=files), markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead the links of notebooks, which are no Markdown by now; put drawings into the page."""
    if page.file.src_uri.endswith(".ipynb"):
        html = HREF.sub(partial(_on_site, page=page, files=files, url=True), html)
    return DRAWING.sub(partial(_inline, page=page), html)


def _inline(found: re.Match[str], page: Page) -> str:
    """Put a drawing of docs/pictures into the page itself, where it takes the page's colours."""
    path = os.path.normpath(os.path.join(os.path.dirname(page.file.dest_uri), found[2]))
    drawing = (ROOT / "docs" / path).read_text().partition("<svg ")[2]
    svg = f'<svg role="img" aria-label="{found[1]}" {drawing}'
    return f'<div class="drawing" data-search-exclude>{svg}</div>'


def _by_title(found: re.Match[str], page: Page) -> str:
    """Call a page by its title where a link calls it by its file."""
    path = Path(os.path.normpath(ROOT / _repository_folder(page) / found[1]))
    title = re.search(r"^ *\"?# (.+?)(?:\\n\")?,?$", path.read_text(), re.MULTILINE)
    return f"[{title[1].partition(':')[0]}]" if title else found[0]


def _code_page(path: Path) -> str:
    kind = {".py": "python", ".cff": "yaml"}.get(path.suffix, "text")
    return f"# {path.relative_to(ROOT)}\n\n````{kind}\n{path.read_text()}````\n"


def _address(name: str) -> str:
    """Where the site has a file of the repository, from the site's root."""
    if name == "README.md":
        return "index.md"
    if name.startswith("docs/"):
        return name.removeprefix("docs/")
    return name if name.endswith((".md", ".ipynb")) else f"{name}.md"


def _on_site(found: re.Match[str], page: Page, files: Files, url: bool = False) -> str:
    """Give the link to a file from a page of the site; what is not on it stays as it was."""
    name = os.path.normpath(os.path.join(_repository_folder(page), found[1]))
    wanted = files.get_file_from_path(_address(name))
    if wanted is None:
        return found[1]
    if url:
        return get_relative_url(wanted.url, page.url)
    return os.path.relpath(wanted.src_uri, os.path.dirname(page.file.src_uri) or ".")


def _repository_folder(page: Page) -> str:
    """Give the folder of the repository in which a page's file is."""
    of = page.file.src_uri
    outside = (ROOT / of.removesuffix(".md")).is_file() or (ROOT / of).is_file()
    return os.path.dirname(of if outside else f"docs/{of}")
