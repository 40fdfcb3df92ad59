"""More tokens than float32 counts: 2^24 of them and over, where each number is known exactly."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

import sae_circuits as sc
from sae_circuits.features.corpus import Corpus, Vocabulary
from sae_circuits.features.examples import Wanted, Windows
from sae_circuits.features.quantiles import quantiles_of
from sae_circuits.features.sources import HeldSource
from sae_circuits.features.store.tables import Contents
from sae_circuits.models.dictionaries.gates import nonzero
from sae_circuits.peak import highest_bytes

N_PROMPTS, LENGTH, N_VOCAB = 16_800, 1000, 500
N = N_PROMPTS * (LENGTH - 1)  # all but the first of each prompt count
ONES = 2**24 + 5  # no float32 number, and none is reached by adding 1 to one
LEVELS, STEP, UNIT = 1009, 7919, 64
CONTENTS = Contents(
    Windows(2, 1), Wanted(top=2, intervals=2, quantiles=4, each=1), bins=2, tokens=5, neighbours=2
)


class Planted(HeldSource):
    """Features whose values follow from a token's number among those that count, which is held."""

    n_features, record = 3, {"kind": "planted"}  # type: ignore[assignment]

    @classmethod
    def of_all(cls) -> Planted:
        """Numbers of the tokens, in float64; of those that do not count, any."""
        number = np.arange(N_PROMPTS)[:, None] * (LENGTH - 1) + np.arange(-1, LENGTH - 1)
        return cls(torch.from_numpy(number.reshape(-1, 1).astype(np.float64)))

    def activations(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """1 and then 3; a ramp that begins again and again, in 64ths; and the very last token."""
        step = torch.where(x < ONES, 1.0, 3.0)
        ramp = ((x * STEP) % LEVELS + 1) / UNIT
        values = torch.cat([step, ramp, torch.where(x == N - 1, 0.5, 0.0)], 1)
        index = nonzero(values)
        return index, values.flatten()[index]


def made_corpus() -> Corpus:
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, N_VOCAB, (N_PROMPTS, LENGTH), dtype=np.int32)
    tokens[:, 0] = 0
    starts = np.arange(N_PROMPTS + 1, dtype=np.int64) * LENGTH
    vocabulary = Vocabulary(tuple(f" w{i}" for i in range(N_VOCAB)), frozenset([0]))
    return Corpus(tokens.reshape(-1), starts, vocabulary, "long")


@pytest.mark.slow
def test_more_tokens_than_float32_counts(tmp_path):
    assert N > ONES > 2**24 == np.float32(2**24) + np.float32(1)
    corpus = made_corpus()
    memory, features = highest_bytes(
        lambda: sc.FeatureDictionary.build(
            None, Planted.of_all(), corpus, tmp_path, contents=CONTENTS
        )
    )
    assert memory < 3 << 30

    threes = N - ONES
    # How often the ramp is at each level, in whole numbers: all along it, and while the step is 1.
    level = np.arange(N) * STEP % LEVELS + 1
    every, early = (
        np.bincount(some, minlength=LEVELS + 1).tolist() for some in (level, level[:ONES])
    )
    values = range(LEVELS + 1)
    total = sum(n * v for n, v in zip(every, values, strict=True))
    squares = sum(n * v * v for n, v in zip(every, values, strict=True))
    numbers = features.statistics().set_index("feature")
    assert numbers.n_active.tolist() == [N, N, 1]
    assert numbers.density.tolist() == [1, 1, 1 / N]
    assert numbers.type.tolist() == ["dense", "dense", "ultra-sparse"]
    mean, variance = Fraction(ONES + 3 * threes, N), Fraction(4 * ONES * threes, N * N)
    assert numbers["mean"][0] == pytest.approx(float(mean), rel=1e-12)
    assert numbers["std"][0] == pytest.approx(math.sqrt(variance), rel=1e-9)
    mean = Fraction(total, N)
    assert numbers["mean"][1] == pytest.approx(float(mean / UNIT), rel=1e-12)
    std = math.sqrt(Fraction(squares, N) - mean**2) / UNIT
    assert numbers["std"][1] == pytest.approx(std, rel=1e-9)
    assert numbers["mean"][2] == pytest.approx(0.5 / N, rel=1e-12)

    cut = features.query("FROM distributions").set_index(["feature", "kind"])
    assert cut.counts[0, "histogram"].tolist() == [ONES, threes]
    assert cut.counts[0, "interval"].tolist() == [ONES, threes]  # (0, 1.5] and (1.5, 3]
    ranked = np.repeat(values, every)
    ends = [N * i // 4 for i in range(5)]
    assert cut.counts[1, "quantile"].tolist() == np.diff(ends).tolist()
    edges = [ranked[max(0, end - 1)] / UNIT for end in ends]
    assert cut.edges[1, "quantile"].tolist() == edges
    middle = (1 + LEVELS) / 2
    below = sum(n for n, v in zip(every, values, strict=True) if v < middle)
    assert cut.counts[1, "histogram"].tolist() == [below, N - below]

    found = quantiles_of(np.array([1.0, 0.5]), features.activations.columns([0, 2]), N)
    np.testing.assert_allclose(found, [[ONES / N, 1.0], [ONES / N, 1.0]], rtol=1e-12)
    (last,) = features.feature(2).top()
    assert (last.prompt, last.position, last.activation) == (N_PROMPTS - 1, LENGTH - 1, 0.5)
    counts = np.bincount(corpus.tokens, minlength=N_VOCAB)
    held = features.query("SELECT token, n FROM feature_tokens WHERE feature = 0")
    assert held.n.tolist() == sorted(counts[1:], reverse=True)[:5]
    assert counts[held.token].tolist() == held.n.tolist()
    products = sum((3 * n - 2 * e) * v for n, e, v in zip(every, early, values, strict=True))
    covariance = Fraction(products, N) - Fraction(ONES + 3 * threes, N) * mean
    pearson = float(covariance) / UNIT / math.sqrt(variance) / std
    near = features.similar(0, "pearson").set_index("feature").value
    assert near[1] == pytest.approx(pearson, abs=1e-9)
