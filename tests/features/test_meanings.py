"""Clusters of contexts: their parts against definitions, the whole on features made by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from activity import corpus_of, made_of, random_activity
from sae_circuits.errors import CorpusError, NumericalError, OptionError, UnknownName
from sae_circuits.features.analysis.meanings import meanings, polysemantic, window_means
from sae_circuits.features.numerics.clusters import (
    adjusted_rand,
    by_size,
    clustered,
    silhouette,
    stability,
)

LABELS = st.lists(st.integers(0, 3), min_size=2, max_size=12)


def blobs(n: int, *, each: int = 20, d: int = 5, spread: float = 0.05, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.repeat(np.eye(d)[:n], each, 0) + spread * rng.standard_normal((n * each, d))


@settings(max_examples=60, deadline=None)
@given(pairs=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=12))
def test_adjusted_rand_is_its_count_of_pairs(pairs):
    a, b = (np.array(x) for x in zip(*pairs, strict=True))
    together = [(a[i] == a[j], b[i] == b[j]) for i, j in itertools.combinations(range(len(a)), 2)]
    in_a, in_b = (sum(x) for x in zip(*together, strict=True))
    both = sum(p and q for p, q in together)
    chance, most = in_a * in_b / len(together), (in_a + in_b) / 2
    want = 1 if most == chance else (both - chance) / (most - chance)
    assert adjusted_rand(a, b) == pytest.approx(want, abs=1e-12)
    assert adjusted_rand(a, a) == 1
    assert adjusted_rand(a, b) == pytest.approx(adjusted_rand(b, a), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(labels=LABELS, seed=st.integers(0, 100))
def test_silhouette_is_its_definition(labels, seed):
    x = np.random.default_rng(seed).standard_normal((len(labels), 2))
    labels = by_size(np.array(labels))
    if labels.max() == 0:
        return
    distances = np.linalg.norm(x[:, None] - x, axis=-1)
    each = []
    for i, own in enumerate(labels):
        mine = [j for j in range(len(x)) if labels[j] == own and j != i]
        others = [distances[i][labels == c].mean() for c in set(labels.tolist()) - {own}]
        a, b = distances[i][mine].mean() if mine else 0, min(others)
        each.append((b - a) / max(a, b) if mine else 0)
    assert silhouette(distances, labels) == pytest.approx(np.mean(each), abs=1e-12)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_as_many_clusters_are_found_as_there_are(n):
    points = blobs(n)
    found = clustered(points, 8)
    assert found.n == n
    assert adjusted_rand(found.labels, np.repeat(np.arange(n), 20)) == 1
    assert found.silhouette > 0.8
    assert stability(points, n, np.random.default_rng(0), 5) > 0.99
    noise = np.random.default_rng(1).standard_normal((100, 5))
    assert stability(noise, n, np.random.default_rng(0), 5) < 0.6


def test_too_few_different_points_are_one_cluster():
    for points in (np.zeros((0, 2)), np.ones((1, 2)), np.ones((9, 2)), np.eye(2)[[0, 1, 0, 1]]):
        assert clustered(points, 8).labels.tolist() == [0] * len(points)
        assert np.isnan(clustered(points, 8).silhouette)
    assert np.isnan(stability(np.eye(3), 2, np.random.default_rng(0), 3))
    assert clustered(blobs(3), 1).n == 1


def two_meanings(repeats: int = 30):
    """Feature 0 is active after 1 and after 2; 1 after 1 only; 2 never; 3 on all tokens."""
    prompts = [[9, 1, 5], [9, 2, 6]] * repeats
    corpus = corpus_of(*prompts, texts=[f"w{i}" for i in range(10)])
    last, first = corpus.positions == 2, np.tile([1, 1, 1, 0, 0, 0], repeats) == 1
    dense = np.stack([last, last & first, 0 * last, 1 + 0 * last], 1)
    return made_of(corpus, dense)


def vectors(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((10, 16)).astype(np.float32)


def noisy(activity, spread: float = 0.2):
    """`window_means` with noise, so that no two contexts are quite alike."""
    embed = window_means(vectors(), activity)

    def embedded(corpus, places):
        noise = [np.random.default_rng(int(p)).standard_normal(16) for p in places]
        return embed(corpus, places) + spread * np.array(noise)

    return embedded


def test_a_feature_of_two_meanings_is_told_from_one_of_one():
    activity = two_meanings()
    table = polysemantic(activity, noisy(activity))
    assert table.contexts.tolist() == [60, 30, 0, 180]
    assert table.clusters.tolist()[:3] == [2, 1, 0]
    assert table.polysemantic.tolist()[:3] == [True, False, False]
    assert table.stability[0] > 0.95
    assert table.silhouette[0] > 0.25 > table.silhouette[1]
    assert table[["silhouette", "stability"]].isna().loc[2].all()
    found = meanings(activity, 0, noisy(activity))
    assert found.labels.tolist() == [0, 1] * 30
    assert activity.corpus.locate(found.places)[1].tolist() == [2] * 60


def test_what_is_drawn_hangs_on_the_feature_and_the_seed_alone():
    activity = two_meanings()
    embed = noisy(activity)
    whole = polysemantic(activity, embed, contexts=25)
    some = polysemantic(activity, embed, contexts=25, features=[3, 0])
    assert some.equals(whole.loc[[3, 0]].reset_index(drop=True))
    one, same, other = (meanings(activity, 3, embed, contexts=25, seed=s) for s in (0, 0, 1))
    assert one.places.tolist() == same.places.tolist() != other.places.tolist()
    assert len(set(one.places.tolist())) == 25


def test_a_context_is_the_weighted_mean_of_its_last_tokens():
    corpus = corpus_of([1, 2, 3, 4], [3, 1], texts=["x"] * 10)
    activity = made_of(corpus, np.ones((6, 1)), [1, 1, 1, 0, 1, 1])
    E = vectors()
    embed = window_means(torch.from_numpy(E), activity, window=3, decay=0.5)
    mean = E[[1, 2, 3, 3, 1]].astype(float).mean(0)
    got = embed(corpus, np.array([3, 4, 5]))
    assert np.allclose(got[0], (E[4] + E[3] / 2 + E[2] / 4) / 1.75 - mean, atol=1e-6)
    assert np.allclose(got[1], E[3] - mean, atol=1e-6)
    assert np.allclose(got[2], (E[1] + E[3] / 2) / 1.5 - mean, atol=1e-6)


def test_special_tokens_say_nothing_of_a_context():
    from sae_circuits.features.corpus import Corpus, Vocabulary

    corpus = Corpus.of_prompts([[0, 1], [0, 2]], Vocabulary(("<bos>", "a", "b"), frozenset([0])))
    activity = made_of(corpus, np.ones((4, 1)), [0, 1, 0, 1])
    E = vectors()[:3]
    got = window_means(E, activity)(corpus, np.array([1, 0]))
    assert np.allclose(got[0], (E[1] - E[2]) / 2, atol=1e-6)
    assert (got[1] == 0).all()


def test_what_does_not_fit_is_refused():
    activity = random_activity(n_features=4)
    with pytest.raises(CorpusError, match="3 vectors for tokens up to id 9"):
        window_means(vectors()[:3], activity)
    broken = vectors()
    broken[activity.corpus.tokens[0], 1] = np.nan
    with pytest.raises(NumericalError, match="NaN or infinity"):
        window_means(broken, activity)
    embed = window_means(vectors(), activity)
    with pytest.raises(OptionError, match="most is 0"):
        meanings(activity, 1, embed, most=0)
    with pytest.raises(UnknownName, match="no feature 4"):
        polysemantic(activity, embed, features=[4])
    with pytest.raises(NumericalError, match="context of feature 1 has"):
        meanings(activity, 1, lambda corpus, places: np.full((len(places), 2), np.nan))
