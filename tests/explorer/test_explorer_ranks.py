"""In which order a page shows edges."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sae_circuits as sc
from sae_circuits.errors import NumericalError
from sae_circuits.explorer.ranks import rank
from small_explorer import tied


@given(st.integers(0, 50), st.integers(0, 46), st.sampled_from(["abs", "help", "hurt"]))
def test_the_first_n_of_the_ranks_are_what_top_n_keeps(seed: int, size: int, by: str) -> None:
    scores = tied(seed=seed)
    n = scores.graph.n_edges
    ranks = rank(sc.prune.top_n(scores, min(size, n), by=by).mask, scores.values, n, by)
    assert (ranks.by, ranks.own, ranks.size) == (by, False, min(size, n))
    for m in range(n + 1):
        kept = sc.prune.top_n(scores, m, by=by).mask.nonzero()[:, 0]
        assert ranks.ids[:m].sort().values.tolist() == kept.tolist()


@given(st.integers(0, 50), st.integers(1, 40))
def test_a_circuit_of_any_edges_comes_first_and_says_so(seed: int, size: int) -> None:
    scores = tied(seed=seed)
    inside = torch.zeros(scores.graph.n_edges, dtype=torch.bool)
    inside[torch.randperm(len(inside), generator=torch.Generator().manual_seed(seed))[:size]] = True
    ranks = rank(inside, scores.values, len(inside))
    assert set(ranks.ids[:size].tolist()) == set(inside.nonzero()[:, 0].tolist())
    assert sorted(ranks.ids.tolist()) == list(range(len(inside)))
    if ranks.own:
        sizes = scores.values[ranks.ids].abs()
        for part in (sizes[:size], sizes[size:]):
            assert part.tolist() == sorted(part.tolist(), reverse=True)
        for by in ("abs", "help", "hurt"):
            assert not torch.equal(sc.prune.top_n(scores, size, by=by).mask, inside)


def test_the_order_that_is_asked_for_is_tried_first() -> None:
    scores = torch.tensor([-3.0, -2.0, 1.0])
    inside = torch.tensor([True, True, False])
    assert [rank(inside, scores, 3, by).by for by in (None, "help", "hurt")] == [
        "abs", "help", "abs",
    ]  # fmt: skip


def test_without_scores_edges_stand_in_their_own_order() -> None:
    ranks = rank(torch.tensor([False, True, True, True]), None, 2)
    assert (ranks.ids.tolist(), ranks.size, ranks.by) == ([1, 2], 2, None)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_refused(bad: float) -> None:
    with pytest.raises(NumericalError, match="1 scores are not finite numbers"):
        rank(torch.tensor([True, False]), torch.tensor([1.0, bad]), 2)
