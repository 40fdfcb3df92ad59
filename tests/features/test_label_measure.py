"""The split, the interval, the choice of words and the sample, against slow ways of doing each."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activity import made_of, random_activity, small_corpus
from sae_circuits.features.columns import Columns
from sae_circuits.features.labels import Ground, Part
from sae_circuits.features.labels.contrast import Contrast, by_more_than_chance
from sae_circuits.features.labels.measure import Share, measure, wilson
from sae_circuits.features.labels.parts import split
from sae_circuits.features.labels.predicates import EndsIn, TokenIn
from sae_circuits.features.labels.variants import token_classes
from sae_circuits.features.labels.windows import sampled, strongest, windows_of

lengths = st.lists(st.integers(1, 9), min_size=2, max_size=12)


# -- the split ------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(lengths, st.integers(0, 5))
def test_the_split_is_by_prompt_and_hangs_on_the_corpus_alone(sizes, seed):
    corpus = small_corpus(sizes, seed=seed)
    one, two = (made_of(corpus, np.full((corpus.n_tokens, 2), k)) for k in (0.0, 1.0))
    making, held = split(Ground(corpus), one.counted)
    assert not (making.is_in & held.is_in).any()
    assert (making.is_in | held.is_in).all()
    prompts, _ = corpus.locate(np.arange(corpus.n_tokens))
    assert set(prompts[making.is_in]).isdisjoint(prompts[held.is_in])
    assert len(set(prompts[held.is_in])) == len(sizes) // 2
    again = split(Ground(corpus), two.counted)
    assert [p.is_in.tolist() for p in again] == [making.is_in.tolist(), held.is_in.tolist()]


def test_another_corpus_is_split_otherwise_and_masks_leave_the_prompts_where_they_are():
    one, two = small_corpus([3] * 40, seed=0), small_corpus([3] * 40, seed=1)
    halves = [split(Ground(c), made_of(c, np.ones((120, 1))).counted)[1].is_in for c in (one, two)]
    assert (halves[0] != halves[1]).any()
    counted = np.arange(120) % 3 != 0
    making, held = split(Ground(one), made_of(one, np.ones((120, 1)), counted).counted)
    assert (held.is_in == (halves[0] & counted)).all()
    assert (making.is_in | held.is_in).tolist() == counted.tolist()


@settings(max_examples=40, deadline=None)
@given(lengths, st.integers(0, 5))
def test_the_activations_of_both_parts_are_all_there_are(sizes, seed):
    activity = random_activity(sizes, 5, seed=seed, masked=0.0)
    columns = activity.columns(np.arange(5))
    parts = [part.of(columns) for part in split(Ground(activity.corpus), activity.counted)]
    for f in range(5):
        places = np.sort(np.concatenate([part.column(f)[0] for part in parts]))
        assert places.tolist() == columns.column(f)[0].tolist()


# -- the interval ---------------------------------------------------------------------------------


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_the_interval_holds_the_share_and_mirrors(n, share):
    hits = np.array(round(share * n) * 1.0)
    low, high = wilson(hits, np.array(n * 1.0))
    assert 0 <= low <= hits / n <= high <= 1
    other = wilson(np.array(n - hits), np.array(n * 1.0))
    assert (float(low), float(high)) == pytest.approx((1 - other[1], 1 - other[0]), abs=1e-9)


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (1, 3), (8, 10), (50, 50), (30, 1000)])
def test_the_interval_is_that_of_scipy(hits, n):
    stats = pytest.importorskip("scipy.stats")
    wanted = stats.binomtest(hits, n).proportion_ci(method="wilson")
    found = wilson(np.array(hits * 1.0), np.array(n * 1.0))
    assert (float(found[0]), float(found[1])) == pytest.approx((wanted.low, wanted.high), abs=1e-9)


@pytest.mark.parametrize("n", [20, 100, 400])
def test_the_interval_covers_the_truth_about_95_times_in_100(n):
    k = np.arange(n + 1)
    low, high = wilson(k * 1.0, np.full(n + 1, n * 1.0))
    ways = np.array([math.comb(n, i) for i in k], dtype=float)
    covered = []
    for p in np.linspace(0.05, 0.95, 91):
        chance = ways * p**k * (1 - p) ** (n - k)
        covered.append(chance[(low <= p) & (p <= high)].sum())
    assert np.mean(covered) == pytest.approx(0.95, abs=0.01)
    assert min(covered) > 0.9


# -- precision and recall -------------------------------------------------------------------------


def part_of(n: int, weight: np.ndarray | None = None) -> Part:
    return Part(Ground(small_corpus([n])), np.ones(n, dtype=bool), weight)


def test_precision_and_recall_of_a_small_case():
    found = measure(lambda part: np.array([0, 1, 2, 3, 4]), part_of(20), np.array([1, 2, 3, 7]))
    assert (found.precision.value, found.recall.value) == (3 / 5, 3 / 4)
    assert found.score == pytest.approx(2 / 3)
    low, high = wilson(np.array(3.0), np.array(5.0))
    assert found.precision.interval == (float(low), float(high))
    nothing = measure(lambda part: np.zeros(0, np.int64), part_of(20), np.array([1]))
    assert (nothing.precision.value, nothing.precision.interval, nothing.score) == (None,) * 3
    assert nothing.recall.value == 0.0


def test_weights_count_as_so_many_tokens_with_a_wider_interval():
    weight = np.array([1.0, 1.0, 4.0, 4.0])
    part = part_of(4, weight)
    share = Share.of(part, np.array([0, 2]), np.arange(4))
    assert share.value == 5 / 10
    size = 100 / 34  # Kish: (sum w)^2 / sum w^2
    low, high = wilson(np.array(size / 2), np.array(size))
    assert share.interval == pytest.approx((float(low), float(high)))
    equal = Share.of(part_of(4, np.full(4, 7.0)), np.array([0, 2]), np.arange(4))
    assert equal == Share.of(part_of(4), np.array([0, 2]), np.arange(4))


places = st.lists(st.integers(0, 29), max_size=30)


@given(places, places)
def test_precision_and_recall_are_those_of_sets(predicted, active):
    mine, real = set(predicted), set(active)
    found = measure(
        lambda part: np.array(predicted, dtype=np.int64),  # in any order, some twice
        part_of(30),
        np.array(sorted(real), dtype=np.int64),
    )
    assert found.precision.value == (len(mine & real) / len(mine) if mine else None)
    assert found.recall.value == (len(mine & real) / len(real) if real else None)


@settings(max_examples=40, deadline=None)
@given(lengths, st.integers(0, 9), st.integers(-2, 2))
def test_predicates_point_where_a_loop_over_prompts_does(sizes, seed, offset):
    corpus = small_corpus(sizes, n_vocab=4, seed=seed)
    part = Part(Ground(corpus), np.random.default_rng(seed).random(corpus.n_tokens) < 0.8)
    wanted, ends = [], []
    for i, prompt in enumerate(corpus):
        for at in range(len(prompt)):
            place = corpus.starts[i] + at
            if part.is_in[place]:
                if 0 <= at + offset < len(prompt) and prompt[at + offset] in (1, 3):
                    wanted.append(place)
                if at and prompt[at] == 2 and prompt[at - 1] in (0, 1):
                    ends.append(place)
    assert TokenIn((1, 3), offset)(part).tolist() == wanted
    assert EndsIn((((0, 1), (2,)),))(part).tolist() == ends


# -- the choice -----------------------------------------------------------------------------------


def test_chance_is_bounded_by_that_of_the_binomial():
    for n, base in ((5, 0.3), (40, 0.1), (300, 0.02)):
        k = np.arange(1, n + 1)
        ways = [math.comb(n, int(i)) * base**i * (1 - base) ** (n - i) for i in range(n + 1)]
        tail = np.cumsum(ways[::-1])[::-1][1:]  # of k hits or more
        for tried in (1, 1000):
            found = by_more_than_chance(k, np.full(n, n), np.full(n, base), tried)
            assert (tail[found] * tried <= 0.05).all()
            assert found[-1] == (base**n * tried < 0.05)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_the_words_chosen_are_the_best_of_all_choices(seed, most):
    rng = np.random.default_rng(seed)
    corpus = small_corpus([60, 60], n_vocab=7, seed=seed)
    part = Part(Ground(corpus), np.ones(120, dtype=bool))
    chance = rng.random(7)[corpus.tokens] ** 3
    places = np.flatnonzero(rng.random(120) < chance)
    columns = Columns(
        np.array([0]), np.array([0, len(places)]), places, np.ones(len(places), np.float32)
    )
    contrast = Contrast(part, token_classes(part, 0), 7, least=1)
    strong = contrast.more_than_share(columns, contrast.count(columns))
    best = 0.0
    for size in range(1, most + 1):
        for some in combinations(range(len(strong.group)), size):
            k, n = strong.hits[list(some)].sum(), strong.sizes[list(some)].sum()
            best = max(best, 2 * k / (len(places) + n))
    found = list(contrast.choose(columns, most))
    assert (found[0].f if found else 0.0) == pytest.approx(best, abs=1e-12)
    if found:
        k, n = found[0].hits.sum(), found[0].sizes.sum()
        assert found[0].f == pytest.approx(2 * k / (len(places) + n))
        assert found[0].lift == pytest.approx((k / n) / (len(places) / 120))


# -- windows --------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 14), st.integers(0, 100))
def test_a_sample_stands_for_all_windows(n, seed):
    corpus = small_corpus([12] * 10, seed=0)  # 40 windows of 3 tokens
    held = Part(Ground(corpus), np.ones(120, dtype=bool))
    active = np.array([0, 1, 30, 77, 119])  # in four windows
    part = sampled(held, active, 3, n, np.random.default_rng(seed))
    window = windows_of(corpus, 3)
    drawn = np.unique(window[part.is_in])
    assert len(drawn) == n
    busy = np.isin(drawn, window[active])
    assert busy.sum() == min(n // 2, 4)
    assert part.weight[part.is_in].sum() == pytest.approx(120)
    assert part.weight[~part.is_in].sum() == 0


def test_windows_do_not_run_over_prompts():
    corpus = small_corpus([5, 2, 4])
    assert windows_of(corpus, 2).tolist() == [0, 0, 1, 1, 2, 3, 3, 4, 4, 5, 5]


def test_examples_are_the_strongest_windows_and_some_of_the_others():
    windows = np.array([0, 0, 1, 2, 3, 4, 5])
    values = np.array([1, 9, 8, 7, 1, 2, 3], np.float32)
    found = strongest(windows, values, 4, np.random.default_rng(0)).tolist()
    assert found[:2] == [0, 1]
    assert set(found[2:]) < {2, 3, 4, 5}
    assert len(set(found)) == 4
    every = strongest(windows, values, 50, np.random.default_rng(0))
    assert sorted(every.tolist()) == [0, 1, 2, 3, 4, 5]
