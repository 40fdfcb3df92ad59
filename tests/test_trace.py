"""Attribution graphs against a slow reference with autograd, and against their own identities."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch

import reference_trace as slow
import sae_circuits as sc
from sae_circuits.errors import (
    ContextError,
    DictionaryError,
    NumericalError,
    OptionError,
    TaskError,
)
from sae_circuits.models.dictionaries import Dictionary, Site, gates
from sae_circuits.models.dictionaries.scalings import SCALINGS
from sae_circuits.tracing import plan, sources
from sae_circuits.tracing.influence import most_influential
from sae_circuits.tracing.nodes import FEATURE, LOGIT, TOKEN, Nodes
from sae_circuits.tracing.prune import strongest_edges
from sae_circuits.tracing.rows import Block
from shapes import BRIDGED, HOOKED, HOOKED_CONFIGS, TWINS

SHAPES = [shape for shape in HOOKED_CONFIGS if shape != "attention-only"]
FEATURES, N_POS = 9, 5
TOKENS = torch.tensor([3, 17, 5, 3, 28])


def transcoders(model, *, reads="mlp_in", kind="plain", seed=0, layers=None, **fields):
    """Random transcoders of each layer of a model, or of some; about half their features are on."""
    generator = torch.Generator().manual_seed(seed)
    d, n_layers = model.cfg.d_model, model.cfg.n_layers

    def draw(*shape, size=1.0):
        return size * torch.randn(shape, generator=generator, dtype=torch.float64)

    found = []
    for layer in range(n_layers) if layers is None else layers:
        to = range(layer, n_layers) if kind == "cross" else [layer]
        found.append(
            Dictionary(
                name=f"random.{layer}",
                reads=Site(reads, layer),
                writes=tuple(Site("mlp_out", i) for i in to),
                W_enc=draw(d, FEATURES, size=d**-0.5),
                b_enc=draw(FEATURES, size=0.3),
                decoders=tuple(draw(FEATURES, d, size=0.5) for _ in to),
                b_dec=draw(d, size=0.3),
                gate=fields.get("gate", gates.relu),
                b_in=draw(d, size=0.2) if fields.get("b_in") else None,
                scaling=SCALINGS.get(fields.get("scaling", "")),
                W_skip=draw(d, d, size=0.5 * d**-0.5) if kind == "skip" else None,
            )
        )
    return found


def whole(model, dictionaries, tokens=TOKENS, **options):
    """The graph with nothing pruned."""
    options = {"n_logits": 3, "logit_share": 1.0, "node_share": 1.0, "edge_share": 1.0, **options}
    return sc.trace(model, tokens, transcoders=dictionaries, **options)


def targets(graph) -> list[int]:
    return [node.index for node in graph.nodes if node.kind == "logits"]


CASES = [(shape, reads, "plain", {}) for shape in SHAPES for reads in ("mlp_in", "resid_mid")]
CASES += [(shape, "mlp_in", kind, {}) for shape in SHAPES for kind in ("skip", "cross")]
CASES += [(shape, "mlp_normalized", "skip", {}) for shape in SHAPES]
CASES += [
    ("gpt2", "resid_mid", "skip", {}),
    ("gpt2", "mlp_normalized", "cross", {"scaling": "layer_norm"}),
    ("pythia", "resid_mid", "skip", {}),
    ("gemma2", "resid_mid", "cross", {}),
    ("llama", "mlp_in", "plain", {"layers": [1]}),
    ("gpt2", "mlp_in", "cross", {"layers": [0]}),
    ("gpt2", "mlp_in", "plain", {"gate": gates.AbsoluteTopK(3), "b_in": True}),
    ("gpt2", "resid_mid", "plain", {"scaling": "layer_norm", "b_in": True}),
    ("gpt2", "mlp_in", "skip", {"scaling": "constant_norm_rescale"}),
]


@cache
def case(number: int):
    shape, reads, kind, fields = CASES[number]
    model = HOOKED[shape](n_layers=3)
    dictionaries = transcoders(model, reads=reads, kind=kind, **fields)
    graph = whole(model, dictionaries)
    return model, dictionaries, graph, slow.Reference(model, TOKENS, dictionaries, targets(graph))


every_case = pytest.mark.parametrize(
    "number", range(len(CASES)), ids=["-".join(map(str, c[:3])) + "".join(c[3]) for c in CASES]
)


def matrix(graph, reference) -> torch.Tensor:
    """A graph's matrix, [target, source] in the order of a reference."""
    names, A = slow.dense(graph)
    rows = [names.index(name) for name in reference.targets]
    columns = [names.index(name) for name in reference.sources]
    return A[rows][:, columns]


@every_case
def test_direct_effects_are_the_gradients_of_a_frozen_run(number):
    _, _, graph, reference = case(number)
    names = [node.name for node in graph.nodes]
    assert set(names) == {*reference.sources, *reference.targets}
    assert len(reference.targets) > (9 if number < 2 * len(SHAPES) else 3)
    torch.testing.assert_close(matrix(graph, reference), reference.A, rtol=1e-9, atol=1e-11)
    assert graph.weight.dtype == torch.float64


@every_case
def test_a_row_and_the_biases_are_the_pre_activation(number):
    model, _, graph, reference = case(number)
    found = matrix(graph, reference).sum(1) + reference.bias
    features = [s for s in reference.sources if ".f" in s]
    active = dict(zip([n.name for n in graph.nodes], graph.activation.tolist(), strict=True))
    known = torch.tensor([active[name] for name in features], dtype=torch.float64)
    torch.testing.assert_close(found[: len(known)], known, rtol=1e-8, atol=1e-10)
    if not model.cfg.output_logits_soft_cap:
        logits = model(TOKENS[None])[0, -1]
        known = logits[targets(graph)] - logits.mean()
        torch.testing.assert_close(found[len(features) :], known, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("number", [0, 7, 13, 21], ids=lambda i: "-".join(map(str, CASES[i][:3])))
def test_edges_hold_in_a_real_intervention(number):
    _, _, graph, reference = case(number)
    generator = torch.Generator().manual_seed(number)
    base = torch.ones(len(reference.sources), dtype=torch.float64)
    for source in torch.randperm(len(base), generator=generator)[:6].tolist():
        changed = base.clone()
        changed[source] += 0.7
        moved = (reference.run(changed) - reference.value).detach()
        own = matrix(graph, reference)[:, source]
        torch.testing.assert_close(own, moved / 0.7, rtol=1e-8, atol=1e-10)


def graph_and_matrix(number: int):
    _, _, graph, _ = case(number)
    names, A = slow.dense(graph)
    is_logit = torch.tensor([name.startswith("logits") for name in names])
    start = torch.where(is_logit, graph.activation, 0.0)
    return graph, names, A, start / start.sum()


@pytest.mark.parametrize("number", [0, 6, 16])
def test_influence_is_the_sum_over_all_paths(number):
    graph, names, A, start = graph_and_matrix(number)
    expected = slow.influence(A, start) + start
    torch.testing.assert_close(graph.influence, expected, rtol=1e-10, atol=1e-13)
    is_error = torch.tensor([".error" in name for name in names])
    is_token = torch.tensor([name.startswith("input") for name in names])
    errors, tokens = expected[is_error].sum(), expected[is_token].sum()
    assert graph.replacement == pytest.approx(float(tokens / (tokens + errors)))
    kept = 1 - slow.normalised(A)[:, is_error].sum(1)  # as published: over all nodes
    assert graph.completeness == pytest.approx(float((kept * expected).sum() / expected.sum()))


@pytest.mark.parametrize("number", [0, 6, 16])
@pytest.mark.parametrize("shares", [(0.8, 0.98), (0.5, 0.9), (0.9, 0.5), (1.0, 0.7), (0.6, 1.0)])
def test_pruning_is_the_published_one(number, shares):
    model, dictionaries, graph, _ = case(number)
    _, names, A, start = graph_and_matrix(number)
    nodes, edges = slow.pruned(names, A, start, *shares)
    small = whole(model, dictionaries, node_share=shares[0], edge_share=shares[1])
    assert {node.name for node in small.nodes} == nodes
    if shares[1] == 1:  # the reference's edges of 1 may leave out some that are 1e-17
        edges = {e for e in edges if e in {(x.src.name, x.dest.name) for x in small.edges}}
    assert {(e.src.name, e.dest.name) for e in small.edges} == edges
    assert len(small.weight) == len(edges)  # each once
    for edge in small.edges[::7]:
        assert small[edge] == pytest.approx(graph[edge], rel=1e-9)
    assert small.n_active == len(graph.nodes)
    assert (small.replacement, small.completeness) == (graph.replacement, graph.completeness)


def test_with_shares_of_1_all_is_kept():
    _, _, graph, reference = case(0)
    assert len(graph.nodes) == graph.n_active
    assert len(graph.weight) == int((reference.A != 0).sum())
    last = [n for n in graph.nodes if n.kind == "feature" and n.layer == 2 and n.pos == 0]
    assert last  # leads nowhere, and is there all the same


@pytest.mark.parametrize("number", [0, 6, 17])
@pytest.mark.parametrize("memory", [1, 30_000, 100_000])
def test_the_result_does_not_depend_on_memory(number, memory, monkeypatch):
    model, dictionaries, _, _ = case(number)
    monkeypatch.setattr(plan, "TOKENS", 8 if memory > 1 else 1024)
    monkeypatch.setattr(sources, "TILE_BYTES", 1 << 9 if memory > 1 else 1 << 24)
    for shares in ({}, {"node_share": 0.8, "edge_share": 0.98}):
        one, other = (whole(model, dictionaries, memory=m, **shares) for m in ("1GiB", memory))
        assert one.nodes == other.nodes
        assert one.src.tolist() == other.src.tolist()
        assert one.dest.tolist() == other.dest.tolist()
        torch.testing.assert_close(one.weight, other.weight, rtol=1e-10, atol=1e-13)
        torch.testing.assert_close(one.influence, other.influence, rtol=1e-10, atol=1e-13)


def test_nodes_stand_along_the_forward_pass():
    _, _, graph, _ = case(2 * len(SHAPES))
    keys = []
    for node in graph.nodes:
        layer = {"input": -1, "logits": 99}.get(node.kind, node.layer)
        keys.append((layer, node.pos, node.kind == "error", -1 if layer == 99 else node.index or 0))
    assert keys == sorted(keys)
    assert bool((graph.src < graph.dest).all())


@pytest.mark.parametrize("shape", TWINS)
def test_both_kinds_of_model_give_the_same_graph(shape):
    hooked, bridge = TWINS[shape](dtype=torch.float64)
    dictionaries = transcoders(hooked)
    one, other = whole(hooked, dictionaries), whole(bridge, dictionaries)
    assert one.nodes == other.nodes
    torch.testing.assert_close(slow.dense(one)[1], slow.dense(other)[1], rtol=1e-5, atol=1e-6)


def test_positions_before_the_first_have_no_features_and_change_no_other_effect():
    model, dictionaries, graph, _ = case(0)
    later = whole(model, dictionaries, first_position=2)
    gone = {n for n in graph.nodes if n.kind in ("feature", "error") and n.pos < 2}
    assert set(graph.nodes) - set(later.nodes) == gone
    for edge in later.edges[::5]:
        assert later[edge] == pytest.approx(graph[edge], rel=1e-9)


@pytest.mark.parametrize("shape", ["gpt2", "attention-only"])
def test_a_prompt_without_active_features_gives_tokens_errors_and_logits(shape):
    model = HOOKED[shape]()
    dictionaries = []
    if shape == "gpt2":
        dictionaries = [replace(d, b_enc=d.b_enc - 99) for d in transcoders(model)]
    for memory in ("1GiB", 1):
        pruned = sc.trace(model, TOKENS, transcoders=dictionaries, memory=memory)
        assert len(pruned.weight) > 0
        graph = whole(model, dictionaries, memory=memory)
        kinds = {node.kind for node in graph.nodes}
        assert kinds == ({"input", "error", "logits"} if dictionaries else {"input", "logits"})
        assert 0 < graph.replacement <= 1


def test_logits_are_the_fewest_that_hold_their_share():
    model, dictionaries, _, reference = case(0)
    p = reference.probability
    for share, most in ((0.3, 10), (0.95, 4), (1.0, 40)):
        graph = whole(model, dictionaries, n_logits=most, logit_share=share)
        order = p.argsort(descending=True).tolist()
        n = next((i for i in range(len(p)) if p[order[: i + 1]].sum() >= share), len(p) - 1) + 1
        assert targets(graph) == order[: min(n, most)]
        found = graph.activation[-len(targets(graph)) :]
        torch.testing.assert_close(found, p[targets(graph)])


def test_max_nodes_keeps_the_most_influential():
    model, dictionaries, graph, _ = case(0)
    small = whole(model, dictionaries, max_nodes=7)
    split = [(i, n) for i, n in enumerate(graph.nodes) if n.is_split]
    best = sorted(split, key=lambda item: -float(graph.influence[item[0]]))[:7]
    assert {n for n in small.nodes if n.is_split} == {n for _, n in best}
    bare = whole(model, dictionaries, max_nodes=0)
    assert {n.kind for n in bare.nodes} == {"input", "logits"}


def state(model):
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    return hooks, [(p.requires_grad, p.grad, p.detach().clone()) for p in model.parameters()]


@pytest.mark.parametrize("make", [HOOKED["gemma2"], BRIDGED["gpt2"]])
def test_the_model_is_left_as_it_was_found(make):
    model = make()
    dictionaries = [d.to("cpu", next(model.parameters()).dtype) for d in transcoders(model)]
    model(TOKENS[None])  # a bridge hooks itself when it first runs
    hooks, before = state(model)
    whole(model, dictionaries)
    huge = dictionaries[1].b_dec * 0 + 0.9 * torch.finfo(dictionaries[1].b_dec.dtype).max
    broken = replace(
        dictionaries[1], b_dec=huge, decoders=(dictionaries[1].decoders[0] * 0 + huge,)
    )
    with pytest.raises(NumericalError, match="layer 1"):
        whole(model, [dictionaries[0], broken])
    hooks_after, after = state(model)
    assert hooks == hooks_after
    for one, other in zip(before, after, strict=True):
        assert one[:2] == other[:2]
        assert torch.equal(one[2], other[2])


def an_sae(model) -> Dictionary:
    d = transcoders(model)[1]
    return replace(d, reads=d.writes[0])


@pytest.mark.parametrize(
    ("prompt", "options", "error", "says"),
    [
        (torch.tensor([], dtype=torch.int64), {}, TaskError, "no token"),
        (torch.zeros(2, 3, dtype=torch.int64), {}, TaskError, r"torch.int64 of shape \(2, 3\)"),
        (torch.zeros(3), {}, TaskError, r"torch.float32 of shape \(3,\)"),
        (torch.tensor([1, 40]), {}, TaskError, "id 40 at position 1.*0 to 39"),
        (torch.tensor([-1, 4]), {}, TaskError, "id -1 at position 0"),
        (torch.zeros(17, dtype=torch.int64), {}, ContextError, "17 tokens.*at most 16"),
        ("w3 w4", {}, TaskError, "no tokenizer"),
        (TOKENS, {"node_share": 0.0}, OptionError, "node_share=0.0"),
        (TOKENS, {"edge_share": 1.2}, OptionError, "edge_share=1.2"),
        (TOKENS, {"logit_share": -1.0}, OptionError, "logit_share"),
        (TOKENS, {"n_logits": 0}, OptionError, "n_logits=0.*at least 1"),
        (TOKENS, {"max_nodes": -1}, OptionError, "max_nodes=-1"),
        (TOKENS, {"first_position": -1}, OptionError, "first_position=-1"),
        (TOKENS, {"memory": "much"}, OptionError, "'512MiB'"),
        (TOKENS, {"memory": 0}, OptionError, "memory=0"),
    ],
)
def test_bad_prompts_and_options_are_refused(prompt, options, error, says):
    model = HOOKED["gpt2"]()
    with pytest.raises(error, match=says):
        sc.trace(model, prompt, transcoders=transcoders(model), **options)


def test_dictionaries_that_are_no_transcoders_of_this_model_are_refused():
    model = HOOKED["gpt2"]()
    own = transcoders(model)
    backwards = replace(own[1], writes=(Site("mlp_out", 0),))
    elsewhere = replace(transcoders(model, kind="skip")[0], writes=(Site("mlp_out", 1),))
    cases = [
        ([an_sae(model)], "is no transcoder"),
        ([backwards], "is no transcoder"),
        ([own[0], replace(own[0], name="other")], "both read layer 0"),
        ([replace(own[0], reads=Site("mlp_in", 5), writes=(Site("mlp_out", 5),))], "no layer 5"),
        ([replace(own[0], model="gpt2-small")], "trained on 'gpt2-small'"),
        ([elsewhere], "another layer"),
    ]
    for dictionaries, says in cases:
        with pytest.raises(DictionaryError, match=says):
            sc.trace(model, TOKENS, transcoders=dictionaries)
    with pytest.raises(DictionaryError, match="no MLPs"):
        sc.trace(HOOKED["attention-only"](), TOKENS, transcoders=own)


@pytest.mark.parametrize("kind", ["transcoder", "skip-transcoder"])
@pytest.mark.parametrize("model_kind", ["hooked", "bridge"])
def test_the_demo_model_on_a_real_prompt(kind, model_kind):
    model = sc.load_model("demo", kind=model_kind)
    prompt = "When Patrick and Steven were working at the lake, Patrick passed a ring to"
    graph = sc.trace(model, prompt, transcoders=sc.load_saes("demo", kind=kind))
    assert graph.text[-2:] == ("ring", "to")
    assert graph.tokens[0] == model.tokenizer.bos_token_id
    best = next(node for node in graph.nodes if node.kind == "logits")
    assert model.tokenizer.decode([best.index]).strip() == "Steven"
    assert 20 < len(graph.nodes) < 0.3 * graph.n_active
    assert 0.5 < graph.replacement < 1
    assert graph.replacement < graph.completeness < 1
    assert graph[graph.edges[0].name] == float(graph.weight[0])
    short = sc.trace(model, prompt, transcoders=[], prepend_bos=False)
    assert len(short.tokens) == len(graph.tokens) - 1
    assert {node.kind for node in short.nodes} == {"input", "error", "logits"}


@pytest.mark.parametrize("kind", ["transcoder", "skip-transcoder"])
def test_folding_the_norms_into_the_weights_changes_no_graph(kind):
    prompt = "When Patrick and Steven were working at the lake, Patrick passed a ring to"
    dictionaries = sc.load_saes("demo", kind=kind)
    own, folded = (
        sc.trace(sc.load_model("demo", fold=fold), prompt, transcoders=dictionaries)
        for fold in (False, True)
    )
    assert own.n_active == folded.n_active > 1000
    assert own.replacement == pytest.approx(folded.replacement, abs=1e-5)
    assert {n.name for n in own.nodes} == {n.name for n in folded.nodes}


def by_hand(activation: list[float]) -> Nodes:
    """Two tokens, features of one layer, and one logit."""
    n = len(activation)
    kind = torch.tensor([TOKEN, TOKEN, *[FEATURE] * n, LOGIT])
    zero = torch.zeros_like(kind)
    ones = torch.ones(2, dtype=torch.float64)
    a = torch.cat([ones, torch.tensor(activation, dtype=torch.float64), ones[:1]])
    return Nodes(kind, zero, zero, zero, zero, a)


def test_ties_go_to_the_earlier_node_and_the_earlier_edge():
    nodes = by_hand([1.0, 1.0, 1.0, 1.0])
    influence = torch.tensor([0.0, 0.0, 0.25, 0.25, 0.25, 0.25, 1.0], dtype=torch.float64)
    assert most_influential(nodes, influence, 0.5, None).tolist() == [0, 1, 2, 3, 6]
    assert most_influential(nodes, influence, 0.51, None).tolist() == [0, 1, 2, 3, 4, 6]
    assert most_influential(nodes, influence, 1.0, 3).tolist() == [0, 1, 2, 3, 4, 6]
    weight = torch.tensor([[0.0], [0.0], [-2.0], [2.0], [2.0], [2.0]], dtype=torch.float64)
    block = Block(torch.tensor([6]), torch.arange(6), (slice(0, 1),), weight)
    for share, kept in ((0.5, [2, 3]), (0.25, [2]), (0.6, [2, 3, 4]), (1.0, [2, 3, 4, 5])):
        edges = strongest_edges(nodes, lambda: [block], share)
        assert edges.src.tolist() == kept
        assert edges.weight.tolist() == weight[kept, 0].tolist()
