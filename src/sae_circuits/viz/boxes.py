"""How large a node is drawn, and which text stands in it."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from sae_circuits.viz.picture import PictureNode

NODE_WIDTH, NODE_HEIGHT = 58.0, 34.0
WIDEST = 132.0
PORT_HEIGHT = 11.0


@dataclass(frozen=True, slots=True)
class Box:
    """A node's size in points, its label in lines, and the size of its letters."""

    width: float = NODE_WIDTH
    height: float = NODE_HEIGHT
    lines: tuple[str, ...] = ()
    letters: float = 12.0


def box_of(node: PictureNode) -> Box:
    """The box of a node among rows: as wide as its name or its label needs."""
    lines = wrapped(node.label, 22)
    text = 6.6 * len(node.text) + 14 if node.is_wide else 0.0
    label = max((4.6 * len(line) + 14 for line in lines), default=0.0)
    width = min(max(NODE_WIDTH, text, label), WIDEST)
    return Box(round(width), NODE_HEIGHT + (6 + 6 * len(lines) if lines else 0), lines)


def chip_of(node: PictureNode) -> Box:
    """The smaller box of a node among columns, where hundreds have to fit."""
    lines = wrapped(node.label, 18)
    label = max((4.3 * len(line) + 12 for line in lines), default=0.0)
    width = min(max(32.0, 5.6 * len(clipped(node.text, 16)) + 12, label), WIDEST)
    return Box(round(width), 18.0 + 9.0 * len(lines), lines, 9.5)


def wrapped(text: str, width: int) -> tuple[str, ...]:
    """A text in at most two lines; what does not fit ends in an ellipsis.

    >>> wrapped("the second of two names, after 'and', in a list", 22)
    ('the second of two', "names, after 'and', …")
    """
    lines = textwrap.wrap(text, width, max_lines=2, placeholder=" …")
    return tuple(clipped(line, width) for line in lines)


def clipped(text: str, width: int) -> str:
    """A text of at most a number of letters.

    >>> clipped("antidisestablishment", 8)
    'antidis…'
    """
    return text if len(text) <= width else text[: width - 1] + "…"
