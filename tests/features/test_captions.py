"""What stores say of the features in a picture."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

import sae_circuits as sc
from sae_circuits.cli.app import app
from sae_circuits.errors import StoreError
from sae_circuits.features.captions import captions
from shapes import random_task
from small_saes import random_sae
from small_stores import HOOK, model, planted, sae, store


@pytest.fixture(scope="module")
def labelled():
    features = store()
    features.label("manual", manual={"texts": {1: "a name & <b>", 2: "another"}})
    return features


@pytest.fixture(scope="module")
def graph():
    width, later = model().cfg.d_model, HOOK.replace("0", "1")
    saes = sc.load_saes([sae(), random_sae("standard", later, width, 4, dtype="float64")])
    return sc.TensorGraph.from_model(model(), saes=saes).restrict({"m0": [1, 4]})


def test_labels_and_tokens_are_those_of_the_features_in_the_graph(labelled, graph):
    said = captions(graph, [labelled])
    assert said["labels"] == {"m0.f1": "a name & <b>"}
    assert list(said["notes"]) == ["m0.f1", "m0.f4"]
    for i in (1, 4):
        feature = labelled.feature(i)
        fires = [repr(row["text"].strip()) for row in feature.tokens][:5]
        top = [row for row in feature.logits if row["kind"] == "top"][:5]
        raises = [repr(row["text"].strip()) for row in top]
        lines = [f"raises {', '.join(raises)}"]
        if fires:  # a dead feature has effects on the logits only
            lines.insert(0, f"fires on {', '.join(fires)}")
        assert said["notes"][f"m0.f{i}"].split("\n") == lines
    assert "fires on" in said["notes"]["m0.f1"]


def test_they_are_shown_in_the_page(labelled, graph, tmp_path):
    circuit = sc.Circuit.from_edges(graph, ["m0.f1->a1.h0<v>", "m0.f4->logits"])
    page = circuit.render(tmp_path / "a.html", **captions(circuit, [labelled])).read_text()
    assert "a name &amp; &lt;b&gt;" in page
    assert "another" not in page
    assert "fires on" in page


def test_the_command_line_takes_stores(labelled, graph, tmp_path):
    circuit = sc.Circuit.from_edges(graph, ["m0.f1->a1.h0<v>", "m0.f4->logits"])
    circuit.save(tmp_path / "circuit.json")
    out, folder = tmp_path / "a.html", labelled.save(tmp_path / "store").folder
    arguments = ["render", tmp_path / "circuit.json", out, "--store", folder]
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    assert "a name &amp; &lt;b&gt;" in out.read_text()


def test_stores_of_a_trace():
    demo, prompt = sc.load_model("demo"), "Mary gave a ring to"
    transcoders = sc.load_saes("demo", kind="transcoder")
    traced = sc.trace(demo, prompt, transcoders=transcoders)
    corpus = sc.demo_corpus(2000)
    second = sc.FeatureDictionary.build(demo, transcoders[1], corpus)
    second.label("tokens")
    said = captions(traced, [second])
    there = {f"m1.f{n.index}" for n in traced.nodes if n.kind == "feature" and n.layer == 1}
    assert there >= said["notes"].keys() >= said["labels"].keys()
    assert len(said["labels"]) > 3
    other = sc.FeatureDictionary.build(demo, sc.load_saes("demo", ["mlp_out.1"])[0], corpus)
    with pytest.raises(StoreError, match="of none of the transcoders"):
        captions(traced, [other])


def test_stores_of_other_dictionaries_are_refused(labelled, graph):
    plain = sc.TensorGraph.from_model(model())
    with pytest.raises(StoreError, match=r"of another dictionary .*\(no dictionary\)"):
        captions(plain, [labelled])
    with pytest.raises(StoreError, match="no dictionary's features"):
        captions(graph, [planted()])
    scores = sc.attribute(model(), graph, random_task(model()), method="eap")
    assert captions(sc.prune.top_n(scores, 5), [labelled])["labels"]
