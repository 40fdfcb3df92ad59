from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sae_circuits.graph import Circuit
from sae_circuits.viz import picture
from sae_circuits.viz.boxes import NODE_HEIGHT, NODE_WIDTH
from sae_circuits.viz.layout import (
    GAP,
    LANE,
    ROW_HEIGHT,
    _Item,
    _settle,
    curve,
    place,
)
from small_circuits import by_hand, random_circuit


@pytest.mark.parametrize("n_edges", [1, 5, 50, 200])
def test_nodes_keep_their_distance_and_lines_keep_off_nodes(n_edges: int) -> None:
    drawn = picture(random_circuit(4, 4, n_edges))
    layout = place(drawn)
    by_row: dict[float, list[float]] = {}
    for x, y in layout.nodes.values():
        by_row.setdefault(y, []).append(x)
        assert NODE_WIDTH / 2 <= x <= layout.width - NODE_WIDTH / 2
        assert NODE_HEIGHT / 2 <= y <= layout.height - NODE_HEIGHT / 2
    for row in by_row.values():
        assert all(b - a >= NODE_WIDTH + GAP - 0.2 for a, b in pairwise(sorted(row)))
    nearest = (NODE_WIDTH + GAP + LANE) / 2 - 0.2
    for path in layout.paths.values():
        for x, y in path[1:-1]:
            assert all(abs(x - other) >= nearest for other in by_row[y])


def test_rows_grow_upwards_and_edges_run_upwards() -> None:
    drawn = picture(by_hand())
    layout = place(drawn)
    ys = [layout.nodes[node.name][1] for node in drawn.nodes]
    assert ys == [layout.row_y(node.row) for node in drawn.nodes]
    assert layout.row_y(0) - layout.row_y(1) == ROW_HEIGHT
    for path in layout.paths.values():
        assert all(low[1] > high[1] for low, high in pairwise(path))


def test_edges_end_at_the_cell_of_their_port() -> None:
    layout = place(picture(by_hand()))
    x, y = layout.nodes["a1.h0"]
    assert layout.paths["a0.h1->a1.h0<k>"][-1] == (x, y + NODE_HEIGHT / 2)
    assert layout.paths["m0->a1.h0<q>"][-1][0] == pytest.approx(x - NODE_WIDTH / 3, abs=0.06)
    assert layout.paths["a1.h0->logits"][0] == (x, y - NODE_HEIGHT / 2)


def test_the_same_circuit_is_placed_the_same() -> None:
    circuit = random_circuit(3, 3, 60)
    assert place(picture(circuit)) == place(picture(circuit))


def test_an_empty_picture_has_a_layout() -> None:
    layout = place(picture(Circuit.empty(by_hand().graph)))
    assert (layout.nodes, layout.paths, layout.height) == ({}, {}, 0)


@given(
    st.lists(st.tuples(st.floats(-500, 500), st.sampled_from([9.0, 60.0])), min_size=1, max_size=12)
)
@settings(deadline=None)
def test_settling_is_the_least_squares_solution(row: list[tuple[float, float]]) -> None:
    items = [_Item(0, width, [], []) for _, width in row]
    wishes = [wish for wish, _ in row]
    _settle(items, wishes)
    for a, b in pairwise(items):
        assert b.x - a.x >= (a.width + b.width) / 2 - 1e-6
    # Moving a touching group as a whole cannot help: within it the misses sum to zero.
    group = [0]
    for i in range(1, len(items) + 1):
        touches = i < len(items) and (
            items[i].x - items[i - 1].x - (items[i].width + items[i - 1].width) / 2 < 1e-6
        )
        if touches:
            group.append(i)
            continue
        assert sum(items[j].x - wishes[j] for j in group) == pytest.approx(0, abs=1e-5)
        group = [i]


@given(st.lists(st.integers(-300, 300), min_size=2, max_size=8))
@settings(deadline=None)
def test_a_curve_stays_between_its_points(xs: list[int]) -> None:
    points = [(float(x), -92.0 * i) for i, x in enumerate(xs)]
    control = curve(points)
    assert control[::3] == points
    for i in range(0, len(control) - 1, 3):
        low, high = sorted((control[i][0], control[i + 3][0]))
        assert all(low - 0.1 <= x <= high + 0.1 for x, _ in control[i : i + 4])
    assert control[0][0] == control[1][0]  # vertical at both ends
    assert control[-1][0] == control[-2][0]
