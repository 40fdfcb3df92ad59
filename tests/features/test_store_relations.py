"""Features of a store beside neurons, a second dictionary and what else is active."""

from __future__ import annotations

import jaxtyping
import numpy as np
import pytest
import torch

import sae_circuits as sc
from reference_features import Told, run_by_prompt
from sae_circuits.cli.features import described
from sae_circuits.errors import (
    CorpusError,
    DictionaryError,
    OptionError,
    StoreError,
    UnknownName,
)
from sae_circuits.features.arrays import ArrayActivity
from sae_circuits.features.masks import Masks
from sae_circuits.features.sources import DirectionSource, HeldSource, NeuronSource
from shapes import hooked
from small_saes import random_sae
from small_stores import CONTENTS, HOOK, corpus, model, planted, rows_of, sae, same, store

MASKS = {
    "by default": Masks(),
    "tokens and positions": Masks(special=True, skip_tokens=[3], skip_positions=[2]),
    "norms": Masks(max_norm=5.0),
}


def prompts() -> list[list[int]]:
    return [prompt.tolist() for prompt in corpus()]


def neurons() -> np.ndarray:
    """[token, neuron], of every prompt by itself."""
    name, rows = "blocks.0.mlp.hook_post", []
    for prompt in prompts():
        _, kept = model().run_with_cache(torch.tensor([prompt]), names_filter=name)
        rows.append(kept[name][0])
    return torch.cat(rows).float().numpy()


def second(n: int = 5):
    return random_sae("standard", HOOK, model().cfg.d_model, n, seed=3, dtype="float64")


def same_neighbours(found, mine: np.ndarray, others: np.ndarray, counted, k: int) -> None:
    """Whether a table of neighbours is what loops over two dense arrays give."""
    told = Told(prompts(), [""] * 99, np.concatenate([mine, others], 1), counted.tolist())
    n = mine.shape[1]
    for measure in ("pearson", "cosine", "jaccard"):
        rows = found[found.measure == measure].set_index("feature")
        for f in range(n):
            every = {g: told.pair(measure, f, n + g) for g in range(others.shape[1])}
            values = {g: value for g, value in every.items() if value is not None}
            own = rows.loc[[f]] if f in rows.index else rows[:0]
            assert own["rank"].tolist() == list(range(1, min(k, len(values)) + 1))
            best = sorted(values.values(), reverse=True)[: len(own)]
            assert own.value.tolist() == pytest.approx(best, rel=1e-5, abs=1e-7)
            assert [values[g] for g in own.other] == pytest.approx(best, rel=1e-5, abs=1e-7)
            assert own.other.is_unique


@pytest.mark.parametrize("masks", MASKS.values(), ids=MASKS)
def test_neurons_as_loops_find_them(masks):
    features = store(masks=masks)
    found = features.relate("neurons", k=4)
    dense, norms = run_by_prompt(model(), sae(), HOOK, prompts())
    counted = features.activations.counted
    if masks.max_norm is not None:
        assert counted.tolist() == (masks.counted(corpus()) & (np.array(norms) <= 5)).tolist()
    assert 12 < counted.sum() < corpus().n_tokens
    same_neighbours(found, dense, neurons(), counted, 4)
    held = features.query("FROM correlations WHERE among = 'neurons' ORDER BY ALL")
    assert len(held) == len(found) > 30
    own = found[(found.feature == 2) & (found.measure == "pearson")]
    shown = features.similar(2, "pearson", among="neurons")
    assert shown.feature.tolist() == own.other.tolist()
    assert shown.value.tolist() == own.value.tolist()
    assert shown[["name", "type", "density", "label"]].isna().all(axis=None)
    assert features.database.meta()["related"]["neurons"]["source"]["site"] == "mlp_post.0"
    assert not [path for path in features.folder.iterdir() if path.suffix == ".part"]


def test_what_neurons_are_hangs_on_no_batch_or_block(monkeypatch):
    whole = store().relate("neurons", k=3)
    monkeypatch.setattr("sae_circuits.features.activations.ACTIVE_BYTES", 1 << 40)
    monkeypatch.setattr("sae_circuits.features.extraction_job.HELD_BYTES", 1 << 26)
    monkeypatch.setattr("sae_circuits.features.analyses.at_once_in", lambda memory: 7)
    again = store(batch_tokens=5).relate("neurons", k=3, memory=1 << 26)
    assert again.equals(whole)


def test_neurons_of_a_gated_mlp_are_what_its_last_matrix_reads():
    llama = hooked("llama", n_ctx=20)
    source = NeuronSource.of(llama, 1)
    read = source.read(corpus(), 0, 1)
    tokens = torch.tensor(prompts()[:1])
    _, kept = llama.run_with_cache(
        tokens, names_filter=lambda name: name.startswith("blocks.1.mlp")
    )
    torch.testing.assert_close(read, kept["blocks.1.mlp.hook_post"][0])
    written = read @ llama.W_out[1] + llama.b_out[1]
    _, kept = llama.run_with_cache(tokens, names_filter="blocks.1.hook_mlp_out")
    torch.testing.assert_close(written, kept["blocks.1.hook_mlp_out"][0])
    with pytest.raises(DictionaryError, match="no layer 7"):
        NeuronSource.of(llama, 7)
    with pytest.raises(DictionaryError, match="no MLPs"):
        NeuronSource.of(hooked("attention-only"), 0)


def test_a_second_dictionary():
    features, other = store(), store_of(second())
    found = features.relate(other, k=3)
    mine, its = (run_by_prompt(model(), some, HOOK, prompts())[0] for some in (sae(), second()))
    same_neighbours(found, mine, its, features.activations.counted, 3)
    (name,) = features.database.meta()["related"]
    assert name == other.database.meta()["source"]["dictionary"]
    assert features.similar(1, among=name).measure.unique().tolist() == [
        "cosine", "jaccard", "pearson"
    ]  # fmt: skip
    before = rows_of(features)
    fewer = features.relate(other, k=1, measures=["jaccard"])
    held = features.query("FROM correlations WHERE among = ?", [name])
    assert set(held.measure) == {"jaccard"}
    assert len(held) == len(fewer)
    own = [row for row in before["correlations"] if row["among"] == "features"]
    features.relate(other, "again")
    assert set(features.feature(1).neighbours[0]) >= {"among", "measure", "feature", "value"}
    assert [row["among"] for row in features.feature(1).neighbours][-1] == name
    rows = rows_of(features)["correlations"]
    assert [row for row in rows if row["among"] == "features"] == own
    assert {row["among"] for row in rows} == {"features", name, "again"}


def store_of(other, **options) -> sc.FeatureDictionary:
    return sc.FeatureDictionary.build(model(), other, corpus(), contents=CONTENTS, **options)


def test_activity_of_ones_own_and_directions_with_names():
    features = store()
    activity = ArrayActivity(corpus(), features.activations.counted, neurons())
    assert features.relate(activity, "held").equals(features.relate("neurons"))
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(2, model().cfg.d_model, generator=generator, dtype=torch.float64)
    probes = DirectionSource.of(model(), HOOK, dict(zip(("up", "down"), vectors, strict=True)))
    features.relate(store_of(probes), "probes")
    shown = features.similar(1, "pearson", among="probes")
    card, lines = features.feature(1)._repr_html_(), described(features.feature(1)).splitlines()
    first = f"{shown.name[0]} {shown.value[0]:+.2f}"
    assert any(line.startswith(f"Nearest probes (pearson): {first}") for line in lines)
    assert shown.name[0] in card
    assert "Nearest features" in card
    (row, *_) = features.feature(1).neurons
    assert any(line.startswith(f"Writes on: {row['neuron']} ") for line in lines)
    assert shown.name.tolist() == [("up", "down")[i] for i in shown.feature]
    assert len(shown) == 2
    named = planted()
    assert named.similar("names", "jaccard").name[0] == "truth"


@pytest.mark.parametrize("name", ["store.json", "parquet"])
def test_they_are_saved_exported_and_read_back_and_a_merge_leaves_them_out(name, tmp_path):
    features = store()
    plain = features.merge(features)
    features.relate("neurons", k=2)
    copy = features.save(tmp_path / "copy")
    back = sc.FeatureDictionary.from_export(features.export(tmp_path / name), tmp_path / "back")
    want = features.similar(2, among="neurons")
    assert len(want) == 6
    for other in (copy, back):
        assert rows_of(other) == rows_of(features)
        assert other.database.meta() == features.database.meta()
        assert other.similar(2, among="neurons").equals(want)
    merged = features.merge(copy)
    assert same(merged, plain)
    assert merged.database.meta()["related"] == {}


def test_what_cannot_be_related_is_refused_and_leaves_the_store_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # it would refuse some first
    features = store(out=tmp_path / "store")
    before, meta = rows_of(features), features.database.meta()
    held = HeldSource(np.ones((corpus().n_tokens, 2)))
    loaded = sc.FeatureDictionary.load(tmp_path / "store")
    exported = sc.FeatureDictionary.from_export(features.export(tmp_path / "all.json"))
    other = store(masks=Masks(skip_positions=[1]))
    for ask, error, said in (
        (lambda: features.relate("neuron"), OptionError, "'neurons'"),
        (lambda: features.relate("neurons", "features"), OptionError, "other than 'features'"),
        (lambda: features.relate(features.activations), OptionError, "name=None"),
        (lambda: features.relate(np.ones(3), "x"), OptionError, "ArrayActivity"),
        (lambda: features.relate("neurons", k=0), OptionError, "k is 0"),
        (lambda: features.relate("neurons", measures=["person"]), UnknownName, "pearson"),
        (lambda: features.relate(store(corpus(seed=1))), CorpusError, "one corpus"),
        (lambda: features.relate(other), CorpusError, "same masks"),
        (lambda: loaded.relate("neurons"), StoreError, r"load\(folder, model, sae\)"),
        (lambda: store_of(held).relate("neurons"), StoreError, r"load\(folder, model, sae\)"),
        (lambda: exported.relate(features), StoreError, "no activations"),
        (lambda: features.similar(1, among="neurons"), UnknownName, "'neurons'"),
        (lambda: features.similar(1, "decode"), UnknownName, "decoder"),
    ):
        with pytest.raises(error, match=said):
            ask()
    assert rows_of(features) == before
    assert features.database.meta() == meta
    assert {path.name for path in features.folder.iterdir()} == {
        "features.duckdb", "corpus.safetensors", "activations"
    }  # fmt: skip
