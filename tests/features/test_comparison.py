"""Two dictionaries at one site, against dense products."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from activity import made_of, random_activity
from sae_circuits.errors import CorpusError, DictionaryError
from sae_circuits.features.analysis.comparison import compare
from sae_circuits.models.dictionaries import Dictionary, Site
from sae_circuits.models.dictionaries.gates import relu


def dictionary(W_dec: torch.Tensor, kind: str = "mlp_out") -> Dictionary:
    n, d = W_dec.shape
    site = Site(kind, 0)
    return Dictionary(
        "x", site, (site,), W_dec.T.clone(), torch.zeros(n), (W_dec,), torch.zeros(d), relu
    )


def drawn(n: int, d: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_a_shuffled_copy_is_found_again():
    W = drawn(8)
    order = torch.tensor([3, 1, 4, 0, 5, 7, 2, 6])
    left = random_activity((20, 20), 8, share=0.4, seed=1)
    right = made_of(left.corpus, left.dense[:, order] * 2, left.counted)
    result = compare(dictionary(W), dictionary(3 * W[order]), (left, right))
    where = torch.argsort(order).tolist()
    assert result.table.by_decoder.tolist() == where
    assert np.allclose(result.table.cosine, 1)
    assert result.table.by_activity.tolist()[1:] == where[1:]  # feature 0 is dead
    assert result.table.by_activity.isna().tolist() == [True] + [False] * 7
    assert np.allclose(result.table.pearson[1:], 1)
    assert result.table.agree.tolist()[1:] == [True] * 7
    assert result.table.agree.isna()[0]
    active = ((left.dense != 0) & left.counted[:, None]).sum(0)
    assert result.table.together.tolist()[1:] == active[1:].tolist()
    assert (result.matched_by_decoder, result.matched_by_activity) == (1, 1)


def test_nearest_ones_and_shares_are_those_of_the_dense_products():
    A, B = drawn(9), drawn(5, seed=1)
    A[2], B[3] = 0, 0
    left = random_activity((25,), 9, share=0.5, seed=1)
    right = made_of(left.corpus, random_activity((25,), 5, share=0.5, seed=2).dense, left.counted)
    result = compare(dictionary(A), dictionary(B), (left, right), least=0.5)
    cosine = torch.nn.functional.cosine_similarity(A[:, None].double(), B[None].double(), dim=-1)
    cosine[:, 3] = -2
    rows = [f for f in range(9) if f != 2]
    assert result.table.by_decoder.isna().tolist() == [f == 2 for f in range(9)]
    assert result.table.by_decoder[rows].tolist() == cosine.argmax(1)[rows].tolist()
    assert np.allclose(result.table.cosine[rows], cosine.amax(1)[rows])
    assert result.matched_by_decoder == pytest.approx((cosine.amax(1)[rows] >= 0.5).double().mean())
    both = np.concatenate([left.dense[:, 1:], right.dense[:, 1:]], 1)[left.counted].astype(float)
    pearson = np.corrcoef(both, rowvar=False)[:8, 8:]
    assert (result.table.by_activity[1:].to_numpy() - 1).tolist() == pearson.argmax(1).tolist()
    assert np.allclose(result.table.pearson[1:], pearson.max(1))
    assert result.matched_by_activity == pytest.approx((pearson.max(1) >= 0.5).mean())


def test_without_activities_only_decoders_are_compared():
    result = compare(dictionary(drawn(4)), dictionary(drawn(4)))
    assert result.table.by_decoder.tolist() == [0, 1, 2, 3]
    assert result.table[["by_activity", "pearson", "together", "agree"]].isna().all(axis=None)
    assert np.isnan(result.matched_by_activity)


def test_what_does_not_fit_is_refused():
    a = dictionary(drawn(4))
    with pytest.raises(DictionaryError, match="compare two at one site"):
        compare(a, dictionary(drawn(4), "resid_post"))
    with pytest.raises(DictionaryError, match="write 6 and 5 numbers"):
        compare(a, dictionary(drawn(4, 5)))
    few, other = random_activity(n_features=4), random_activity(n_features=4, seed=1)
    with pytest.raises(DictionaryError, match="W_dec has 4 rows"):
        compare(a, a, (few, random_activity(n_features=5)))
    with pytest.raises(CorpusError, match="one corpus"):
        compare(a, a, (few, other))
    assert compare(a, replace(a, name="y"), (few, few)).matched_by_decoder == 1
