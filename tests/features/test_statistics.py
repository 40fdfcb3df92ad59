"""Numbers about features, against slow loops and known answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activity import made_of, random_activity, small_corpus
from reference_statistics import slow_histogram, slow_statistics
from sae_circuits.features.columns import Columns
from sae_circuits.features.statistics import (
    by_rank,
    group_bounds,
    histogram,
    intervals,
    quantiles,
    statistics,
    type_of,
)


def column_of(*values: float) -> tuple[Columns, int]:
    activity = made_of(small_corpus([len(values)]), [[v] for v in values])
    return activity.columns(np.array([0])), len(values)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 1), st.integers(1, 9))
def test_numbers_are_those_of_slow_loops(seed, share, block):
    activity = random_activity((7, 1, 12, 5), share=share, block=block, seed=seed)
    n = int(activity.counted.sum())
    if n == 0:
        return
    dense = activity.dense[activity.counted]
    for columns in activity.blocks():
        found = statistics(columns, n)
        for i, feature in enumerate(columns.features):
            want = slow_statistics(dense[:, feature].astype(float).tolist())
            assert found.type[i] == want.pop("type")
            for name, value in want.items():
                assert getattr(found, name)[i] == pytest.approx(value, nan_ok=True, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 12))
def test_counts_are_those_between_the_edges(seed, bins):
    activity = random_activity((30, 20), 6, share=0.6, seed=seed)
    activity = made_of(activity.corpus, np.round(activity.dense * 4) / 4, activity.counted)  # ties
    n = int(activity.counted.sum())
    for columns in activity.blocks():
        found = statistics(columns, n)
        for cut, closed in ((histogram, "left"), (intervals, "right")):
            made = cut(columns, found, bins)
            assert made.counts.sum(1).tolist() == columns.counts.tolist()
            for i in range(len(columns)):
                values = columns.column(i)[1].tolist()
                if values:
                    assert made.counts[i].tolist() == slow_histogram(
                        values, made.edges[i].tolist(), closed
                    )


def test_the_numbers_of_the_small_case():
    columns, n = column_of(1, 0, 1, 2, 0, 3, 0, 4, 0, 0, 4, 0)
    found = statistics(columns, n)
    assert (found.density[0], found.mean_active[0], found.max[0]) == (0.5, 2.5, 4)
    bins = histogram(columns, found, 4)
    assert bins.counts[0].tolist() == [2, 1, 1, 2]
    assert bins.edges[0].tolist() == [1, 1.75, 2.5, 3.25, 4]
    cut = intervals(columns, found, 4)
    assert cut.counts[0].tolist() == [2, 1, 1, 2]
    assert cut.edges[0].tolist() == [0, 1, 2, 3, 4]
    ends = quantiles(columns, by_rank(columns), 3)
    assert ends[0].tolist() == [1, 1, 3, 4]
    assert group_bounds(columns.counts, 4)[0].tolist() == [0, 1, 3, 4, 6]  # sizes 1, 2, 1, 2


def test_a_dead_feature_has_no_numbers_where_none_are_defined():
    columns, n = column_of(0, 0, 0)
    found = statistics(columns, n)
    assert (found.density[0], found.mean[0], found.max[0], found.type[0]) == (0, 0, 0, "dead")
    assert np.isnan([found.mean_active[0], found.std_active[0], found.max_active[0]]).all()
    assert histogram(columns, found, 5).counts.sum() == 0
    assert np.isnan(quantiles(columns, by_rank(columns), 2)).all()


def test_values_that_are_all_the_same_lie_in_one_bin():
    columns, n = column_of(0.1, 0, 0.1, 0.1)
    found = statistics(columns, n)
    assert histogram(columns, found, 3).counts[0].tolist() == [0, 0, 3]
    assert intervals(columns, found, 3).counts[0].tolist() == [0, 0, 3]


def test_negative_activations_lie_in_intervals_too():
    columns, n = column_of(-2, -1, 0, 2)
    cut = intervals(columns, statistics(columns, n), 4)
    assert cut.edges[0].tolist() == [-2, -1, 0, 1, 2]
    assert cut.counts[0].tolist() == [2, 0, 0, 1]


def test_types_change_at_their_limits():
    limits = [0, 9e-5, 1e-4, 9e-3, 1e-2, 0.09, 0.1, 1]
    assert [type_of(density) for density in limits] == [
        "dead", "ultra-sparse", "sparse", "sparse", "moderate", "moderate", "dense", "dense"
    ]  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 11))
def test_no_bit_depends_on_how_features_are_grouped(seed, block):
    activity = random_activity((40, 9), share=0.5, seed=seed)
    n = int(activity.counted.sum())
    whole = statistics(activity.columns(np.arange(11)), n)
    order = np.random.default_rng(seed).permutation(11)
    for first in range(0, 11, block):
        some = order[first : first + block]
        for name, values in statistics(activity.columns(some), n).arrays().items():
            np.testing.assert_array_equal(values, whole.arrays()[name][some])
