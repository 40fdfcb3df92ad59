"""Docstrings as the site wants them: examples as code, arguments that share a line as one item."""

from __future__ import annotations

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"(?:^[ ]*>>>.*\n(?:^[ ]*\S.*\n?)*)+", re.MULTILINE)  # up to an empty line
NAMES = re.compile(r"^(    \w+(?:, \*{0,2}\w+)*,)\n {8}(?=[^\n]*:)", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Changes docstrings before they are parsed."""

    def on_object(self, *, obj: griffe.Object, **others: Any) -> None:
        """Rewrite the docstring of whatever has been read."""
        if obj.docstring is not None:
            text = NAMES.sub(r"\1 ", obj.docstring.value + "\n")
            obj.docstring.value = EXAMPLE.sub(_fenced, text).rstrip("\n")


def _fenced(found: re.Match[str]) -> str:
    """Set an example as code that is typed in, at the depth of its first line."""
    lines = found[0].rstrip("\n").split("\n")
    depth = re.match(" *", lines[0])[0]
    return "\n".join([f"{depth}```pycon", *lines, f"{depth}```", ""])
