"""Every table of a store, against loops over a dense array and known answers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import sae_circuits as sc
from reference_features import Told, run_by_prompt
from sae_circuits.features.corpus import Corpus, Vocabulary
from sae_circuits.features.examples import Wanted, Windows
from sae_circuits.features.masks import Masks
from sae_circuits.features.sources import HeldSource
from sae_circuits.features.store.tables import Contents
from shapes import D_VOCAB, hooked
from small_saes import random_sae

HOOK = "blocks.0.hook_mlp_out"
TEXTS = ("<s>", *(f" w{i}" for i in range(1, D_VOCAB)))
AGAIN = (0, 4, 9, 4, 11, 4, 9, 4, 2)
PROMPTS = (
    (0,), (5,), AGAIN, (0, 7, 3, 7, 3, 8, 20, 21), AGAIN, (6, 6, 6, 6, 6, 6, 6), (0, 12),
    (0, 30, 31, 32, 4, 9, 4, 11, 4, 9, 4, 33, 2, 2), AGAIN,
)  # fmt: skip
DEAD, SILENT = 3, 4
CONTENTS = Contents(
    Windows(2, 1), Wanted(top=6, intervals=3, quantiles=4, each=2), bins=7, tokens=4,
    neighbours=5, logits=6, neurons=4,
)  # fmt: skip
MASKS = {
    "by default": Masks(),
    "all": Masks(special=True),
    "tokens and positions": Masks(skip_tokens=[" w7", 9], skip_positions=[-1, 2]),
    "norms": Masks(max_norm=6.0),
}


@pytest.fixture(scope="module")
def model():
    return hooked("gpt2", n_ctx=20)


@pytest.fixture(scope="module")
def sae(model):
    found = random_sae("standard", HOOK, model.cfg.d_model, 13, dtype="float64")
    with torch.no_grad():
        found.b_enc[DEAD] = -1e6  # never active
        found.b_enc[6] = 1e3  # always active
        found.W_dec[SILENT] = 0  # writes nothing
    return found


@pytest.fixture(scope="module")
def corpus():
    return Corpus.of_prompts(PROMPTS, Vocabulary(TEXTS, frozenset([0])), "hand-made")


@pytest.fixture(scope="module", params=MASKS, ids=str)
def both(request, model, sae, corpus):
    """A store, and what loops make of the model and the SAE run prompt by prompt."""
    masks = MASKS[request.param]
    dense, norms = run_by_prompt(model, sae, HOOK, PROMPTS)
    counted = []
    for prompt in PROMPTS:
        for i, token in enumerate(prompt):
            skipped = token in (7, 9) or i in (2, len(prompt) - 1)
            counted.append(
                (masks.special or token != 0)
                and not (masks.skip_tokens and skipped)
                and (masks.max_norm is None or norms[len(counted)] <= masks.max_norm)
            )
    assert 12 < sum(counted) <= corpus.n_tokens
    logits = (sae.W_dec * model.ln_final.w) @ model.W_U
    told = Told(PROMPTS, TEXTS, dense, counted, *map(_array, (sae.W_dec, logits)))
    return sc.FeatureDictionary.build(model, sae, corpus, masks=masks, contents=CONTENTS), told


def _array(x: torch.Tensor) -> np.ndarray:
    return x.detach().double().numpy()


def same_table(found: pd.DataFrame, rows, by, tolerance: float = 1e-5) -> None:
    """Whether a table holds these rows, in the columns that they name, and no more."""
    want = pd.DataFrame(list(rows)).sort_values(by).reset_index(drop=True)
    found = found.sort_values(by).reset_index(drop=True)
    assert len(found) == len(want) > 0
    for name in want:
        for a, b in zip(found[name], want[name], strict=True):
            if isinstance(b, list):
                assert list(a) == pytest.approx(b, rel=tolerance, abs=1e-9), name
            elif isinstance(b, float) and math.isnan(b):
                assert pd.isna(a), name
            elif isinstance(b, float):
                assert a == pytest.approx(b, rel=tolerance, abs=1e-9), name
            else:
                assert a == b, name


def test_features(both):
    store, told = both
    same_table(store.statistics(), told.features(), ["feature"])
    numbers = store.statistics().set_index("feature")
    assert numbers.type[DEAD] == "dead"
    assert numbers.n_active[6] == sum(told.counted)
    assert numbers.decoder_norm[SILENT] == numbers.importance[SILENT] == 0
    assert numbers.logit_skew.isna().tolist() == [f == SILENT for f in range(13)]


def test_distributions(both):
    store, told = both
    want = told.distributions(CONTENTS.bins, 3, 4, CONTENTS.bins)
    same_table(store.query("FROM distributions"), want, ["feature", "kind"])


def test_top_examples(both):
    store, told = both
    found = store.query("FROM examples WHERE kind = 'top'")
    same_table(found, told.top(6, 2, 1), ["feature", "rank"])
    assert (found.times > 1).any()


def test_examples_of_groups(both):
    store, told = both
    found = store.query("FROM examples WHERE kind != 'top'")
    places = {(p, i): place for place, p, i, _ in told.tokens()}
    rows = [told.example(r.feature, places[r.prompt, r.position], 2, 1) for r in found.itertuples()]
    keys = found[["kind", "group", "rank"]].to_dict("records")
    same_table(
        found,
        [a | b for a, b in zip(rows, keys, strict=True)],
        ["feature", "kind", "group", "rank"],
    )
    cut = store.query("FROM distributions").set_index(["feature", "kind"])
    assert {*found.kind} == {"interval", "quantile", "random"}
    alive = {*store.query("SELECT feature FROM features WHERE n_active > 0").feature}
    assert {*found[found.kind == "random"].feature} == alive
    for (f, kind, g), group in found[found.kind != "random"].groupby(["feature", "kind", "group"]):
        edges = cut.edges[f, kind]
        assert group["rank"].tolist() == list(range(len(group)))
        assert len(group) <= 2
        assert (group.activation <= np.float32(edges[g + 1])).all()
        lowest = (f, kind, g) if kind == "quantile" else None  # closed at the bottom by ranks
        assert ((group.activation >= edges[g]) if lowest else (group.activation > edges[g])).all()
    for (f, kind), row in cut.iterrows():
        if kind in ("interval", "quantile"):  # whoever holds tokens has an example
            shown = found[(found.feature == f) & (found.kind == kind)]
            assert {*shown.group} == {g for g, n in enumerate(row.counts) if n}


def test_tokens(both):
    store, told = both
    same_table(store.query("FROM tokens"), told.vocabulary([0]), ["token"])


def test_tokens_of_features(both):
    store, told = both
    same_table(store.query("FROM feature_tokens"), told.feature_tokens(4), ["feature", "rank"])


def test_positions(both):
    store, told = both
    same_table(store.query("FROM positions"), told.positions(), ["feature", "position"])


def test_logits(both):
    store, told = both
    by = ["feature", "kind", "rank"]
    same_table(store.query("FROM logits"), told.logit_tokens(6), by)


def test_neurons(both):
    store, told = both
    found = store.query("FROM neurons")
    same_table(found, told.neurons(4), ["feature", "rank"])
    assert {*found.feature} == {*range(13)} - {SILENT}
    assert not len(store.query("FROM heads"))
    own = store.feature(2)
    assert [row["neuron"] for row in own.neurons] == found[found.feature == 2].neuron.tolist()


def test_heads_of_a_dictionary_of_z(model, corpus):
    width = model.cfg.n_heads * model.cfg.d_head
    sae = random_sae("standard", "blocks.0.attn.hook_z", width, 7, dtype="float64")
    with torch.no_grad():
        sae.W_dec[SILENT] = 0
        sae.W_dec[2, model.cfg.d_head :] = 0  # on the first head alone
    store = sc.FeatureDictionary.build(model, sae, corpus, contents=CONTENTS)
    n = model.cfg.n_heads
    told = Told(PROMPTS, TEXTS, np.zeros((corpus.n_tokens, 7)), [True] * corpus.n_tokens)
    told = replace(told, directions=_array(sae.W_dec))
    found = store.query("FROM heads")
    same_table(found, told.heads(n), ["feature", "head"])
    assert {*found.feature} == {*range(7)} - {SILENT}
    assert found[found.feature == 2].share.tolist() == [1.0] + [0.0] * (n - 1)
    assert [row["share"] for row in store.feature(2).heads] == [1.0] + [0.0] * (n - 1)
    assert same_rows(store.merge(store), store)


def same_rows(a, b) -> bool:
    """Whether two stores say the same of weights."""
    return all(
        a.query(f"FROM {name} ORDER BY ALL").equals(b.query(f"FROM {name} ORDER BY ALL"))
        for name in ("neurons", "heads", "logits")
    )


@pytest.mark.parametrize("measure", ["pearson", "cosine", "jaccard", "decoder"])
def test_correlations(both, measure):
    store, told = both
    found = store.query("FROM correlations WHERE measure = ? ORDER BY feature, rank", [measure])
    for f in range(told.n_features):
        near, rows = told.neighbours(measure, f), found[found.feature == f]
        assert rows["rank"].tolist() == list(range(1, min(5, len(near)) + 1))
        best = sorted(near.values(), reverse=True)[: len(rows)]
        assert rows.value.tolist() == pytest.approx(best, rel=1e-5, abs=1e-9)
        assert [near[g] for g in rows.other] == pytest.approx(best, rel=1e-5, abs=1e-9)
        assert rows.other.is_unique
        ties = list(zip(-rows.value, rows.other, strict=True))
        assert ties == sorted(ties)
    undefined = {"decoder": {SILENT}, "pearson": {DEAD}}.get(measure, {DEAD})
    assert undefined.isdisjoint(found.feature)
    assert undefined.isdisjoint(found.other)


def test_the_small_case():
    """The case with answers that the definitions come with."""
    prompts = ((0, 5, 6, 8, 5, 8), (9, 0, 1, 2, 3, 4))
    f0 = (1, 0, 1, 2, 0, 3, 0, 4, 0, 0, 4, 0)
    f1 = (0, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0)  # on 5, 6, 8, 5, 8, 9
    held = torch.tensor([f0, f1, (0,) * 12, (2,) * 12], dtype=torch.float64).T
    corpus = Corpus.of_prompts(prompts, Vocabulary(tuple(f" w{i}" for i in range(10))), "two")
    contents = Contents(examples=Wanted(intervals=4, quantiles=3), bins=4)
    store = sc.FeatureDictionary.build(None, HeldSource(held), corpus, contents=contents)
    numbers = store.statistics()
    assert numbers.density.tolist() == [0.5, 0.5, 0, 1]
    assert numbers.type.tolist() == ["dense", "dense", "dead", "dense"]
    assert (numbers.mean_active[0], numbers["max"][0]) == (2.5, 4)
    assert numbers.token_entropy[1] == pytest.approx(1.918296, abs=5e-7)
    cut = {
        row.kind: row for row in store.query("FROM distributions WHERE feature = 0").itertuples()
    }
    assert cut["histogram"].edges.tolist() == [1, 1.75, 2.5, 3.25, 4]
    assert cut["histogram"].counts.tolist() == [2, 1, 1, 2]
    assert cut["interval"].edges.tolist() == [0, 1, 2, 3, 4]
    assert cut["interval"].counts.tolist() == [2, 1, 1, 2]
    assert cut["quantile"].counts.tolist() == [2, 2, 2]
    told = Told(prompts, [f" w{i}" for i in range(10)], held.float().numpy(), [True] * 12)
    same_table(numbers, told.features(), ["feature"], 1e-12)
    same_table(store.query("FROM positions"), told.positions(), ["feature", "position"], 1e-12)
    assert not len(store.query("FROM logits"))
    assert numbers[["importance", "decoder_norm", "logit_std"]].isna().all(axis=None)
    masked = sc.FeatureDictionary.build(
        None, HeldSource(held), corpus, masks=Masks(skip_positions=[0]), contents=contents
    )
    assert masked.statistics().density.tolist() == [0.5, 0.5, 0, 1]
    assert masked.statistics().n_active.tolist() == [5, 5, 0, 10]
