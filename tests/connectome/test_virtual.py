"""Virtual weights against dense loops, and against a changed run of a model without norms."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import sae_circuits as sc
from sae_circuits.connectome.tiles import largest_of_both, side_within
from sae_circuits.errors import (
    DictionaryError,
    GraphError,
    NumericalError,
    OptionError,
    UnknownName,
)
from sae_circuits.models.dictionaries import Site
from shapes import HOOKED, TWINS
from small_dictionaries import dictionary


def head_of(model, layer, head):
    """One head's W_V and W_O, each query head with the value matrix of its group."""
    attn = model.blocks[layer].attn
    return attn.W_V[head].detach(), attn.W_O[head].detach()  # grouped ones are repeated here


def norm_of(model, layer, name, x):
    """Gain and centring of a norm, of vectors in the stream."""
    norm = getattr(model.blocks[layer], name, None)
    kind = model.cfg.normalization_type
    if norm is None or kind is None:
        return x
    if kind.startswith("LN"):
        x = x - x.mean(-1, keepdim=True)
    weight = getattr(norm, "w", None)
    return x if weight is None else x * weight.detach()


def written(model, sae, u):
    """What one feature adds to the stream."""
    row, site = sae.W_dec[u], sae.writes[0]
    if site.kind != "z":
        return row
    W_O = model.blocks[site.layer].attn.W_O.detach()
    row = sum(row.unflatten(0, W_O.shape[:2])[h] @ W_O[h] for h in range(len(W_O)))
    post = getattr(model.blocks[site.layer], "ln1_post", None)
    return row if post is None else row * post.w.detach()


def dense(model, source, target, head=None):
    """The whole table, one pair after the other."""
    table = torch.zeros(source.n_features, target.n_features, dtype=source.W_dec.dtype)
    reads = target.reads
    for u in range(source.n_features):
        x = written(model, source, u)
        if head is not None:
            W_V, W_O = head_of(model, *head)
            z = norm_of(model, head[0], "ln1", x) @ W_V
            if reads.kind == "z":
                x = torch.zeros_like(W_O[..., 0]).new_zeros(model.cfg.n_heads, model.cfg.d_head)
                x[head[1]] = z
                x = x.flatten()
            else:
                x = z @ W_O
                post = getattr(model.blocks[head[0]], "ln1_post", None)
                x = x if post is None else x * post.w.detach()
        if reads.kind == "mlp_in":
            has_own = hasattr(model.blocks[reads.layer], "ln2")
            x = norm_of(model, reads.layer, "ln2" if has_own else "ln1", x)
        if reads.kind == "mlp_normalized" and (model.cfg.normalization_type or "").startswith("LN"):
            x = x - x.mean()
        for v in range(target.n_features):
            table[u, v] = x @ target.W_enc[:, v]
    return table


def check(weights, table, k):
    """Both lists hold the k largest by size of the whole table."""
    for ids, values, lines in (
        (weights.of_ids, weights.of_values, table),
        (weights.into_ids, weights.into_values, table.T[weights.features]),
    ):
        assert ids.shape == (len(lines), min(k, lines.shape[1]))
        for own, found, line in zip(ids, values, lines, strict=True):
            slow = sorted(range(len(line)), key=lambda i: (-abs(float(line[i])), i))[:k]
            assert own.tolist() == slow
            torch.testing.assert_close(found, line[slow])


SOURCES = ["z", "attn_out", "mlp_out", "resid_pre", "resid_mid", "resid_post"]


@pytest.mark.parametrize("shape", ["gpt2", "gpt2-folded", "llama", "gemma2", "no-norm"])
@pytest.mark.parametrize("site", [*SOURCES, "transcoder"])
def test_weights_along_the_stream_against_one_pair_after_the_other(shape, site):
    model = HOOKED[shape]()
    writes = {"transcoder": ("mlp_in", "mlp_out")}.get(site, (site, None))
    source = dictionary(model, writes[0], 0, writes=writes[1], n=9)
    for target in (
        dictionary(model, "resid_post", 1),
        dictionary(model, "mlp_in", 1, writes="mlp_out"),
        dictionary(model, "mlp_normalized", 1, writes="mlp_out"),
    ):
        check(sc.virtual_weights(model, source, target, k=4), dense(model, source, target), 4)


BY_HEADS = [
    (shape, reads)
    for shape in ("gpt2", "llama", "gemma2", "qwen3", "no-norm", "attention-only")
    for reads in ("resid_post", "z", "attn_out", "mlp_in")
    if (shape, reads) != ("attention-only", "mlp_in")
]


@pytest.mark.parametrize(("shape", "reads"), BY_HEADS)
def test_weights_by_a_head_against_one_pair_after_the_other(shape, reads):
    model = HOOKED[shape]()
    source = dictionary(model, "z", 0)
    writes = "mlp_out" if reads == "mlp_in" else None
    target = dictionary(model, reads, 1, writes=writes, n=8)
    tables = sc.virtual_weights(model, source, target, k=3, heads="all")
    assert list(tables) == [(1, h) for h in range(4)]
    for head, found in tables.items():
        assert found.head == head
        check(found, dense(model, source, target, head), 3)
    (last,) = sc.virtual_weights(model, source, target, k=3, heads=[(1, 3)]).values()
    assert torch.equal(last.into_values, tables[1, 3].into_values)


@pytest.mark.parametrize("shape", ["gpt2", "pythia", "llama", "gemma2", "qwen3"])
@pytest.mark.parametrize("heads", [None, "all"])
def test_both_kinds_of_a_model_have_the_same_weights(shape, heads):
    models = TWINS[shape](dtype=torch.float64)
    source = dictionary(models[0], "resid_post", 0)
    target = dictionary(models[0], "mlp_in", 1, writes="mlp_out")
    if heads:  # a parallel block's MLP does not see its own layer's heads
        target = dictionary(models[0], "resid_post", 1)
    found = [sc.virtual_weights(model, source, target, k=3, heads=heads) for model in models]
    for one, other in zip(*([f] if heads is None else f.values() for f in found), strict=True):
        assert torch.equal(one.into_ids, other.into_ids)
        torch.testing.assert_close(one.into_values, other.into_values)


def test_a_normalised_input_counts_its_centring():
    model = HOOKED["gpt2"]()
    source = dictionary(model, "resid_pre", 0)
    target = dictionary(model, "resid_post", 1, scaled=True)
    W = target.W_enc - target.W_enc.mean(0)
    check(sc.virtual_weights(model, source, target, k=3), source.W_dec @ W, 3)


def test_of_a_cross_layer_transcoder_the_layers_before_the_target_add_up():
    model = HOOKED["gpt2"](n_layers=3)
    own = dictionary(model, "mlp_in", 0, writes="mlp_out")
    rows = tuple(torch.randn_like(own.W_dec) for _ in range(3))
    source = replace(own, writes=tuple(Site("mlp_out", i) for i in range(3)), decoders=rows)
    target = dictionary(model, "resid_post", 1)
    found = sc.virtual_weights(model, source, target, k=3)
    check(found, (rows[0] + rows[1]) @ target.W_enc, 3)
    (by_head,) = sc.virtual_weights(model, source, target, k=3, heads=[(1, 2)]).values()
    check(by_head, dense(model, replace(own, decoders=rows[:1]), target, (1, 2)), 3)


# -- what it means -------------------------------------------------------------------------------


def test_a_weight_times_a_change_is_the_change_of_the_pre_activation_along_the_stream():
    """Of a model without norms, heads and MLPs in between: whose outputs stay as they were."""
    model = HOOKED["no-norm"]()
    source = dictionary(model, "mlp_out", 0)
    target = dictionary(model, "resid_post", 1)
    found = sc.virtual_weights(model, source, target, k=7)
    tokens, f, by = torch.randint(40, (1, 5)), 3, 0.7
    _, clean = model.run_with_cache(tokens)

    def changed(x, hook):
        return x + by * source.W_dec[f]

    def frozen(x, hook):
        return clean[hook.name]

    kept: dict[str, torch.Tensor] = {}
    hooks = [("blocks.0.hook_mlp_out", changed)]
    hooks += [("blocks.1.hook_attn_out", frozen), ("blocks.1.hook_mlp_out", frozen)]
    hooks += [("blocks.1.hook_resid_post", lambda x, hook: kept.update(x=x))]
    model.run_with_hooks(tokens, fwd_hooks=hooks)
    change = target.pre_activation(kept["x"]) - target.pre_activation(
        clean["blocks.1.hook_resid_post"]
    )
    for v, weight in found.of(f):
        torch.testing.assert_close(
            change[0, :, v], torch.full((5,), by * weight, dtype=torch.float64)
        )


# -- tiles ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m", "k"), [(70, 333, 5), (333, 70, 40), (1, 100, 3), (129, 64, 64)])
def test_tiles_of_any_side_list_the_same(n, m, k):
    A, B = torch.randn(n, 9, dtype=torch.float64), torch.randn(9, m, dtype=torch.float64)
    A[n // 2], B[:, 3] = 0, B[:, 1]  # nothing to list, and a tie
    table = A @ B
    for side in (32, 64, 96, 512):
        rows, columns = largest_of_both(lambda some: A[some], n, B, k, side)
        for listed, lines in ((rows, table), (columns, table.T)):
            for ids, values, line in zip(listed.ids, listed.values, lines, strict=True):
                slow = sorted(range(len(line)), key=lambda i: (-abs(float(line[i])), i))
                slow = [i for i in slow if line[i] != 0][:k]
                assert ids.tolist() == slow + [-1] * (len(ids) - len(slow))
                torch.testing.assert_close(values[: len(slow)], line[slow])
                assert (values[len(slow) :] == 0).all()


def test_single_precision_lists_the_same_ids_whatever_the_memory():
    model = sc.load_model("demo")
    source, target = sc.load_saes("demo", ["z.0", "transcoder.3"])
    whole = sc.virtual_weights(model, source, target, k=9)
    small = sc.virtual_weights(model, source, target, k=9, memory=1 << 20)
    assert side_within(1 << 20, 64, 4) < side_within(1 << 26, 64, 4) == 2048
    for name in ("into_ids", "of_ids"):
        assert torch.equal(getattr(whole, name), getattr(small, name))
    torch.testing.assert_close(whole.into_values, small.into_values)


def test_weights_that_are_not_finite_are_refused():
    with pytest.raises(NumericalError, match="not finite"):
        largest_of_both(
            lambda some: torch.full((3, 2), torch.nan)[some], 3, torch.ones(2, 4), 1, 32
        )


# -- the result ----------------------------------------------------------------------------------


@pytest.fixture
def made():
    model = HOOKED["gpt2"]()
    source, target = dictionary(model, "resid_pre", 1), dictionary(model, "resid_post", 1, n=9)
    return model, source, target, sc.virtual_weights(model, source, target, k=2)


def test_some_features_of_the_target_have_the_same_lists(made):
    model, source, target, whole = made
    some = sc.virtual_weights(model, source, target, k=2, features=[8, 2])
    assert some.features.tolist() == [2, 8]
    for v in (2, 8):
        assert dict(some.into(v)) == pytest.approx(dict(whole.into(v)))
    table = source.W_dec @ target.W_enc
    for u in range(source.n_features):
        assert sorted(v for v, _ in some.of(u)) == [2, 8]
        assert all(weight == pytest.approx(float(table[u, v])) for v, weight in some.of(u))


def test_a_feature_that_writes_nothing_is_in_no_list(made):
    model, source, target, _ = made
    rows = source.W_dec.clone()
    rows[4] = 0
    found = sc.virtual_weights(model, replace(source, decoders=(rows,)), target, k=7)
    assert found.of(4) == []
    assert found.of_ids[4].tolist() == [-1] * 7
    assert all(4 not in dict(found.into(v)) for v in range(9))
    assert 4 not in found.to_pandas()["source"].tolist()


def test_scores_are_those_of_the_edges_of_a_graph(made, tmp_path):
    model, source, target, found = made
    graph = sc.TensorGraph.from_model(model, saes=[source, target])
    table, scores = source.W_dec @ target.W_enc, found.scores(graph)
    listed = {(u, v) for v in range(9) for u, _ in found.into(v)}
    listed |= {(u, v) for u in range(7) for v, _ in found.of(u)}
    assert len(scores) == len(listed) == len(found.to_pandas())
    for u, v in listed:
        assert scores[f"pre1.f{u}->post1.f{v}"] == pytest.approx(float(table[u, v]))
    for row in found.to_pandas().itertuples():
        assert row.weight == pytest.approx(float(table[row.source, row.target]))
    few = found.scores(graph.restrict({"pre1": [1, 3], "post1": [0, 5, 6]}))
    expected = {(u, v) for u, v in listed if u in (1, 3) and v in (0, 5, 6)}
    names = {f"pre1.f{u}->post1.f{v}" for u, v in expected}
    assert {edge.name for edge in few.edges} == names
    with pytest.raises(GraphError, match="made without"):
        found.scores(sc.TensorGraph.from_model(model, saes=[target]))
    middle = dictionary(model, "resid_mid", 1)
    with pytest.raises(GraphError, match="does not see"):
        found.scores(sc.TensorGraph.from_model(model, saes=[source, middle, target]))


def test_features_of_z_have_scores_where_they_read_through_their_heads():
    model = HOOKED["llama"]()
    saes = dictionary(model, "resid_pre", 1), dictionary(model, "z", 1)
    (found,) = sc.virtual_weights(model, *saes, k=7, heads=[(1, 2)]).values()
    with pytest.raises(GraphError, match="do not read"):
        found.scores(sc.TensorGraph.from_model(model, saes=saes))
    scores = found.scores(sc.TensorGraph.from_model(model, saes=saes, through=True))
    slow = dense(model, *saes, (1, 2))
    assert len(scores) == 49
    assert scores["pre1.f3->a1.f6"] == pytest.approx(float(slow[3, 6]))


def test_weights_are_read_back_as_they_were_written(made, tmp_path):
    model, _, target, found = made
    (by_head,) = sc.virtual_weights(
        model, dictionary(model, "z", 0), target, k=2, heads=[(1, 2)]
    ).values()
    for weights in (found, by_head):
        weights.save(tmp_path / "weights.safetensors")
        again = sc.load(tmp_path / "weights.safetensors", sc.VirtualWeights)
        for name in ("features", "into_ids", "into_values", "of_ids", "of_values"):
            assert torch.equal(getattr(again, name), getattr(weights, name))
        assert (again.source, again.target, again.head) == (
            weights.source,
            weights.target,
            weights.head,
        )
        assert repr(again) == repr(weights)
        assert again.provenance == weights.provenance


# -- what is refused -----------------------------------------------------------------------------


def test_what_has_no_virtual_weights_is_refused():
    model = HOOKED["gpt2"]()
    at = {s: dictionary(model, s, 1) for s in ("z", "attn_out", "mlp_out", "resid_pre", "mlp_in")}
    early, late = dictionary(model, "resid_post", 0), dictionary(model, "resid_post", 1)

    def ask(source, target, **options):
        return lambda: sc.virtual_weights(model, source, target, **options)

    for error, match, asked in (
        (GraphError, "name the earlier one first", ask(late, early)),
        (GraphError, "name the earlier one first", ask(late, late)),
        (GraphError, "name the earlier one first", ask(early, at["resid_pre"])),
        (GraphError, "a0.h1 does not lie between", ask(early, late, heads=[(0, 1)])),
        (OptionError, "no head lies between", ask(at["z"], late, heads="all")),
        (OptionError, "no head is named", ask(early, late, heads=[])),
        (OptionError, "heads='each'", ask(early, late, heads="each")),
        (OptionError, "heads=", ask(early, late, heads=[3])),
        (UnknownName, "no head 4 in layer 1", ask(early, late, heads=[(1, 4)])),
        (DictionaryError, "take a transcoder", ask(early, at["mlp_out"])),
        (DictionaryError, "each along its own way", ask(early, at["z"])),
        (DictionaryError, "each along its own way", ask(early, at["attn_out"])),
        (DictionaryError, "what an MLP reads", ask(at["mlp_in"], late)),
        (DictionaryError, "is no Dictionary", ask(early, "z.1")),
        (
            DictionaryError,
            "24 wide",
            ask(early, dictionary(HOOKED["gpt2"](d_model=24), "resid_post", 1)),
        ),
        (OptionError, "k is 0", ask(early, late, k=0)),
        (OptionError, "memory=1000", ask(early, late, memory=1000)),
        (UnknownName, "there are 7, 0 to 6", ask(early, late, features=[7])),
        (OptionError, "asked for twice", ask(early, late, features=[2, 2])),
    ):
        with pytest.raises(error, match=match):
            asked()
    found = sc.virtual_weights(model, early, late, k=2, features=[3])
    for ask_one in (lambda: found.into(4), lambda: found.of(7), lambda: found.of(-1)):
        with pytest.raises(UnknownName, match="no feature"):
            ask_one()
