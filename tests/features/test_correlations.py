"""Neighbours over all pairs, against dense references that know nothing of blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sae_circuits.features.nearest as nearest_module
import sae_circuits.features.numerics.sparse as sparse_module
from activity import MemoryActivity, made_of, random_activity, small_corpus
from sae_circuits.errors import CorpusError, NumericalError, OptionError, UnknownName
from sae_circuits.features.arrays import ArrayActivity
from sae_circuits.features.relations import correlations


def dense_measures(a: np.ndarray, b: np.ndarray) -> dict[str, np.ndarray]:
    """All pairs [feature of a, feature of b] on the same counted tokens; NaN where undefined."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    both = np.concatenate([a, b], 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        pearson = np.corrcoef(both, rowvar=False)[: a.shape[1], a.shape[1] :]
        constant_a, constant_b = (np.ptp(x, axis=0) == 0 for x in (a, b))
        pearson[constant_a] = np.nan
        pearson[:, constant_b] = np.nan
        cosine = (a.T @ b) / np.outer(np.linalg.norm(a, axis=0), np.linalg.norm(b, axis=0))
        on_a, on_b = a != 0, b != 0
        together = (on_a[:, :, None] & on_b[:, None, :]).sum(0)
        jaccard = together / (on_a[:, :, None] | on_b[:, None, :]).sum(0)
    jaccard[~on_a.any(0)] = np.nan
    jaccard[:, ~on_b.any(0)] = np.nan
    return {"pearson": pearson, "cosine": cosine, "jaccard": jaccard, "together": together}


def require_equal(table, activity: MemoryActivity, other: MemoryActivity | None, k: int) -> None:
    """Every row of a table is what the reference has, and nothing nearer is left out."""
    right = other or activity
    want = dense_measures(activity.dense[activity.counted], right.dense[activity.counted])
    together = want.pop("together")
    for name, values in want.items():
        rows = table[table.measure == name]
        for f in range(activity.n_features):
            allowed = ~np.isnan(values[f])
            if other is None:
                allowed[f] = False
            mine = rows[rows.feature == f]
            best = np.sort(values[f][allowed])[::-1][:k]
            assert mine["rank"].tolist() == list(range(1, len(best) + 1))
            assert np.allclose(mine.value, best, atol=1e-12, rtol=0)
            assert allowed[mine.other].all()
            assert mine.other.is_unique
            assert np.allclose(mine.value, values[f][mine.other], atol=1e-12, rtol=0)
            assert mine.together.tolist() == together[f][mine.other].tolist()


@pytest.mark.parametrize("k", [1, 4, 50])
@pytest.mark.parametrize("share", [0.03, 0.3, 0.9])
def test_neighbours_are_those_of_the_dense_reference(share, k):
    activity = random_activity((9, 1, 20, 14), 17, share=share, seed=3)
    require_equal(correlations(activity, k), activity, None, k)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 9),
    share=st.floats(0.02, 1.0),
    levels=st.sampled_from([0, 1, 2]),
    k=st.integers(1, 10),
)
def test_on_anything(seed, n, share, levels, k):
    activity = random_activity((5, 2, 8), n, share=share, seed=seed)
    if levels:  # few different values: many ties, and sums that cancel
        dense = np.sign(activity.dense) * np.ceil(np.abs(activity.dense) * levels).clip(0, levels)
        activity = made_of(activity.corpus, dense, activity.counted)
    require_equal(correlations(activity, k), activity, None, k)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    block=st.integers(1, 12),
    at_once=st.integers(1, 200),
    cells=st.integers(1, 200),
    dense=st.sampled_from([0.0, 0.2, 2.0]),
    share=st.floats(0.05, 1.0),
)
def test_no_bit_depends_on_blocks(seed, block, at_once, cells, dense, share):
    drawn = random_activity((30, 30), 8, share=share, seed=seed)
    whole = correlations(made_of(drawn.corpus, drawn.dense, drawn.counted, block=99), 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest_module, "CELLS", cells)
        patch.setattr(sparse_module, "DENSE", dense)
        activity = made_of(drawn.corpus, drawn.dense, drawn.counted, block=block)
        pieces = correlations(activity, 3, at_once=at_once)
    assert pieces.equals(whole)


def test_order_asked_for_and_other_features_change_nothing():
    activity = random_activity(n_features=11, seed=5)
    whole = correlations(activity, 4)
    some = correlations(activity, 4, features=[7, 2, 9], measures=["jaccard", "pearson"])
    assert list(dict.fromkeys(some.measure)) == ["jaccard", "pearson"]
    assert list(dict.fromkeys(some.feature)) == [7, 2, 9]
    for name in ("jaccard", "pearson"):
        for f in (7, 2, 9):
            a, b = (t[(t.measure == name) & (t.feature == f)] for t in (some, whole))
            assert a.reset_index(drop=True).equals(b.reset_index(drop=True))


def test_a_pair_has_the_same_number_from_both_sides():
    table = correlations(random_activity((40,), 8, share=0.5, seed=1), 8)
    for _, rows in table.groupby("measure"):
        value = {(r.feature, r.other): r.value for r in rows.itertuples()}
        assert len(value) == 7 * 6
        assert all(value[j, i] == v for (i, j), v in value.items())


def test_dead_constant_and_equal_features():
    corpus = small_corpus((4,))
    dead, same, a = [0, 0, 0, 0], [2, 2, 2, 2], [1, 0, 2, 0]
    activity = made_of(corpus, np.array([a, dead, same, a, [0, 3, 0, 0], a]).T)
    table = correlations(activity, 5)
    lists = {
        (m, f): list(zip(g.other, g.value.round(6), strict=True))
        for (m, f), g in table.groupby(["measure", "feature"])
    }
    assert lists["pearson", 0] == [(3, 1), (5, 1), (4, -0.522233)]
    assert lists["pearson", 3] == [(0, 1), (5, 1), (4, -0.522233)]  # ties by id
    assert lists["cosine", 0] == [(3, 1), (5, 1), (2, 0.67082), (4, 0)]
    assert lists["jaccard", 4] == [(2, 0.25), (0, 0), (3, 0), (5, 0)]
    assert ("pearson", 2) not in lists  # constant
    assert {f for _, f in lists} == {0, 2, 3, 4, 5}
    assert not (table.other == 1).any()
    assert np.isfinite(table.value).all()


def test_sums_that_cancel_are_pairs_all_the_same():
    activity = made_of(small_corpus((3,)), [[1, 1], [1, -1], [0, 2]])
    row = correlations(activity, 1, measures=["cosine"]).iloc[0]
    assert (row.other, row.value, row.together) == (1, 0.0, 2)


def test_nothing_is_counted_or_all_is_dead():
    corpus = small_corpus((3,))
    for activity in (
        made_of(corpus, np.ones((3, 2)), np.zeros(3, bool)),
        made_of(corpus, np.zeros((3, 2))),
        made_of(corpus, np.ones((3, 1))),
    ):
        table = correlations(activity)
        assert len(table) == 0
        assert list(table.columns) == "measure feature rank other value together".split()


def test_features_of_a_second_dictionary_and_neurons():
    left = random_activity((9, 12), 7, seed=1)
    right = random_activity((9, 12), 5, seed=2, share=0.5)
    right = made_of(left.corpus, right.dense, left.counted)
    require_equal(correlations(left, 4, other=right), left, right, 4)
    neurons = np.random.default_rng(0).standard_normal((21, 6)).astype(np.float32)
    held = made_of(left.corpus, neurons, left.counted)
    for at_once in (1, 50, 10**6):
        other = ArrayActivity(left.corpus, left.counted, neurons, at_once)
        assert [c.starts.tolist() for c in other.blocks()]
        require_equal(correlations(left, 4, other=other), left, held, 4)
    own = correlations(left, 1, other=left, measures=["cosine"])
    assert own.feature.tolist() == own.other.tolist()
    assert np.allclose(own.value, 1, atol=1e-15)


def test_an_array_gives_the_columns_of_its_numbers():
    activity = random_activity(seed=4)
    array = ArrayActivity(activity.corpus, activity.counted, activity.dense)
    for features in ([3, 1, 0], list(range(11))):
        a, b = (x.columns(np.array(features)) for x in (activity, array))
        for name in ("features", "starts", "places", "values"):
            assert np.array_equal(getattr(a, name), getattr(b, name))


def test_what_does_not_fit_is_refused():
    activity = random_activity(seed=1)
    with pytest.raises(UnknownName, match="did you mean 'pearson'"):
        correlations(activity, measures=["person"])
    with pytest.raises(OptionError, match="k is 0"):
        correlations(activity, 0)
    with pytest.raises(UnknownName, match="no feature 11: there are 11, 0 to 10"):
        correlations(activity, features=[3, 11])
    with pytest.raises(OptionError, match="feature 3 is asked for twice"):
        correlations(activity, features=[3, 3])
    with pytest.raises(OptionError, match="no feature is asked for"):
        correlations(activity, features=[])
    with pytest.raises(CorpusError, match="one corpus"):
        correlations(activity, other=random_activity(seed=2))
    fewer = made_of(activity.corpus, activity.dense, activity.counted & (np.arange(25) != 24))
    assert fewer.counted.sum() < activity.counted.sum()
    with pytest.raises(CorpusError, match="differ in 1;"):
        correlations(activity, other=fewer)
    with pytest.raises(CorpusError, match="3 rows of activations"):
        ArrayActivity(activity.corpus, activity.counted, np.zeros((3, 2)))
    broken = activity.dense.copy()
    place = np.flatnonzero(activity.counted)[4]
    broken[place, 6] = np.nan
    with pytest.raises(NumericalError, match=f"of 6 on token {place} is nan"):
        correlations(activity, other=ArrayActivity(activity.corpus, activity.counted, broken))
