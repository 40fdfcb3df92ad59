"""Examples: which tokens are shown of a feature, and the windows around them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activity import corpus_of, made_of, random_activity
from sae_circuits.errors import OptionError
from sae_circuits.features.examples import Wanted, Windows, around, examples
from sae_circuits.features.statistics import by_rank, group_bounds, intervals, statistics


def shown_of(activity, windows=None, wanted=None, features=None):
    windows, wanted = windows or Windows(1, 1), wanted or Wanted(top=5, each=2)
    ids = np.arange(activity.n_features) if features is None else np.asarray(features)
    columns = activity.columns(ids)
    found = statistics(columns, int(activity.counted.sum()))
    counts = intervals(columns, found, max(1, wanted.intervals)).counts
    hashes = windows.hashes(activity.corpus)
    return examples(columns, by_rank(columns), counts, activity.corpus, windows, hashes, wanted)


def rows_of(shown, kind="top", feature=0):
    each = zip(shown.feature, shown.group, shown.place, shown.times, strict=True)
    return [(int(p), int(t)) for f, group, p, t in each if group == kind and f == feature]


def window(corpus, windows, place):
    (prompt,), _ = corpus.locate(np.array([place]))
    first = max(corpus.starts[prompt], place - windows.before)
    stop = min(corpus.starts[prompt + 1], place + windows.after + 1)
    return int(first), int(stop)


def test_the_largest_come_first_and_equal_ones_by_place():
    corpus = corpus_of([0, 1, 2, 3], [4, 5, 6, 7])
    activity = made_of(corpus, [[v] for v in (0, 2, 0, 5, 2, 0, 5, 0)])
    assert rows_of(shown_of(activity, Windows(0, 0))) == [(3, 1), (6, 1), (1, 1), (4, 1)]


def test_windows_do_not_overlap_and_stay_in_their_prompt():
    corpus = corpus_of([0, 1, 2, 3, 4], [5, 6, 7])
    activity = made_of(corpus, [[v] for v in (1, 2, 9, 8, 1, 7, 0, 3)])
    # 3, 1 and 4, 0 are within two tokens of what comes before them; 5 is in another prompt.
    assert rows_of(shown_of(activity, Windows(1, 1))) == [(2, 1), (5, 1)]
    first, stop = Windows(1, 1).spans(corpus, np.array([0, 4, 5]))
    assert (first.tolist(), stop.tolist()) == ([0, 3, 5], [2, 5, 7])


def test_the_same_window_is_shown_once_with_a_count():
    corpus = corpus_of([1, 2, 3], [1, 2, 3], [0, 2, 3], [1, 2, 3])
    activity = made_of(corpus, [[0], [1], [0], [0], [3], [0], [0], [2], [0], [0], [1], [0]])
    assert rows_of(shown_of(activity, Windows(1, 1))) == [(4, 3), (7, 1)]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 3), st.integers(0, 3))
def test_what_holds_of_every_group(seed, before, after):
    windows, wanted = Windows(before, after), Wanted(4, 3, 3, each=2, random=3)
    activity = random_activity((15, 1, 9, 22), 5, share=0.6, seed=seed)
    shown = shown_of(activity, windows, wanted)
    columns = activity.columns(np.arange(5))
    edges = intervals(columns, statistics(columns, 1), 3).edges
    groups: dict[tuple[int, str, int], list[int]] = {}
    for f, kind, g, place, value in zip(
        shown.feature, shown.group, shown.index, shown.place, shown.activation, strict=True
    ):
        assert value == activity.dense[place, f] != 0
        assert activity.counted[place]
        groups.setdefault((int(f), kind, int(g)), []).append(int(place))
    for (f, kind, g), places in groups.items():
        assert len(places) <= {"top": 4, "random": 3}.get(kind, 2)
        spans = [window(activity.corpus, windows, place) for place in places]
        for (a, b), (c, d) in combinations(spans, 2):
            assert b <= c or d <= a
            same = activity.corpus.tokens[a:b].tolist() == activity.corpus.tokens[c:d].tolist()
            assert not same or (b - a) != (d - c)
        values = activity.dense[places, f]
        if kind == "interval":
            assert (values <= edges[f, g + 1]).all()
            assert (values > edges[f, g]).all() or g == 0
        if kind == "quantile":
            ranked = np.sort(columns.column(f)[1])
            low, high = group_bounds(np.array([len(ranked)]), 3)[0][[g, g + 1]]
            assert (values >= ranked[low]).all()
            assert (values <= ranked[high - 1]).all()


def test_random_examples_are_drawn_from_all_active_tokens_alike():
    n, seeds = 40, 300
    corpus = corpus_of(*([[i % 7, i % 5] for i in range(n)]))
    activity = made_of(corpus, [[1.0 + i % 9] if i % 2 else [0] for i in range(2 * n)])
    found = np.zeros(2 * n)
    for seed in range(seeds):
        shown = shown_of(activity, Windows(0, 0), Wanted(random=1, seed=seed))
        ((place, _),) = rows_of(shown, "random")
        found[place] += 1
    assert (found[::2] == 0).all()
    spread = ((found[1::2] - seeds / n) ** 2).sum() / (seeds / n)  # chi-squared, 39 degrees
    assert spread < 80


def test_draws_depend_on_the_features_id_alone():
    activity = random_activity((300,), 6, share=0.9, seed=3)
    whole = shown_of(activity)
    some = shown_of(activity, features=[4, 1])
    for feature in (4, 1):
        for kind in ("top", "interval", "quantile", "random"):
            assert rows_of(some, kind, feature) == rows_of(whole, kind, feature)
    assert rows_of(shown_of(activity, wanted=Wanted(each=2, seed=1)), "interval", 4) != rows_of(
        whole, "interval", 4
    )


def test_windows_have_the_same_hash_when_they_have_the_same_tokens():
    rng = np.random.default_rng(0)
    corpus = corpus_of(*(rng.integers(0, 3, n) for n in (30, 1, 40, 2)))
    windows = Windows(2, 1)
    hashes = windows.hashes(corpus)
    spans = [window(corpus, windows, place) for place in range(corpus.n_tokens)]
    for i, j in combinations(range(corpus.n_tokens), 2):
        (a, b), (c, d) = spans[i], spans[j]
        same = corpus.tokens[a:b].tolist() == corpus.tokens[c:d].tolist() and i - a == j - c
        assert same == (hashes[i] == hashes[j])


def test_activations_of_windows_are_what_the_columns_hold():
    activity = random_activity((9, 30), 7, share=0.6, seed=1)
    columns = activity.columns(np.array([5, 0, 2]))
    ids = np.random.default_rng(0).permutation(len(columns.places))
    first, stop = Windows(3, 2).spans(activity.corpus, columns.places[ids])
    counted = np.where(activity.counted[:, None], activity.dense, 0)
    expected = [
        counted[first[i] : stop[i], columns.features[columns.owner[k]]] for i, k in enumerate(ids)
    ]
    np.testing.assert_array_equal(around(columns, ids, first, stop), np.concatenate(expected))
    assert len(around(columns, ids[:0], first[:0], stop[:0])) == 0


@pytest.mark.parametrize(("kind", "bad"), [(Windows, {"before": -1}), (Wanted, {"top": -1})])
def test_sizes_below_zero_are_refused(kind, bad):
    with pytest.raises(OptionError, match="-1"):
        kind(**bad)


def test_a_window_that_overlaps_at_one_place_is_shown_at_another():
    """With more candidates in the way than the first ones that are looked at."""
    prompt = list(range(9))
    corpus = corpus_of(prompt, prompt)
    values = [91, 92, 93, 94, 99, 95, 96, 97, 98, 1, 2, 3, 4, 9, 5, 6, 7, 8]
    shown = shown_of(made_of(corpus, [[v] for v in values]), Windows(4, 4), Wanted(top=2))
    # All of the first prompt overlap with its largest; of the second, 13 has the same window.
    assert rows_of(shown) == [(4, 2), (17, 2)]
