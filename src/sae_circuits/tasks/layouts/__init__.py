"""The layouts in which data sets of clean and corrupt prompts are published, one a module."""

from __future__ import annotations

import re
from collections.abc import Collection

from sae_circuits.errors import FileFormatError, unknown
from sae_circuits.tasks.layouts import eap_ig, feature_circuits, mib, plain
from sae_circuits.tasks.layouts.layout import About, Layout, Written

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (plain.LAYOUT, eap_ig.LAYOUT, mib.LAYOUT, feature_circuits.LAYOUT)
}


SEPARATORS = re.compile("[;\\t|]")  # of tables that are not quite CSV


def get(name: str) -> Layout:
    """Return a layout by name.

    Raises:
        UnknownName: there is none of this name.

    >>> get("mib").name
    'mib'
    """
    if name not in LAYOUTS:
        raise unknown("layout", name, LAYOUTS)
    return LAYOUTS[name]


def find(columns: Collection[str], source: str) -> Layout:
    """Return the layout that has such columns.

    Raises:
        FileFormatError: none has; the message lists the columns of each.

    >>> find(["clean", "corrupted", "correct_idx", "incorrect_idx"], "ioi.csv").name
    'eap-ig'
    """
    for layout in LAYOUTS.values():
        if layout.fits(columns):
            return layout
    if len(columns) == 1 and (found := SEPARATORS.search(str(next(iter(columns))))):
        raise FileFormatError(
            f"{source} has one column, {str(next(iter(columns)))!r}: its values are separated by "
            f"{found[0]!r}; save it with commas"
        )
    known = "; ".join(f"{layout.name}: {layout.columns}" for layout in LAYOUTS.values())
    raise FileFormatError(
        f"{source} has the columns {', '.join(map(str, columns)) or 'of nothing'}, and no layout "
        f"has these ({known}): rename them, or say in Python which is which: "
        "Task.from_file(model, path, columns={{'clean': ...}})"
    )


__all__ = ["LAYOUTS", "About", "Layout", "Written", "find", "get"]
