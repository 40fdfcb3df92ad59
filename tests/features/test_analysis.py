"""Tokens, positions and kinds of features, against counting in a loop."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch

from activity import corpus_of, made_of, random_activity
from sae_circuits.errors import DictionaryError, OptionError, UnknownName
from sae_circuits.features.analysis.kinds import kinds
from sae_circuits.features.analysis.positions import position_profile
from sae_circuits.features.analysis.tokens import token_counts, token_entropy, token_table
from sae_circuits.features.statistics import type_of


def test_token_entropy_has_its_known_answer():
    corpus = corpus_of([5, 6, 8, 5], [8, 9, 7])
    on = np.array([1, 1, 1, 1, 1, 1, 0])
    activity = made_of(corpus, np.stack([on, 0 * on, on * [1, 0, 0, 2, 0, 0, 0]], 1))
    (columns,) = activity.blocks()
    assert token_entropy(token_counts(columns, corpus).rows).round(6).tolist()[::2] == [1.918296, 0]
    assert math.isnan(token_entropy(token_counts(columns, corpus).rows)[1])  # dead


@pytest.mark.parametrize("block", [1, 4, 99])
def test_tokens_are_those_counted_in_a_loop(block):
    activity = random_activity((30, 1, 25), 8, seed=2, block=block)
    corpus, counted = activity.corpus, activity.counted
    every = Counter(corpus.tokens[counted].tolist())
    table = token_table(activity, 4)
    entropies = np.concatenate(
        [token_entropy(token_counts(c, corpus).rows) for c in activity.blocks()]
    )
    for f in range(8):
        active = Counter(corpus.tokens[counted & (activity.dense[:, f] != 0)].tolist())
        total = sum(active.values())
        want = sorted(active.items(), key=lambda item: (-item[1], item[0]))[:4]
        rows = table[table.feature == f]
        assert list(zip(rows.token, rows.n, strict=True)) == want
        assert rows["rank"].tolist() == list(range(1, len(want) + 1))
        here = [counted & (corpus.tokens == t) & (activity.dense[:, f] != 0) for t in rows.token]
        assert np.allclose(rows["mean"], [activity.dense[h, f].astype(float).mean() for h in here])
        assert rows.text.tolist() == [f" w{t}" for t, _ in want]
        assert np.allclose(rows.share, [c / total for _, c in want])
        assert np.allclose(rows.recall, [c / every[t] for t, c in want])
        base = [every[t] / counted.sum() for t, _ in want]
        assert np.allclose(rows.lift, [c / total / b for (_, c), b in zip(want, base, strict=True)])
        if total:
            shares = [c / total for c in active.values()]
            assert entropies[f] == pytest.approx(-sum(p * math.log2(p) for p in shares), abs=1e-12)
        else:
            assert math.isnan(entropies[f])


def test_some_features_are_as_among_all():
    activity = random_activity((30, 25), 8, seed=2)
    for some in (
        lambda **on: token_table(activity, 3, **on),
        lambda **on: position_profile(activity, **on),
    ):
        whole, asked = some(), some(features=[6, 2])
        assert asked.feature.drop_duplicates().tolist() == [6, 2]
        for f in (6, 2):
            parts = [t[t.feature == f].reset_index(drop=True) for t in (whole, asked)]
            assert parts[0].equals(parts[1])


def test_positions_are_those_counted_in_a_loop(monkeypatch):
    activity = random_activity((9, 3, 6), 5, seed=8, masked=0.3)
    activity = made_of(
        activity.corpus, activity.dense, activity.counted & (activity.corpus.positions != 4)
    )
    table = position_profile(activity)
    assert 4 not in set(table.position)  # nothing is counted there
    rows = {(r.feature, r.position): r for r in table.itertuples()}
    assert len(rows) == len(table)
    places = [(p, activity.corpus.positions[p]) for p in np.flatnonzero(activity.counted)]
    for f in range(5):
        for position in {q for _, q in places}:
            here = [p for p, q in places if q == position]
            active = sum(activity.dense[p, f] != 0 for p in here)
            row = rows[f, position]
            assert (row.n, row.counted, row.share) == (active, len(here), active / len(here))
    assert len(rows) == 5 * len({q for _, q in places})
    monkeypatch.setattr("sae_circuits.features.analysis.positions.CELLS", 1)
    assert position_profile(activity).equals(table)  # one feature after the other


def test_importance_is_the_mean_length_of_what_is_written():
    activity = random_activity((12, 30), 7, seed=3)
    W = torch.randn(7, 5, generator=torch.Generator().manual_seed(1))
    table = kinds(activity, W)
    held = activity.dense[activity.counted].astype(float)
    written = np.einsum("tf,fd->tfd", held, W.double().numpy())
    importance = np.linalg.norm(written, axis=2).mean(0)
    assert np.allclose(table.importance, importance, atol=1e-12)
    assert np.allclose(table.share, importance / importance.sum())
    assert np.allclose(table.density, (held != 0).mean(0))
    assert table.type.tolist() == [type_of(x) for x in table.density]
    assert table[table.type == "dead"].feature.tolist() == [0]
    assert (table.importance[0], table.type[0]) == (0, "dead")
    whole = made_of(activity.corpus, activity.dense, activity.counted, block=99)
    assert kinds(whole, W).equals(table)


def test_without_a_counted_token_nothing_is_known():
    drawn = random_activity()
    activity = made_of(drawn.corpus, drawn.dense, np.zeros(25, bool))
    table = kinds(activity, torch.ones(11, 2))
    assert table[["density", "importance", "share"]].isna().all(axis=None)
    assert table.type.isna().all()
    assert len(token_table(activity)) == len(position_profile(activity)) == 0


def test_what_does_not_fit_is_refused():
    activity = random_activity(n_features=4)
    with pytest.raises(DictionaryError, match=r"W_dec has 3 rows, .* of 4 features"):
        kinds(activity, torch.ones(3, 2))
    with pytest.raises(OptionError, match="k is 0"):
        token_table(activity, 0)
    with pytest.raises(UnknownName, match="no feature 4"):
        position_profile(activity, features=[4])
