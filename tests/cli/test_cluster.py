"""`sae-circuits cluster`, beside what Python gives."""

from __future__ import annotations

import pandas
import pytest

import sae_circuits as sc
from command_line import call, done, refused

DEMO = ("cluster", "--sae", "demo", "--sae-id")
FEW = ("--repeats", 1)


def test_it_finds_what_python_finds_and_writes_it(tmp_path):
    names = [tmp_path / f"clusters.{suffix}" for suffix in ("json", "csv", "svg", "png")]
    outs = [part for name in names for part in ("--out", name)]
    said = done(*DEMO, "resid_post.1", "--k", 8, "--seed", 3, "--repeats", 2, *outs)
    (sae,) = sc.load_saes("demo", ["resid_post.1"])
    want = sc.cluster(sae, "decoder", k=8, seed=3, repeats=2)
    found = sc.load(names[0], sc.Clusters)
    assert found.member_of.equal(want.member_of)
    assert found.stability.equal(want.stability)
    assert said.splitlines()[0] == repr(want)
    for i in range(len(want)):
        row = said.splitlines()[2 + i].split()
        assert row[:2] == [f"c{i}", str(len(want.members(i)))]
        assert row[2] == f"{float(want.stability[i]):.2f}"
        assert row[3:6] == want.typical(i, 3)
    table = pandas.read_csv(names[1])
    assert table["cluster"].tolist() == want.to_pandas("features")["cluster"].tolist()
    assert names[2].read_text().startswith("<svg")
    assert names[3].read_bytes()[1:4] == b"PNG"


def test_stores_and_scores_are_taken_from_files(tmp_path):
    model = sc.load_model("demo")
    saes = sc.load_saes("demo", ["resid_post.1", "transcoder.2"])
    store = sc.FeatureDictionary.build(model, saes[0], sc.demo_corpus(2000), tmp_path / "store")
    weights = sc.virtual_weights(model, *saes)
    weights.save(tmp_path / "weights.safetensors")
    files = ("--store", tmp_path / "store", "--scores", tmp_path / "weights.safetensors")
    for by, of in (("co-activation", store), ("connections", weights)):
        want = sc.cluster(
            of, by, scores=weights, stores=[store][by == "co-activation" :], repeats=1
        )
        said = done("cluster", "--by", by, *files, *FEW, "--out", tmp_path / "found.json")
        found = sc.load(tmp_path / "found.json", sc.Clusters)
        assert found.member_of.equal(want.member_of)
        assert found.sizes.equal(want.sizes)
        assert found.common == want.common
        assert any(want.common)
        assert all(text in said for text in want.common)
        assert f"{float(want.shares('out')[0]):.2f}" in said.splitlines()[2]
    own = done(*DEMO, "resid_post.1", "--sae-id", "transcoder.2", "--by", "connections", *FEW)
    assert own.splitlines()[0] == repr(want)
    pearson = done("cluster", "--by", "co-activation", *files[:2], "--measure", "pearson", *FEW)
    want = sc.cluster(store, "co-activation", measure="pearson", repeats=1)
    assert pearson.splitlines()[0] == repr(want)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--by", "decoders"], "decoders"),
        (["--method", "kmeans"], "kmeans"),
        (["--out", "found.txt"], "end it in .json, .csv, .svg, .png"),
        (["--out", "nowhere/found.json"], "there is no folder 'nowhere'"),
        ([], "--by decoder needs a dictionary"),
        (["--by", "co-activation"], "--by co-activation needs --store"),
        (["--by", "co-activation", "--store", "s", "--sae", "demo"], "leave out --sae"),
        (["--by", "connections"], "needs --scores, or --sae with two --sae-id"),
        (["--sae", "demo", "--measure", "pearson", "--sae-id", "z.1"], "by='co-activation'"),
        (["--by", "co-activation", "--store", "nowhere"], "no store at"),
        (["--by", "connections", "--scores", "nowhere.safetensors"], "nowhere.safetensors"),
        (["--sae", "demo", "--sae-kind", "transcoder"], "give one, with --sae-id"),
        (["--sae", "demo", "--by", "connections", "--sae-id", "z.1"], "give two"),
    ],
)
def test_what_is_wrong_is_said(options, message):
    refused(call("cluster", *options), message)
