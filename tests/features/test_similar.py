"""Similar features against dense references."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sae_circuits.features.decoders as decoders_module
from activity import corpus_of, made_of, random_activity
from sae_circuits.errors import DictionaryError, OptionError, UnknownName
from sae_circuits.features.relations import correlations, similar


def cosines(rows: np.ndarray) -> np.ndarray:
    """All pairs, in float64; NaN with a row of 0 and on the diagonal."""
    with np.errstate(invalid="ignore"):
        units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    found = units @ units.T
    np.fill_diagonal(found, np.nan)
    return found


def require_largest(table, values: np.ndarray, k: int) -> None:
    for f, row in enumerate(values):
        mine = table[table.feature == f]
        assert np.allclose(mine.value, np.sort(row[~np.isnan(row)])[::-1][:k], atol=1e-12)
        assert np.allclose(mine.value, row[mine.other], atol=1e-12)
        assert mine["rank"].tolist() == list(range(1, len(mine) + 1))
        assert mine.other.is_unique


def decoder(n: int, d: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    W = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    W[1] = 0  # a row of 0 is no one's neighbour
    return W.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_decoder_cosines_are_those_of_the_dense_product(dtype):
    activity = random_activity(n_features=23)
    W = decoder(23, 9, dtype=dtype)
    table = similar(activity, W, 5, by=["decoder"])
    require_largest(table, cosines(W.double().numpy()), 5)
    assert not (table.other == 1).any()
    assert not (table.feature == 1).any()
    assert table.together.isna().all()


def test_no_bit_depends_on_tiles_or_on_what_is_asked_for(monkeypatch):
    activity = random_activity(n_features=40)
    W = decoder(40, 300)
    W[30:34] = W[3]  # equal rows: ties, by id
    whole = similar(activity, W, 6, by=["decoder"])
    assert whole[whole.feature == 31].other.tolist()[:4] == [3, 30, 32, 33]
    for tile, at_once in ((1, 2), (7, 1), (64, 5)):
        monkeypatch.setattr(decoders_module, "TILE", tile)
        monkeypatch.setattr(decoders_module, "PAIRS", at_once)
        assert similar(activity, W, 6, by=["decoder"]).equals(whole)
    some = similar(activity, W, 6, by=["decoder"], features=[33, 5])
    assert some.feature.drop_duplicates().tolist() == [33, 5]
    for f in (33, 5):
        parts = [t[t.feature == f].reset_index(drop=True) for t in (some, whole)]
        assert parts[0].equals(parts[1])


def test_very_long_and_very_short_rows_have_cosines_too():
    W = torch.tensor([[3e200, 4e200], [3e-200, 4e-200], [-4.0, 3.0]], dtype=torch.float64)
    table = similar(random_activity(n_features=3), W, 2, by=["decoder"])
    assert table.other.tolist() == [1, 2, 0, 2, 0, 1]
    assert np.allclose(table.value, [1, 0, 1, 0, 0, 0], atol=1e-15)


def test_tokens_shared_are_cosines_of_counts_and_co_activation_is_jaccard():
    activity = random_activity((30, 25), 9, seed=6)
    tokens = activity.corpus.tokens[activity.counted]
    on = activity.dense[activity.counted] != 0
    counts = np.array([np.bincount(tokens[on[:, f]], minlength=10) for f in range(9)])
    table = similar(activity, by=["tokens", "co-activation"], k=4)
    by_tokens = table[table.measure == "tokens"]
    require_largest(by_tokens, cosines(counts.astype(float)), 4)
    shared = (counts[by_tokens.feature] * counts[by_tokens.other] > 0).sum(1)
    assert by_tokens.together.tolist() == shared.tolist()
    jaccard = correlations(activity, 4, measures=["jaccard"])
    rest = table[table.measure == "co-activation"].reset_index(drop=True)
    assert rest.drop(columns=["measure", "together"]).equals(
        jaccard.drop(columns=["measure", "together"])
    )
    for at_once in (1, 20):
        assert similar(activity, by=["tokens", "co-activation"], k=4, at_once=at_once).equals(table)


def test_tokens_shared_has_its_known_answer():
    corpus = corpus_of([5, 6, 8, 5, 8, 9])
    activity = made_of(corpus, np.array([[1] * 6, [1, 0, 0, 2, 0, 0], [0, 3, 0, 0, 0, 0]]).T)
    rows = similar(activity, by=["tokens"], k=2)
    value = {(r.feature, r.other): r.value for r in rows.itertuples()}
    assert value[0, 1] == pytest.approx(4 / (np.sqrt(10) * 2))  # counts 2, 1, 2, 1 and 2
    assert value[0, 2] == pytest.approx(1 / np.sqrt(10))
    assert value[1, 2] == 0


def test_what_does_not_fit_is_refused():
    activity = random_activity(n_features=4)
    with pytest.raises(UnknownName, match="did you mean 'tokens'"):
        similar(activity, by=["token"])
    with pytest.raises(OptionError, match="pass the dictionary's"):
        similar(activity, by=["decoder"])
    with pytest.raises(DictionaryError, match=r"W_dec has 5 rows, .* of 4 features"):
        similar(activity, torch.zeros(5, 2))
    broken = torch.ones(4, 2)
    broken[2, 1] = torch.inf
    with pytest.raises(DictionaryError, match="row 2 holds NaN or infinity"):
        similar(activity, broken, by=["decoder"])
    with pytest.raises(OptionError, match="k is -1"):
        similar(activity, torch.ones(4, 2), -1)
