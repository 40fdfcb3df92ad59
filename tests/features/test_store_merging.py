"""Stores that are merged, added to, saved, exported and read back: the same to the bit."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import sae_circuits as sc
from sae_circuits.errors import OptionError, OutputError, StoreError, UnknownName
from sae_circuits.features.extraction import LEAST
from sae_circuits.features.store.schema import TABLES
from small_stores import corpus, model, planted, record_of, rows_of, sae, same, store


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return store(out=tmp_path_factory.mktemp("whole"))


@settings(max_examples=3, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(st.integers(1, 5), st.integers(1, 40))
def test_halves_that_are_merged_or_added_equal_the_whole(whole, cut, batch_tokens):
    first, second = corpus()[:cut], corpus()[cut:]
    a, b = (store(half, batch_tokens=batch_tokens) for half in (first, second))
    merged = a.merge(b)
    assert same(merged, whole)
    assert same(a.add(second, batch_tokens=batch_tokens), whole)
    assert record_of(merged) == record_of(whole)
    assert merged.corpus.fingerprint == whole.corpus.fingerprint


def test_stores_that_were_loaded_are_merged_without_the_model(whole, tmp_path):
    for i, half in enumerate((corpus()[:2], corpus()[2:])):
        store(half, tmp_path / str(i))
    a, b = (sc.FeatureDictionary.load(tmp_path / str(i)) for i in range(2))
    merged = a.merge(b, tmp_path / "both")
    assert same(merged, whole)
    assert same(sc.FeatureDictionary.load(tmp_path / "both"), whole)
    with pytest.raises(StoreError, match=r"load\(folder, model, sae\)"):
        merged.add(corpus(seed=1))
    again = sc.FeatureDictionary.load(tmp_path / "both", model(), sae())
    assert same(again.add(corpus(seed=1)), whole.add(corpus(seed=1)))


@settings(max_examples=4, deadline=None)
@given(st.integers(1, 60), st.sampled_from([LEAST, 1 << 27, 1 << 31]))
def test_no_bit_depends_on_batches_or_memory(whole, batch_tokens, memory):
    assert same(store(batch_tokens=batch_tokens, memory=memory), whole)


def test_blocks_of_one_feature_and_shards_of_one_batch_give_the_same(whole, tmp_path, monkeypatch):
    monkeypatch.setattr("sae_circuits.features.activations.ACTIVE_BYTES", 1 << 40)
    monkeypatch.setattr("sae_circuits.features.extraction_job.FEWEST", 5)
    found = store(out=tmp_path, batch_tokens=5)
    assert len(list((tmp_path / "activations" / "0").glob("*.safetensors"))) > 3
    assert len(list(found.activations.blocks())) == len(found)
    assert same(found, whole)


def test_a_saved_store_is_the_same_where_it_is_loaded(whole, tmp_path):
    saved = whole.save(tmp_path / "copy")
    loaded = sc.FeatureDictionary.load(tmp_path / "copy")
    assert same(saved, whole)
    assert same(loaded, whole)
    assert loaded.database.meta() == whole.database.meta()
    assert loaded.activations.n_active == whole.activations.n_active
    with pytest.raises(OutputError, match="not empty"):
        whole.save(tmp_path / "copy")


# -- exports ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["store.json", "parquet"])
@pytest.mark.parametrize("make", [store, planted])
def test_what_is_exported_comes_back(make, name, tmp_path):
    found = make()
    found.label("manual", manual={"texts": {1: 'the "first" one\n€'}})
    path = found.export(tmp_path / name)
    back = sc.FeatureDictionary.from_export(path, tmp_path / "back")
    assert rows_of(back) == rows_of(found)
    assert back.database.meta() == found.database.meta()
    assert back.feature(1).label == 'the "first" one\n€'
    assert repr(back) == repr(found)
    assert rows_of(sc.FeatureDictionary.load(tmp_path / "back")) == rows_of(found)
    again = sc.FeatureDictionary.from_export(back.export(tmp_path / f"again-{name}"))
    assert rows_of(again) == rows_of(found)
    for what in (
        lambda: back.label(),
        lambda: back.corpus,
        lambda: back.activations,
        lambda: back.merge(found),
    ):
        with pytest.raises(StoreError, match="holds no activations"):
            what()


def test_json_is_strict(whole, tmp_path):
    text = whole.export(tmp_path / "store.json").read_text(encoding="utf-8")

    def refuse(constant):
        raise AssertionError(constant)

    said = json.loads(text, parse_constant=refuse)
    assert said.keys() == TABLES.keys()
    numbers = [row[key] for row in said["features"] for key in ("mean", "logit_skew")]
    assert all(x is None or math.isfinite(x) for x in numbers)


def test_some_features_are_exported_by_id_or_name(tmp_path):
    found = planted()
    for path in (
        found.export_feature("tags", tmp_path / "one.json"),
        found.export(tmp_path / "some.json", [2]),
    ):
        said = json.loads(path.read_text(encoding="utf-8"))
        assert [row["name"] for row in said["features"]] == ["tags"]
        assert {row["feature"] for row in said["examples"]} == {2}
        with pytest.raises(StoreError, match="1 of 6 features: export all"):
            sc.FeatureDictionary.from_export(path, tmp_path / "x")
        assert not list((tmp_path / "x").iterdir())
    with pytest.raises(UnknownName, match="no feature 6"):
        found.export(tmp_path / "some.json", [6])
    with pytest.raises(OptionError, match=r"\.json"):
        found.export(tmp_path / "parquet", [1])


def test_what_is_no_export_is_refused(tmp_path):
    found, out = planted(), tmp_path / "out"
    good = json.loads(found.export(tmp_path / "good.json").read_text(encoding="utf-8"))
    whole = tmp_path / "parquet"
    found.export(whole)

    def refused(path, said):
        with pytest.raises(StoreError, match=said):
            sc.FeatureDictionary.from_export(path, out)
        assert not list(out.iterdir())

    bad = tmp_path / "bad.json"
    row = good["features"][0]
    for text, said in (
        ("", "export it again"),
        ("[]", "has to hold meta"),
        ('{"meta": NaN}', "NaN is no number of JSON"),
        ('{"meta": {}}', "has to hold meta"),
        (json.dumps(good)[:-50], "export it again"),
        (json.dumps({**good, "meta": []}), "no record"),
        (json.dumps({**good, "meta": {}}), "no store of features"),
        (json.dumps({**good, "features": [{**row, "more": 1}]}), "'more'"),
        (json.dumps({**good, "features": [{**row, "feature": "x"}]}), "'features'"),
        (json.dumps({**good, "features": [1]}), "'features'"),
        (json.dumps({**good, "features": [row, row]}), "'features'"),
        (json.dumps({**good, "meta": {**good["meta"], "schema": 99}}), "schema 99"),
    ):
        bad.write_text(text, encoding="utf-8")
        refused(bad, said)
    (whole / "tokens.parquet").write_bytes((whole / "tokens.parquet").read_bytes()[:100])
    refused(whole, "'tokens'")
    (whole / "tokens.parquet").unlink()
    refused(whole, "tokens.parquet")
    refused(tmp_path / "nothing", "no export")
