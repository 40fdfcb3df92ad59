"""The page of all public names, each with the first sentence of its docstring."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

API = Path(__file__).parents[1] / "api"
ENTRY = re.compile(r"^::: (sae_circuits\.([\w.]+))$", re.MULTILINE)


def all_names() -> str:
    """List what stands on each page of the API, with links."""
    pages = [path for path in sorted(API.glob("*.md")) if path.name != "index.md"]
    return "\n\n".join(_table(path) for path in pages)


def _table(path: Path) -> str:
    text = path.read_text()
    title = re.search(r"^# (.+)$", text, re.MULTILINE)
    rows = [_row(path.name, found[1]) for found in ENTRY.finditer(text)]
    return "\n".join([f"## {title[1] if title else path.stem}", "", "| | |", "|---|---|", *rows])


def _row(page: str, path: str) -> str:
    module, _, name = path.rpartition(".")
    value = getattr(importlib.import_module(module), name)
    of = next((f"{m}." for m in ("tasks", "viz") if path.startswith(f"sae_circuits.{m}.")), "")
    return f"| [`{of}{name}`]({page}#{path}) | {_first_sentence(value)} |"


def _first_sentence(value: Any) -> str:
    if not (isinstance(value, ModuleType) or callable(value)):
        return ""
    said = " ".join((inspect.getdoc(value) or "").partition("\n\n")[0].split())
    return re.split(r"(?<=\.)\s", said)[0].replace("|", "\\|")
