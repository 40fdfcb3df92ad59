"""Where the parts of a picture stand, for drawing it without Graphviz.

Rows are given. An edge over several rows gets a waypoint in each row between, so that no line runs
under a node. Sweeps up and down then order each row by the mean position of its neighbours (the
barycentre rule of Sugiyama, Tagawa and Toda 1981) and move all items as near to that mean as the
order and their widths allow, which is a least-squares problem that pooling solves exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from sae_circuits.graph.nodes import Port
from sae_circuits.viz.boxes import NODE_HEIGHT, Box, box_of
from sae_circuits.viz.picture import Picture, PictureNode

ROW_HEIGHT = 92.0
GAP, LANE, MARGIN = 16.0, 9.0, 90.0
HANDLE, BOW = 40.0, 30.0
LOOP = 60.0  # how far a line that does not run upwards leaves its nodes
STEEPEST = GAP / NODE_HEIGHT  # sideways for each step up, beside a node
N_SWEEPS = 24

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Layout:
    """The middle and the box of each node, and the points of each edge, y downwards.

    `rows` are the middles of rows that are not all equally high, and `columns` the edges of the
    columns of a picture that has them.
    """

    width: float
    height: float
    nodes: dict[str, Point]
    paths: dict[str, tuple[Point, ...]]
    boxes: dict[str, Box] = field(default_factory=dict)
    rows: dict[int, float] = field(default_factory=dict)
    columns: dict[int, tuple[float, float]] = field(default_factory=dict)

    def row_y(self, row: int) -> float:
        """The middle of a row."""
        return self.rows[row] if self.rows else self.height - (row + 0.5) * ROW_HEIGHT

    def outlet(self, name: str) -> Point:
        """Where edges leave a node: the middle of its upper side."""
        x, y = self.nodes[name]
        return x, y - self.boxes[name].height / 2

    def inlet(self, node: PictureNode, port: Port | None = None) -> Point:
        """Where an edge enters a node: the cell of its port, or the middle of the underside."""
        (x, y), box = self.nodes[node.name], self.boxes[node.name]
        if port in node.ports:
            cell = box.width / len(node.ports)
            x += (node.ports.index(port) + 0.5) * cell - box.width / 2
        return round(x, 1), y + box.height / 2

    def control(self, edge: str, cut: float = 0.0) -> list[Point]:
        """The control points of an edge's line, which ends a little below its destination."""
        *points, (x, y) = self.paths[edge]
        return (bend if self.columns else curve)([*points, (x, y + cut)])


@dataclass(slots=True)
class _Item:
    """A node, or an edge's waypoint: what a row is made of while it is ordered."""

    row: int
    width: float
    below: list[_Item]
    above: list[_Item]
    x: float = 0.0


def place(picture: Picture) -> Layout:
    """Place nodes in rows, the input at the bottom, and lead the edges between them."""
    boxes = {node.name: box_of(node) for node in picture.nodes}
    nodes = {n.name: _Item(n.row, boxes[n.name].width + GAP, [], []) for n in picture.nodes}
    lanes = {edge.name: _lane(nodes[edge.src], nodes[edge.dest]) for edge in picture.edges}
    for low, high in (*picture.links, *picture.within):
        _lane(nodes[low], nodes[high])
    rows: list[list[_Item]] = [[] for _ in range(picture.n_rows)]
    for item in (*nodes.values(), *(item for lane in lanes.values() for item in lane)):
        rows[item.row].append(item)
    _order(rows)
    left = min((i.x - i.width / 2 for row in rows for i in row), default=0.0) - MARGIN
    right = max((i.x + i.width / 2 for row in rows for i in row), default=0.0) + MARGIN / 2

    layout = Layout(round(right - left, 1), picture.n_rows * ROW_HEIGHT, {}, {}, boxes)

    def point(item: _Item) -> Point:
        return round(item.x - left, 1), layout.row_y(item.row)

    layout.nodes.update({name: point(item) for name, item in nodes.items()})
    parts = {node.name: node for node in picture.nodes}
    for edge in picture.edges:
        start, end = layout.outlet(edge.src), layout.inlet(parts[edge.dest], edge.port)
        layout.paths[edge.name] = (start, *map(point, lanes[edge.name]), end)
    return layout


def curve(points: Sequence[Point]) -> list[Point]:
    """The control points of a smooth curve through points, vertical at both ends.

    Between two points x is a cubic in y: a Bezier curve of four control points, the last of which
    is the first of the next. Slopes are harmonic means of the neighbouring ones, and 0 where the
    direction turns, so that the curve nowhere swings beyond its points (Fritsch and Butland 1984);
    and so small that a line stays in the gap between two nodes for their whole height. Only
    groups can be joined by a line that does not run upwards; it leaves and enters in a loop.
    """
    if len(points) == 2 and points[1][1] >= points[0][1]:
        (x0, y0), (x1, y1) = points
        return [(x0, y0), (x0, y0 - LOOP), (x1, y1 + LOOP), (x1, y1)]
    steps = [(x1 - x0) / (y1 - y0) for (x0, y0), (x1, y1) in pairwise(points)]
    means = [2 * a * b / (a + b) if a * b > 0 else 0.0 for a, b in pairwise(steps)]
    inner = [max(-STEEPEST, min(STEEPEST, mean)) for mean in means]
    slopes = [0.0, *inner, 0.0]
    control = [points[0]]
    for ((x0, y0), a), ((x1, y1), b) in pairwise(zip(points, slopes, strict=True)):
        part = (y1 - y0) / (3 if a or b else 2)  # a lone bend is rounder with longer handles
        control += [(x0 + a * part, y0 + part), (x1 - b * part, y1 - part), (x1, y1)]
    return [(round(x, 1), round(y, 1)) for x, y in control]


def bend(points: Sequence[Point]) -> list[Point]:
    """The control points of a line among columns: nearly straight, vertical only at its ends.

    A line within a column bows to the left, so that it shows beside the nodes between.
    """
    (x0, y0), (x1, y1) = points
    rise = y0 - y1
    if rise <= 0:
        return curve(points)
    handle = min(0.4 * rise, HANDLE)
    beside = max(0.0, 1 - abs(x1 - x0) / HANDLE)
    bow = -4 / 3 * beside * min(0.12 * rise, BOW)
    control = [(x0, y0), (x0 + bow, y0 - handle), (x1 + bow, y1 + handle), (x1, y1)]
    return [(round(x, 1), round(y, 1)) for x, y in control]


def within_lines(picture: Picture, layout: Layout) -> list[tuple[str, str, list[Point]]]:
    """A line for each link within a component: its ends and its control points.

    Where several heads are joined to several parts, all lines meet in one point between them, so
    that there are as many lines as ends.
    """
    nodes = {node.name: node for node in picture.nodes}
    readers: dict[str, list[str]] = {}
    for reader, part in picture.within:
        readers.setdefault(part, []).append(reader)
    bundles: dict[tuple[str, ...], list[str]] = {}
    for part, its in readers.items():
        bundles.setdefault(tuple(its), []).append(part)
    lines = []
    for low, high in bundles.items():
        starts = [layout.outlet(name) for name in low]
        ends = [layout.inlet(nodes[name]) for name in high]
        if len(low) == 1 or len(high) == 1:
            lines += [
                (a, b, curve([start, end]))
                for a, start in zip(low, starts, strict=True)
                for b, end in zip(high, ends, strict=True)
            ]
            continue
        middle = (
            round(sum(x for x, _ in starts) / len(starts), 1),
            (min(y for _, y in starts) + max(y for _, y in ends)) / 2,
        )
        lines += [(a, high[0], curve([p, middle])) for a, p in zip(low, starts, strict=True)]
        lines += [(low[0], b, curve([middle, p])) for b, p in zip(high, ends, strict=True)]
    return lines


def arrow_size(width: float) -> tuple[float, float]:
    """The length and half the breadth of the head of a line of a width."""
    return 4 + width, 2 + width / 2


def _lane(src: _Item, dest: _Item) -> list[_Item]:
    """Join two nodes through one waypoint for each row between them."""
    lane = [_Item(row, LANE, [], []) for row in range(src.row + 1, dest.row)]
    for low, high in zip([src, *lane], [*lane, dest], strict=True):
        low.above.append(high)
        high.below.append(low)
    return lane


def _order(rows: list[list[_Item]]) -> None:
    """Sweep up and down until rows settle; the last sweeps look both ways."""
    for row in rows:
        _settle(row, [0.0] * len(row))
    for sweep in range(N_SWEEPS):
        upwards, both = sweep % 2 == 0, sweep >= N_SWEEPS - 8
        for row in rows if upwards else reversed(rows):
            wishes = [
                _mean(i.below + i.above if both else i.below if upwards else i.above, i.x)
                for i in row
            ]
            if not both:  # once the order has settled, only the distances change
                by_wish = sorted(zip(wishes, range(len(row)), strict=True))
                row[:] = [row[i] for _, i in by_wish]
                wishes = [wish for wish, _ in by_wish]
            _settle(row, wishes)


def _mean(items: Sequence[_Item], default: float) -> float:
    return sum(item.x for item in items) / len(items) if items else default


def _settle(row: Sequence[_Item], wishes: Sequence[float]) -> None:
    """Move items as near to their wishes as their order and widths allow, in least squares.

    With each item's wish measured from the place that the widths to its left would give it, the
    distances must not decrease: isotonic regression, solved by pooling neighbours that violate it.
    """
    offsets, reach = [], 0.0
    for item in row:
        offsets.append(reach + item.width / 2)
        reach += item.width
    pools: list[tuple[float, int]] = []  # mean, size
    for wish, offset in zip(wishes, offsets, strict=True):
        pools.append((wish - offset, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, m), (b, n) = pools[-2:]
            pools[-2:] = [((a * m + b * n) / (m + n), m + n)]
    starts = (mean for mean, size in pools for _ in range(size))
    for item, start, offset in zip(row, starts, offsets, strict=True):
        item.x = start + offset
