"""Where the nodes of single tokens stand: positions to the right, layers upwards.

The nodes of one position and one row stand together in a few lines. A row is as high as its fullest
cell, and a column as wide; lines run nearly straight from node to node, as there are too many of
them to be led around.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from sae_circuits.viz.boxes import Box, chip_of
from sae_circuits.viz.layout import Layout, Point
from sae_circuits.viz.picture import Picture, PictureEdge, PictureNode

CHIP_GAP, ROW_GAP, COLUMN_GAP = 6.0, 34.0, 12.0
MARGIN_LEFT, MARGIN = 58.0, 14.0
SPREAD = 0.6  # the share of a node's width over which its lines are spread
TOKEN = 5.4  # the width of a letter of a token's text

Cell = tuple[int, int | None]  # row, position
Lines = list[list[PictureNode]]


def place_in_columns(picture: Picture) -> Layout:
    """Place nodes by row and position."""
    boxes = {node.name: chip_of(node) for node in picture.nodes}
    cells: dict[Cell, list[PictureNode]] = {}
    for node in picture.nodes:
        cells.setdefault((node.row, node.pos), []).append(node)
    lines = {cell: _lines(nodes, boxes) for cell, nodes in cells.items()}
    left, columns = MARGIN_LEFT, {}
    for pos, text in [*picture.columns, *_beside(picture)]:
        wide = [_width(line, boxes) for (_, at), its in lines.items() if at == pos for line in its]
        width = max([TOKEN * min(len(text), 12), 16.0, *wide]) + COLUMN_GAP
        columns[pos] = (left, left + width)
        left += width
    heights = {
        row: max(_height(its, boxes) for (at, _), its in lines.items() if at == row)
        for row in range(picture.n_rows)
    }
    total = sum(heights.values()) + ROW_GAP * len(heights) + 2 * MARGIN
    rows, y = {}, total - MARGIN
    for row, height in heights.items():
        rows[row] = y - (height + ROW_GAP) / 2
        y -= height + ROW_GAP
    layout = Layout(left + MARGIN, total, {}, {}, boxes, rows, columns)
    for (row, pos), its in lines.items():
        start, end = columns[pos]
        _stand(its, ((start + end) / 2, rows[row]), layout)
    layout.paths.update(_paths(picture, layout))
    return layout


def _paths(picture: Picture, layout: Layout) -> dict[str, tuple[Point, ...]]:
    """Each edge's ends, spread over the upper side of its source and the underside of its end."""
    starts: dict[str, list[PictureEdge]] = {}
    ends: dict[str, list[PictureEdge]] = {}
    for edge in picture.edges:
        starts.setdefault(edge.src, []).append(edge)
        ends.setdefault(edge.dest, []).append(edge)
    begin = {
        edge.name: (x, y - layout.boxes[src].height / 2)
        for src, its in starts.items()
        for edge, (x, y) in _spread(src, sorted(its, key=lambda e: layout.nodes[e.dest]), layout)
    }
    end = {
        edge.name: (x, y + layout.boxes[dest].height / 2)
        for dest, its in ends.items()
        for edge, (x, y) in _spread(dest, sorted(its, key=lambda e: layout.nodes[e.src]), layout)
    }
    return {edge.name: (begin[edge.name], end[edge.name]) for edge in picture.edges}


def _spread(
    name: str, edges: Sequence[PictureEdge], layout: Layout
) -> Iterator[tuple[PictureEdge, Point]]:
    (x, y), width = layout.nodes[name], SPREAD * layout.boxes[name].width
    for i, edge in enumerate(edges):
        yield edge, (round(x + width * ((i + 0.5) / len(edges) - 0.5), 1), y)


def _beside(picture: Picture) -> Sequence[tuple[int | None, str]]:
    """A last column for nodes that belong to no position."""
    return [(None, "")] if any(node.pos is None for node in picture.nodes) else []


def _lines(nodes: Sequence[PictureNode], boxes: Mapping[str, Box]) -> Lines:
    """Break a cell's nodes into lines, so that the cell is wider than it is high."""
    area = sum((boxes[n.name].width + CHIP_GAP) * (boxes[n.name].height + CHIP_GAP) for n in nodes)
    wanted = max(2 * math.sqrt(area), max(boxes[node.name].width for node in nodes))
    lines: Lines = [[]]
    for node in nodes:
        if lines[-1] and _width([*lines[-1], node], boxes) > wanted:
            lines.append([])
        lines[-1].append(node)
    return lines


def _width(line: Sequence[PictureNode], boxes: Mapping[str, Box]) -> float:
    return sum(boxes[node.name].width for node in line) + CHIP_GAP * (len(line) - 1)


def _height(lines: Lines, boxes: Mapping[str, Box]) -> float:
    return sum(max(boxes[n.name].height for n in line) for line in lines) + CHIP_GAP * (
        len(lines) - 1
    )


def _stand(lines: Lines, middle: Point, layout: Layout) -> None:
    """Place a cell's lines around its middle, the first at the top."""
    y = middle[1] - _height(lines, layout.boxes) / 2
    for line in lines:
        height = max(layout.boxes[node.name].height for node in line)
        x = middle[0] - _width(line, layout.boxes) / 2
        for node in line:
            width = layout.boxes[node.name].width
            layout.nodes[node.name] = round(x + width / 2, 1), round(y + height / 2, 1)
            x += width + CHIP_GAP
        y += height + CHIP_GAP
