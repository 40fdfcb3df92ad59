"""Files of graphs with features: what comes back, and which dictionaries fit it again."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from sae_circuits.ablation import ablate
from sae_circuits.attribution import attribute
from sae_circuits.errors import GraphError
from sae_circuits.evaluation import Report, evaluate
from sae_circuits.graph import Circuit, Scores, SourceRecord, TensorGraph
from sae_circuits.io import load, save
from sae_circuits.io.codec import from_plain, to_plain
from sae_circuits.models.dictionaries.gates import Threshold, TopK
from sae_circuits.prune import top_n
from shapes import HOOKED, random_task
from small_dictionaries import dictionary

GATES = ("relu", "topk", "abstopk", "threshold", "gated")


@pytest.fixture(scope="module")
def model():
    return HOOKED["gpt2"]()


@pytest.fixture(scope="module")
def task(model):
    return random_task(model)


@pytest.fixture(scope="module")
def saes(model):
    return [
        dictionary(model, "z", 0, gate="topk"),
        dictionary(model, "resid_post", 0, gate="threshold"),
        dictionary(model, "mlp_in", 1, writes="mlp_out", skip=True),
    ]


@pytest.fixture(scope="module")
def circuit(model, task, saes):
    graph = TensorGraph.from_model(model, saes=saes)
    graph = graph.restrict(["a0.f1", "a0.f4", "post0.f2", "m1.f0", "m1.f5"])
    return top_n(attribute(model, graph, task, method="eap"), 25)


@pytest.fixture
def loaded(circuit, tmp_path):
    save(circuit, tmp_path / "circuit.json")
    return load(tmp_path / "circuit.json", Circuit)


def test_a_circuit_comes_back_without_its_dictionaries(circuit, loaded):
    assert loaded == circuit
    assert loaded.graph == circuit.graph
    assert loaded.graph.saes == ()
    assert loaded.graph.made_with == circuit.graph.records
    assert [r.name for r in loaded.graph.made_with] == ["z.0", "resid_post.0", "mlp_in.1"]
    assert loaded.graph.made_with[2].reads == "mlp_in.1"
    assert loaded.graph.made_with[2].writes == ("mlp_out.1",)
    assert {r.n_features for r in loaded.graph.made_with} == {7}
    assert [e.name for e in loaded.edges] == [e.name for e in circuit.edges]


def test_scores_and_reports_come_back(model, task, saes, circuit, tmp_path):
    save(circuit.scores, tmp_path / "s.safetensors")
    scores = load(tmp_path / "s.safetensors", Scores)
    assert scores.graph.made_with == circuit.graph.records
    assert torch.equal(scores.values, circuit.scores.values)
    assert top_n(scores.with_saes(saes), 25) == circuit
    report = evaluate(model, circuit, task)
    save(report, tmp_path / "r.json")
    again = load(tmp_path / "r.json", Report)
    assert again.of == circuit
    assert again.faithfulness_errors_removed == report.faithfulness_errors_removed
    assert again.error_share == report.error_share


def test_with_its_dictionaries_a_loaded_circuit_runs_as_before(model, task, saes, circuit, loaded):
    ready = loaded.with_saes(saes[::-1])  # their order does not count
    assert ready.scores is not None
    assert ready.scores.graph.saes == ready.graph.saes
    assert torch.equal(ablate(model, ready, task), ablate(model, circuit, task))
    assert torch.equal(
        attribute(model, ready.graph, task, method="eap").values, circuit.scores.values
    )
    bare = replace(loaded, scores=None).with_saes(saes)
    assert bare == ready
    assert len(bare.graph.restrict(["m1.f0"]).saes) == 3


def test_without_its_dictionaries_it_says_what_to_do(model, task, loaded):
    for verb in (
        lambda: ablate(model, loaded, task),
        lambda: evaluate(model, loaded, task),
        lambda: attribute(model, loaded.graph, task),
    ):
        with pytest.raises(GraphError, match=r"holds no dictionaries.*with_saes\(load_saes"):
            verb()


def test_a_loaded_value_is_saved_again_as_it_was(loaded, saes, tmp_path):
    first = save(loaded, tmp_path / "a.json").read_bytes()
    assert save(loaded.with_saes(saes), tmp_path / "b.json").read_bytes() == first


def test_files_without_a_record_still_load(circuit, saes, tmp_path):
    plain = to_plain(circuit)
    del plain["graph"]["made_with"]
    old = from_plain(json.loads(json.dumps(plain)))
    assert old == circuit
    assert old.graph.made_with == ()
    assert old.with_saes(saes).graph.saes == tuple(saes)
    assert "made_with" not in to_plain(TensorGraph.from_model(circuit.graph.architecture))


# -- other dictionaries ---------------------------------------------------------------------------


def test_other_dictionaries_are_refused(model, saes, loaded):
    def refused(message, *given):
        for value in (loaded, loaded.scores, loaded.graph):
            with pytest.raises(GraphError, match=message):
                value.with_saes(list(given))

    z, post, m = saes
    refused(r"made with 'mlp_in.1' \(7 features at mlp_out.1\).* not among these", z, post)
    refused("none of the dictionaries that", z, post, m, dictionary(model, "resid_mid", 1))
    other = dictionary(model, "z", 0, gate="topk", seed=9)
    refused(r"not the dictionary at z\.0 .*'z\.0': its weights are others \(finger", other, post, m)
    refused("it has 8 features, and not 7", dictionary(model, "z", 0, gate="topk", n=8), post, m)
    sae = dictionary(model, "mlp_out", 1)
    refused(r"at mlp_out\.1 .*it reads mlp_out\.1, and not mlp_in\.1", z, post, sae)


def test_another_name_is_no_other_dictionary(saes, loaded):
    renamed = [replace(d, name=f"my {d.name}") for d in saes]
    assert loaded.graph.with_saes(renamed).saes == tuple(renamed)


@pytest.mark.parametrize("gate", GATES)
def test_a_fingerprint_follows_every_weight_and_the_gate(model, gate):
    d = dictionary(model, "mlp_in", 0, writes="mlp_out", gate=gate, skip=True)
    d = replace(d, b_in=torch.ones_like(d.b_enc[:1]).expand(d.W_enc.shape[0]).clone())
    assert d.fingerprint == dictionary_like(d).fingerprint
    for name in ("W_enc", "b_enc", "b_dec", "b_in", "W_skip"):
        changed = replace(d, **{name: getattr(d, name) * 1.1})
        assert changed.fingerprint != d.fingerprint, name
    assert replace(d, decoders=(d.W_dec * 1.1,)).fingerprint != d.fingerprint
    assert replace(d, gate=TopK(2)).fingerprint != d.fingerprint
    assert replace(d, gate=TopK(2)).fingerprint != replace(d, gate=TopK(1)).fingerprint
    if isinstance(d.gate, Threshold):
        moved = Threshold(d.gate.threshold + 1)
        assert replace(d, gate=moved).fingerprint != d.fingerprint


def dictionary_like(d):
    """The same values in other tensors."""
    return d.to("cpu", torch.float64).to("cpu", d.W_enc.dtype)


@pytest.mark.parametrize("gate", GATES)
def test_a_fingerprint_does_not_hang_on_the_dtype(model, gate):
    d = dictionary(model, "z", 0, gate=gate)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        assert d.to("cpu", dtype).fingerprint == d.fingerprint


def test_a_record_says_no_more_than_it_should():
    record = SourceRecord("a", "z.0", ("z.0",), 7, "x")
    assert record.difference(replace(record, name="b")) == ""
    assert record.difference(replace(record, writes=("z.1",))) == ""  # found by where it writes


# -- size -----------------------------------------------------------------------------------------


def test_many_numbers_are_written_as_bytes():
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.bool, torch.int64):
        values = torch.randn(10_001).mul(3).to(dtype)
        plain = json.loads(json.dumps(to_plain(values)))
        assert set(plain) == {"$tensor", "shape", "zlib"}
        back = from_plain(plain)
        assert back.dtype == dtype
        assert torch.equal(back, values)
    assert "values" in to_plain(torch.zeros(10_000))


def test_the_file_of_a_large_graph_is_small(model, tmp_path):
    saes = [dictionary(model, "mlp_in", layer, writes="mlp_out", n=1500) for layer in range(2)]
    graph = TensorGraph.from_model(model, saes=saes)
    assert graph.n_src > 3000
    assert graph.n_edges > 2_000_000
    few = torch.arange(graph.n_edges) % 100 == 0
    values = torch.randn(graph.n_edges) * few  # most features are not active
    path = save(top_n(Scores(graph, values), 500), tmp_path / "circuit.json")
    assert path.stat().st_size < 1_200_000  # half a byte an edge
    assert load(path, Circuit).scores.values.equal(values)
