"""Connections of all pairs of features, against those of each target alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import sae_circuits as sc
from sae_circuits.connectome.asked import METHODS
from sae_circuits.errors import DictionaryError, GraphError, UnknownName
from small_connections import CASES, EVERY, problem
from small_dictionaries import N_FEATURES, dictionary


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("shape", "source", "target"), CASES)
def test_every_pair_is_what_one_target_alone_gives(shape, source, target, method):
    model, saes, place, end, task = problem(shape, source, target)
    way = {"method": method, "reference": "corrupt"}
    whole = sc.pair_connections(model, end, saes, task, batch_size=2, **way)
    seen = 0
    for feature in EVERY:
        name = f"{end}.f{feature}"
        if not whole.active[feature]:
            continue
        alone = sc.connections(model, name, saes, task, **way)
        assert float(whole.active[feature]) == pytest.approx(alone.active, abs=1e-12)
        for own in EVERY:
            edge = f"{place}.f{own}"
            assert whole[f"{edge}->{name}"] == pytest.approx(alone[edge], abs=1e-12)
        seen += len(whole.into(name, N_FEATURES)) > 0
    assert seen


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("reference", ["zero", "mean", 1.5, ("scale", 2.5)])
def test_references_are_those_of_one_target(reference, method):
    model, saes, place, end, task = problem("llama", "mlp_out", "transcoder")
    way = {"method": method, "reference": reference, "positions": [1, 3]}
    whole = sc.pair_connections(model, [f"{end}.f{i}" for i in EVERY], saes, task, **way)
    for target in (i for i in EVERY if whole.active[i]):
        alone = sc.connections(model, f"{end}.f{target}", saes, task, **way)
        each = [whole[f"{place}.f{i}->{end}.f{target}"] for i in EVERY]
        torch.testing.assert_close(torch.tensor(each, dtype=torch.float64), alone.values[place])


@pytest.mark.parametrize("method", METHODS)
def test_a_multiple_of_0_is_0_and_of_1_nothing(method):
    model, saes, place, end, task = problem("gpt2")
    ways = [
        sc.pair_connections(model, end, saes, task, method=method, reference=reference)
        for reference in ("zero", ("scale", 0.0), ("scale", 1.0))
    ]
    zero, none, same = (way.scores(place) for way in ways)
    assert torch.equal(zero.ids, none.ids)
    torch.testing.assert_close(zero.values, none.values)
    assert float(same.values.abs().sum()) == pytest.approx(0, abs=1e-12)
    assert len(zero)


def test_gradients_double_with_the_change():
    model, saes, place, end, task = problem("gpt2")
    once, twice = (
        sc.pair_connections(model, end, saes, task, reference=("scale", c)).scores(place)
        for c in (2.0, 3.0)
    )
    torch.testing.assert_close(2 * once.values, twice.values)


@pytest.mark.parametrize("steps", [1, 3])
def test_steps_are_those_of_one_target(steps):
    model, saes, place, end, task = problem("gpt2", "resid_pre", "resid_post")
    whole = sc.pair_connections(model, end, saes, task, method="total", steps=steps)
    target = int(whole.active.argmax())
    alone = sc.connections(model, f"{end}.f{target}", saes, task, steps=steps)
    for i in EVERY:
        edge = f"{place}.f{i}"
        assert whole[f"{edge}->{end}.f{target}"] == pytest.approx(alone[edge], abs=1e-12)


def test_several_dictionaries_upstream_each_have_a_graph():
    model, saes, place, end, task = problem("gpt2")
    both = [dictionary(model, "resid_pre", 0), *saes]
    whole = sc.pair_connections(model, end, both, task)
    assert list(whole.pairs) == ["pre0", place]
    apart = sc.pair_connections(model, end, saes, task)
    assert torch.equal(whole.scores(place).values, apart.scores(place).values)
    assert len(whole.to_pandas()) == sum(map(len, whole.pairs.values()))


def test_they_are_listed_by_either_end():
    model, saes, _, end, task = problem("gpt2")
    whole = sc.pair_connections(model, end, saes, task, method="total")
    name, value = whole.top(1)[0]
    source, target = name.split("->")
    assert whole.into(target)[0] == (source, value)
    assert whole.of(source)[0] == (target, value)
    sizes = [abs(x) for _, x in whole.top(20)]
    assert sizes == sorted(sizes, reverse=True)
    table = whole.to_pandas()
    assert list(table.columns) == ["source", "target", "method", "value"]
    row = table[(table["source"] == source) & (table["target"] == target)]
    assert list(row["value"]) == [value]


def test_some_features_are_patched_alone():
    model, saes, place, end, task = problem("gpt2")
    whole = sc.pair_connections(model, end, saes, task, method="patching")
    (source, target), value = (whole.top(1)[0][0].split("->")), whole.top(1)[0][1]
    few = sc.pair_connections(model, end, saes, task, method="patching", features=[source])
    assert few[f"{source}->{target}"] == pytest.approx(value)
    other = next(i for i in EVERY if f"{place}.f{i}" != source)
    with pytest.raises(GraphError, match=f"'{place}.f{other}' was not asked for"):
        _ = few[f"{place}.f{other}->{target}"]


def test_they_are_pruned_drawn_saved_and_compared_like_a_circuit(tmp_path):
    model = sc.load_model("demo")
    saes, task = sc.load_saes("demo", ["mlp_out.0", "resid_post.1"]), sc.tasks.ioi(model, 8, 0)
    ways = {
        method: sc.pair_connections(model, "post1", saes, task, method=method).scores("m0")
        for method in ("direct", "total")
    }
    nodes = ways["total"].features(30)
    direct, total = (way.among(nodes) for way in ways.values())
    for name, value in total.top(20):
        assert value == ways["total"][name]
    assert total.values.count_nonzero() <= len(ways["total"])
    agreed = sc.agreement(direct, total)
    assert 0 < agreed.pearson < 1
    circuit = sc.prune.top_n(total, 20)
    assert {edge.name for edge in circuit.edges} == {name for name, _ in total.top(20)}
    drawn = sc.viz.picture(circuit)
    assert {f"{edge.src}->{edge.dest}" for edge in drawn.edges} == {e.name for e in circuit.edges}
    ways["direct"].save(tmp_path / "pairs.safetensors")
    again = sc.load(tmp_path / "pairs.safetensors", sc.PairScores)
    assert torch.equal(again.values, ways["direct"].values)
    assert again.provenance.method == "direct connections"
    assert again.provenance.task == "ioi"


def test_among_leaves_out_what_is_not_named():
    model, saes, place, end, task = problem("gpt2")
    pairs = sc.pair_connections(model, end, saes, task).scores(place)
    named = dict(pairs.top(len(pairs)))
    keep = [f"{place}.f{i}" for i in (0, 2, 5)] + [f"{end}.f{i}" for i in (1, 3, 4)]
    few = pairs.among(keep)
    for edge in few.graph.edges:
        expected = named.get(edge.name, 0.0)
        assert few[edge] == expected


def test_bad_input_is_refused_in_words():
    model, saes, place, end, task = problem("gpt2")
    ask = lambda target, **more: sc.pair_connections(model, target, saes, task, **more)  # noqa: E731
    with pytest.raises(GraphError, match=r"'m1' is no feature of the dictionaries given"):
        ask("m1")
    with pytest.raises(GraphError, match=r"nothing given writes before 'm0' reads"):
        ask("m0")
    with pytest.raises(GraphError, match="give features of one dictionary"):
        ask(["post1.f1", "m0.f2"])
    with pytest.raises(GraphError, match="give features of one dictionary"):
        ask([])
    with pytest.raises(GraphError, match="has features 0 to 6"):
        ask(["post1.f9"])
    with pytest.raises(UnknownName, match="patch"):
        ask(end, method="patch")
    with pytest.raises(GraphError, match="stand at the same place"):
        sc.pair_connections(model, end, [*saes, saes[0]], task)
    found = ask(end)
    with pytest.raises(UnknownName, match="m1"):
        found.scores("m1")
    with pytest.raises(GraphError, match=r"'post1.f9': post1 has 0 to 6"):
        found.into("post1.f9")
    with pytest.raises(GraphError, match="is no feature of post1"):
        found.into(f"{place}.f1")
    with pytest.raises(GraphError, match=f"is no feature of {place}"):
        found.of(f"{end}.f1")
    with pytest.raises(GraphError, match=f"is no feature of {place}"):
        _ = found[f"pre0.f1->{end}.f1"]
    dead = replace(saes[1], gate=torch.zeros_like)
    with pytest.raises(DictionaryError, match=r"active on any of the 3 prompts"):
        sc.pair_connections(model, end, [saes[0], dead], task)
