"""The layers of the library as a drawing, made of the list that import-linter holds the code to."""

from __future__ import annotations

import re
from pathlib import Path

from sheet import Sheet

ROOT = Path(__file__).parents[2]
ROW = re.compile(r'^    "(?P<names>[\w |:]+)",  # (?P<what>.+)$')


def rows() -> list[tuple[list[str], str]]:
    """The layers from the top, each with the packages in it and what is said of them."""
    text = (ROOT / "pyproject.toml").read_text()
    listed = text.partition("\nlayers = [\n")[2].partition("\n]")[0].splitlines()
    found = [ROW.match(line) for line in listed]
    if bad := [line for line, row in zip(listed, found, strict=True) if row is None]:
        raise ValueError(f"say what a layer is, in a comment behind it: {bad[0].strip()}")
    return [(re.split(" [|:] ", row["names"]), row["what"]) for row in found if row]


def layers() -> Sheet:
    """A row for each layer; what stands lower may be imported by all above it."""
    found = rows()
    sheet = Sheet(860, 34 * len(found) + 40)
    sheet.line([(20, 20), (20, 34 * len(found) + 14)], "helps wide", tip=True)
    for i, (names, what) in enumerate(found):
        y, x = 20 + 34 * i, 48.0
        for name in names:
            wide = 9 * len(name) + 24
            sheet.box(x, y, wide, 27, name)
            x += wide + 8
        sheet.text(max(x + 8, 220), y + 18, what, "small faint", "start")
    sheet.text(48, 34 * len(found) + 32, "imports run downwards only", "small helps", "start")
    return sheet
