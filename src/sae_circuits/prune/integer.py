"""The best circuit under constraints, by an integer program: the only module of `prune` with scipy.

With x_e = 1 for an edge that is chosen and g_e what it counts,

    maximise   sum_e g_e x_e
    where      at_least <= sum_e x_e <= n,    sum_{e helps} x_e >= help_share sum_e x_e

and, in a connected circuit, with R_uv = 1 where what the reader v sees goes into the writer u,

    x_{u->v} <= live_u       live_u <= sum_v R_uv fed_v      (u not the input)
                             fed_v <= sum_e into v x_e
    x_{u->v} <= useful_v     useful_v <= sum_u R_uv used_u   (v not the logits)
                             used_u <= sum_e out of u x_e

All edges lead on along the forward pass, so that these lines, which look one edge far, put every
chosen edge on a path of chosen edges from the input to the logits.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.errors import NoSolution, OptionError
from sae_circuits.graph import Circuit, Scores, TensorGraph
from sae_circuits.prune.keys import check_count, sizes

LARGEST = 1e3  # what the largest gain is scaled to: HiGHS takes a gap of 1e-6 for none
OPTIMAL, OUT_OF_TIME, INFEASIBLE = 0, 1, 2  # of scipy.optimize.milp's `status`


def select(
    scores: Scores,
    n: int,
    *,
    by: str = "abs",
    connected: bool = True,
    help_share: float = 0.0,
    at_least: int | None = None,
    gap: float = 0.0,
    time_limit: float = 60.0,
) -> Circuit:
    """Choose at most n edges that together count most, under constraints, by an integer program.

    The solver is HiGHS, of scipy.

    Args:
        n: the most edges.
        by: what an edge counts: its size by "abs", `-score` by "help", `score` by "hurt". Where
            some count less than nothing, fewer than n edges may be best.
        connected: every edge lies on a path of chosen edges from the input to the logits.
        help_share: at least this share of the chosen edges helps, by a negative score. (Papers
            that score a loss call those edges positive.)
        at_least: the fewest edges; n for exactly n; by default one.
        gap: how far below the best sum the chosen edges' sum may be, as a share of it.
        time_limit: seconds.

    Raises:
        NoSolution: no circuit satisfies the constraints, or none within `gap` of the best was found
            in time; then the message has the gap that was reached.
        GraphError: n is below zero or above the graph's number of edges.
        OptionError: another option that is out of its range.

    >>> from sae_circuits.graph import Architecture, TensorGraph
    >>> graph = TensorGraph.from_model(Architecture("tiny", 1, 1, 1, 8, 4, 10, 16))
    >>> scores = Scores(graph, torch.tensor([0.1, -3.0, 0.0, 2.0, -0.5, 0.0, 1.0, 0.2]))
    >>> [edge.name for edge in select(scores, 2).edges]
    ['input->a0.h0<k>', 'a0.h0->logits']
    >>> [edge.name for edge in select(scores, 3, help_share=0.6).edges]
    ['input->a0.h0<k>', 'a0.h0->m0', 'm0->logits']

    Reference: Nikankin et al. 2025, arXiv 2510.25786.
    """
    from scipy import optimize, sparse  # only where it is used: it takes a while to load

    graph = scores.graph
    check_count(n, graph.n_edges, "edges", repr(graph))
    gain = sizes(scores, by).detach().cpu().double()
    at_least = min(1, n) if at_least is None else at_least
    _check_options(n, at_least, help_share, gap, time_limit)
    total = torch.ones_like(gain)
    helps = (scores.values < 0).detach().cpu().double()
    rows = [
        optimize.LinearConstraint(_padded(total, graph, connected), at_least, n),
        optimize.LinearConstraint(_padded(helps - help_share, graph, connected), 0),
    ]
    if connected:
        rows.append(optimize.LinearConstraint(_path_rows(graph, sparse), ub=0))
    largest = float(gain.abs().max()) or 1.0
    found = optimize.milp(
        _padded(-gain * LARGEST / largest, graph, connected),
        integrality=_padded(total, graph, connected),
        bounds=optimize.Bounds(0, 1),
        constraints=rows,
        options={"time_limit": time_limit, "mip_rel_gap": gap},
    )
    if found.status != OPTIMAL:
        asked = f"{at_least:,} to {n:,} edges{' on paths from the input to the logits' * connected}"
        asked += f", {help_share:.0%} of them helping" if help_share else ""
        raise _no_solution(found, asked, graph, gap, time_limit)
    mask = torch.from_numpy(found.x[: graph.n_edges] > 0.5)
    return Circuit(graph, mask.to(scores.values.device), scores)


def _check_options(n: int, at_least: int, help_share: float, gap: float, time_limit: float) -> None:
    if not 0 <= at_least <= n:
        raise OptionError(f"at_least={at_least} with n={n}: from 0 to n")
    if not 0 <= help_share <= 1:
        raise OptionError(f"help_share={help_share!r}: a share from 0 to 1")
    if not 0 <= gap < 1:
        raise OptionError(f"gap={gap!r}: a share from 0 to below 1")
    if not time_limit > 0:
        raise OptionError(f"time_limit={time_limit!r}: seconds, above 0")


def _padded(x: Float[Tensor, "edge"], graph: TensorGraph, connected: bool) -> Any:
    """A number for every variable: those of edges, and 0 for those of writers and readers."""
    rest = 2 * (graph.n_src + graph.n_dest) if connected else 0
    return torch.cat([x, x.new_zeros(rest)]).numpy()


def _path_rows(graph: TensorGraph, sparse: Any) -> Any:
    """The left-hand sides of the lines of a connected circuit, all of which are at most 0.

    Columns are x, live, fed, used and useful.
    """
    src, dest = graph.ends(torch.arange(graph.n_edges))
    out_of = _incidence(torch.arange(graph.n_edges), src, (graph.n_edges, graph.n_src), sparse)
    into = _incidence(torch.arange(graph.n_edges), dest, (graph.n_edges, graph.n_dest), sparse)
    counts = torch.tensor([len(readers) for readers in graph.readers_of])
    readers = torch.tensor([v for some in graph.readers_of for v in some], dtype=torch.int64)
    writers = torch.arange(graph.n_src).repeat_interleave(counts)
    reads = _incidence(writers, readers, (graph.n_src, graph.n_dest), sparse)
    inner_src = [i for i, node in enumerate(graph.src_nodes) if node.kind != "input"]
    inner_dest = [i for i, node in enumerate(graph.dest_nodes) if node.kind != "logits"]
    x, u, v = (sparse.eye_array(size) for size in (graph.n_edges, graph.n_src, graph.n_dest))
    u_inner, v_inner = u.tocsr()[inner_src], v.tocsr()[inner_dest]
    return sparse.block_array(
        [
            [x, -out_of, None, None, None],
            [None, u_inner, -reads[inner_src], None, None],
            [-into.T, None, v, None, None],
            [x, None, None, None, -into],
            [None, None, None, -reads.T.tocsr()[inner_dest], v_inner],
            [-out_of.T, None, None, u, None],
        ],
        format="csr",
    )


def _incidence(row: Tensor, column: Tensor, shape: tuple[int, int], sparse: Any) -> Any:
    """A matrix of ones at some places."""
    ones = torch.ones(len(row), dtype=torch.float64).numpy()
    return sparse.csr_array((ones, (row.numpy(), column.numpy())), shape=shape)


def _no_solution(
    found: Any, asked: str, graph: TensorGraph, gap: float, time_limit: float
) -> NoSolution:
    """Why there is no circuit, and what to do."""
    if found.status == INFEASIBLE:
        return NoSolution(
            f"no circuit of {graph!r} has {asked}: allow more edges, fewer at least, or a smaller "
            "share that helps"
        )
    if found.status == OUT_OF_TIME:
        reached = "no circuit" if found.x is None else f"a gap of {found.mip_gap:.2%} to the best"
        return NoSolution(
            f"{time_limit:g} seconds gave {reached} of {asked}, and a gap of {gap:.2%} is asked "
            "for: raise time_limit or gap, or grow the circuit with best_first"
        )
    return NoSolution(f"the solver gave up on {asked}: {found.message}")
