"""Changes of features against hand-written hooks, and the identities."""

from __future__ import annotations

import pytest
import torch

from sae_circuits import Task, TensorGraph, intervene, load_model
from sae_circuits.errors import ContextError, GraphError, NumericalError, OptionError, TaskError
from sae_circuits.graph import Node
from shapes import HOOKED, HOOKED_CONFIGS, TWINS, random_task, random_tokens
from small_dictionaries import dictionary
from split_dictionaries import normalised

LENGTHS = [6, 4, 5]
# What is read, and options, of a dictionary at each layer.
SITES = {
    "z": ("z", {"gate": "topk"}),
    "z-scaled": ("z", {"scaled": True}),
    "attn_out": ("attn_out", {"gate": "threshold"}),
    "mlp_out": ("mlp_out", {"scaled": True}),
    "resid_pre": ("resid_pre", {"gate": "gated"}),
    "resid_mid": ("resid_mid", {}),
    "resid_post": ("resid_post", {"gate": "abstopk"}),
    "transcoder": ("mlp_in", {"writes": "mlp_out", "skip": True}),
    "normalized-transcoder": ("mlp_normalized", {"writes": "mlp_out", "skip": True}),
    "stream-transcoder": ("resid_mid", {"writes": "mlp_out", "gate": "topk"}),
}
PARTS = {
    "z": "a",
    "attn_out": "a",
    "mlp_out": "m",
    "resid_pre": "pre",
    "resid_mid": "mid",
    "resid_post": "post",
}


def can_stand(shape, reads, options):
    cfg = HOOKED_CONFIGS[shape]
    if cfg.get("attn_only") and ("mlp" in reads or reads == "resid_mid"):
        return False
    return not (cfg.get("parallel_attn_mlp") and reads == "resid_mid")


def problem(shape, site, model=None, **sizes):
    """A model, its graph with a dictionary of one kind at each layer, what they are called."""
    reads, options = SITES[site]
    if not can_stand(shape, reads, options):
        pytest.skip(f"nothing stands at {site} of {shape}")
    model = model or HOOKED[shape]()
    saes = [dictionary(model, reads, layer, **options, **sizes) for layer in range(2)]
    part = PARTS[options.get("writes", reads)]
    return model, TensorGraph.from_model(model, saes=saes), part


def changes_at(part):
    """Changes of several kinds on both layers, one of a feature that another change moves."""
    return {
        f"{part}0.f1": ("scale", -1.5),
        f"{part}0.f2@1": ("set", 1.25),
        f"{part}0.f4": ("set", 0.0),
        f"{part}1.f3": ("add", 0.75),
        f"{part}1.f5": ("scale", 3.0),
        f"{part}1.f3@2": ("scale", 2.0),
        f"{part}1.f6@3": ("add", -2.0),
    }


# -- the slow reference --------------------------------------------------------------------------


def by_hand(model, graph, tokens, changes, *, frozen=False):
    """The logits [pos, vocab] of one prompt, by hooks on a HookedTransformer."""
    hooks = []
    if frozen:
        _, cache = model.run_with_cache(tokens[None])
        for layer in range(model.cfg.n_layers):
            name = f"blocks.{layer}.attn.hook_pattern"
            hooks.append((name, lambda _, hook, now=cache[name]: now))
    stash = {}
    for split in graph.splits.values():
        d, layer = split.dictionary, split.layer
        own = {n: c for n, c in changes.items() if n.startswith(f"{split.name}.")}
        if d.is_sae:
            kind = "attn.hook_z" if d.reads.kind == "z" else f"hook_{d.reads.kind}"
        else:
            kind = "hook_mlp_out"
            before = "resid_pre" if model.cfg.parallel_attn_mlp else "resid_mid"

            def keep(x, hook, layer=layer):
                stash[layer] = x

            hooks.append((f"blocks.{layer}.hook_{before}", keep))

        def edit(x, hook, d=d, layer=layer, own=own):
            flat = x.flatten(2)
            read = flat if d.is_sae else stash[layer]
            if d.reads.kind == "mlp_in":
                read = getattr(model.blocks[layer], "ln2", lambda x: x)(read)
            if d.reads.kind == "mlp_normalized":
                read = normalised(model.blocks[layer], read)
            f = d.encode(read)
            new = f.clone()
            for name, (kind, amount) in own.items():
                name, _, pos = name.partition("@")
                at = slice(int(pos), int(pos) + 1) if pos else slice(None)
                i = int(name.split(".f")[1])
                old = new[0, at, i]
                new[0, at, i] = {"set": 0 * old, "scale": old * amount, "add": old}[kind]
                new[0, at, i] += 0 if kind == "scale" else amount
            out = flat + d.decode(new, read) - d.decode(f, read)
            return out.view_as(x)

        hooks.append((f"blocks.{layer}.{kind}", edit))
    return model.run_with_hooks(tokens[None], fwd_hooks=hooks)[0]


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("shape", HOOKED)
def test_changes_equal_hand_written_hooks_on_each_prompt_alone(shape, site):
    model, graph, part = problem(shape, site)
    task = random_task(model, lengths=LENGTHS)
    changes = changes_at(part)
    for attention in ("recomputed", "frozen"):
        done = intervene(model, graph, task, changes, attention=attention)
        for i, length in enumerate(LENGTHS):
            tokens = task.clean[i, :length]
            slow = by_hand(model, graph, tokens, changes, frozen=attention == "frozen")
            torch.testing.assert_close(done.logits[i], slow[-1], rtol=1e-9, atol=1e-10)
            torch.testing.assert_close(done.clean_logits[i], model(tokens[None])[0, -1])
        assert (done.logits - done.clean_logits).abs().amax(1).min() > 1e-3


def test_frozen_attention_differs_from_recomputed_attention():
    model, graph, part = problem("gpt2", "resid_pre")
    task = random_task(model)
    one, other = (
        intervene(model, graph, task, changes_at(part), attention=way).logits
        for way in ("recomputed", "frozen")
    )
    assert (one - other).abs().max() > 1e-3


# -- identities ----------------------------------------------------------------------------------


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("shape", ["pythia", "gemma2"])
def test_no_change_is_the_clean_run(shape, site):
    model, graph, _ = problem(shape, site)
    task = random_task(model, lengths=LENGTHS)
    features = [n.name for n in graph.src_nodes if n.kind == "feature"]
    clean = intervene(model, graph, task, {}, watch=features)
    torch.testing.assert_close(clean.logits, clean.clean_logits, rtol=0, atol=0)
    own = {name: ("set", a) for name, a in clean.clean_activations.items()}
    for changes in (
        own,
        dict.fromkeys(features, ("add", 0.0)),
        dict.fromkeys([n.name for n in graph.src_nodes], ("scale", 1.0)),
    ):
        for attention in ("recomputed", "frozen"):
            done = intervene(model, graph, task, changes, attention=attention, watch=features)
            torch.testing.assert_close(done.logits, done.clean_logits, rtol=1e-12, atol=1e-12)
            for name in features:
                torch.testing.assert_close(done.activations[name], clean.activations[name])


@pytest.mark.parametrize("site", SITES)
def test_watched_activations_are_those_of_the_dictionaries_and_follow_the_changes(site):
    model, graph, part = problem("llama", site)
    task = random_task(model, lengths=LENGTHS)
    watch = [f"{part}0.f2", Node("feature", 1, 3, site=part)]
    done = intervene(model, graph, task, changes_at(part), watch=watch)
    assert list(done.activations) == [f"{part}0.f2", f"{part}1.f3"]
    early, late = f"{part}0.f2", f"{part}1.f3"
    torch.testing.assert_close(done.activations[early][:, 1], torch.full((3,), 1.25).double())
    torch.testing.assert_close(done.activations[early][:, 2:], done.clean_activations[early][:, 2:])
    # What the later layer has by itself in the changed run, and then what is done to it.
    only_early = {n: c for n, c in changes_at(part).items() if n.startswith(f"{part}0")}
    before = intervene(model, graph, task, only_early, watch=[late]).activations[late]
    assert (before - done.clean_activations[late]).abs().max() > 1e-4
    real = torch.arange(6) < torch.tensor(LENGTHS)[:, None]
    expected = torch.where(real, before + 0.75, 0)
    expected[:, 2] *= 2
    torch.testing.assert_close(done.activations[late], expected)


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("shape", ["gemma2"])
def test_a_change_at_one_position_leaves_earlier_ones_as_they_were(shape, site):
    model, graph, part = problem(shape, site)
    task = random_task(model)
    watch = [f"{part}1.f{i}" for i in range(7)]
    done = intervene(model, graph, task, {f"{part}0.f2@3": ("add", 2.0)}, watch=watch)
    now, clean = (torch.stack(list(x.values())) for x in (done.activations, done.clean_activations))
    torch.testing.assert_close(now[..., :3], clean[..., :3], rtol=0, atol=0)
    assert (now[..., 3:] - clean[..., 3:]).abs().max() > 1e-4


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("shape", ["pythia", "gemma2"])
def test_a_small_addition_has_the_gradient_along_the_decoder_row(shape, site):
    model, graph, part = problem(shape, site)
    task = random_task(model, n=2)
    d = graph.splits[part, 0].dictionary
    if d.is_sae:
        kind = "attn.hook_z" if d.reads.kind == "z" else f"hook_{d.reads.kind}"
    else:
        kind = "hook_mlp_out"
    found = {}

    def add(x, hook):
        found["zero"] = torch.zeros_like(x, requires_grad=True)
        found["x"] = x.detach().flatten(2)
        return x + found["zero"]

    logits = model.run_with_hooks(task.clean, fwd_hooks=[(f"blocks.0.{kind}", add)])[:, -1]
    (g,) = torch.autograd.grad(logits[:, 7].sum(), found["zero"])
    rows = d.W_dec[5] * (1 if d.scaling is None or not d.is_sae else d.scale(found["x"]).multiply)
    slope = (g.flatten(2) * rows).sum((1, 2))
    eps = 1e-5
    up, down = (
        intervene(model, graph, task, {f"{part}0.f5": ("add", e)}).logits[:, 7] for e in (eps, -eps)
    )
    torch.testing.assert_close((up - down) / (2 * eps), slope.detach(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("shape", ["pythia", "gemma2"])
def test_taking_all_parts_of_a_split_away_takes_the_whole_away(shape, site):
    model, graph, part = problem(shape, site)
    task = random_task(model)
    parts = [n.name for n in graph.src_nodes if (n.site, n.layer) == (part, 0)]
    done = intervene(model, graph, task, dict.fromkeys(parts, ("scale", 0.0)))
    d = graph.splits[part, 0].dictionary
    kind = "attn.hook_z" if d.reads.kind == "z" else f"hook_{d.writes[0].kind}"
    left = model.blocks[0].attn.b_O.data if d.reads.kind == "attn_out" else 0  # no node's
    hook = f"blocks.0.{kind}", lambda x, hook: torch.zeros_like(x) + left
    slow = model.run_with_hooks(task.clean, fwd_hooks=[hook])[:, -1]
    torch.testing.assert_close(done.logits, slow, rtol=1e-9, atol=1e-10)


def test_an_error_node_holds_the_features_that_are_not_in_the_graph():
    model, graph, _ = problem("gpt2", "transcoder")
    task, some = random_task(model), graph.restrict(["m0.f1", "m0.f4", "m1.f0"])
    others = [f"m0.f{i}" for i in (0, 2, 3, 5, 6)]
    one = intervene(model, some, task, {"m0.error": ("scale", 0.3)})
    other = intervene(model, graph, task, dict.fromkeys([*others, "m0.error"], ("scale", 0.3)))
    torch.testing.assert_close(one.logits, other.logits, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("site", ["resid_post", "z", "transcoder"])
def test_features_of_a_graph_with_few_of_them_are_changed_as_in_the_whole(site):
    model, graph, part = problem("gpt2", site)
    task, some = random_task(model), graph.restrict([f"{part}0.f{i}" for i in (1, 2, 4, 5)])
    changes, watch = changes_at(part), [f"{part}0.f5", f"{part}0.f1"]
    changes = {name: change for name, change in changes.items() if name.startswith(f"{part}0")}
    one, whole = (intervene(model, g, task, changes, watch=watch) for g in (some, graph))
    torch.testing.assert_close(one.logits, whole.logits)
    torch.testing.assert_close(dict(one.activations), dict(whole.activations))


@pytest.mark.parametrize("attention", ["recomputed", "frozen"])
@pytest.mark.parametrize("shape", HOOKED)
def test_heads_mlps_and_the_input_are_scaled(shape, attention):
    model = HOOKED[shape]()
    graph, task = TensorGraph.from_model(model), random_task(model, lengths=LENGTHS)
    changes = {"a0.h1": ("scale", 0.0), "a1.h3@2": ("scale", -1.0), "input": ("scale", 1.5)}
    hooks = [
        ("blocks.0.hook_resid_pre", lambda x, hook: 1.5 * x),
        ("blocks.0.attn.hook_z", scaled(slice(None), 1, 0.0)),
        ("blocks.1.attn.hook_z", scaled(2, 3, -1.0)),
    ]
    if not model.cfg.attn_only:
        changes["m0"] = ("scale", 0.5)
        hooks.append(("blocks.0.hook_mlp_out", lambda x, hook: 0.5 * x))
    done = intervene(model, graph, task, changes, attention=attention)
    for i, length in enumerate(LENGTHS):
        tokens = task.clean[i : i + 1, :length]
        frozen = []
        if attention == "frozen":
            _, cache = model.run_with_cache(tokens)
            for name in ("blocks.0.attn.hook_pattern", "blocks.1.attn.hook_pattern"):
                frozen.append((name, lambda _, hook, now=cache[name]: now))
        slow = model.run_with_hooks(tokens, fwd_hooks=[*frozen, *hooks])[0, -1]
        torch.testing.assert_close(done.logits[i], slow, rtol=1e-9, atol=1e-10)


def scaled(pos, head, factor):
    def edit(z, hook):
        z = z.clone()
        z[:, pos, head] = factor * z[:, pos, head]
        return z

    return edit


def test_changes_of_a_feature_follow_one_another():
    model, graph, _ = problem("gpt2", "mlp_out")
    task = random_task(model)
    watch = ["m0.f1"]

    def activation(changes):
        return intervene(model, graph, task, changes, watch=watch).activations["m0.f1"]

    one = activation({"m0.f1": ("set", 2.0), "m0.f1@3": ("add", 1.0)})
    other = activation({"m0.f1@3": ("add", 1.0), "m0.f1": ("set", 2.0)})
    assert one.tolist() == [[2, 2, 2, 3, 2, 2]] * 3
    assert other.tolist() == [[2] * 6] * 3


@pytest.mark.parametrize("shape", TWINS)
def test_both_kinds_of_model_agree(shape):
    twins = TWINS[shape](dtype=torch.float64)
    task = random_task(twins[0], lengths=LENGTHS)

    def agree(graph, changes, watch=()):
        for attention in ("recomputed", "frozen"):
            one, other = (
                intervene(model, graph, task, changes, attention=attention, watch=watch)
                for model in twins
            )
            torch.testing.assert_close(one.logits, other.logits, rtol=1e-5, atol=1e-6)
            for name in watch:
                a, b = one.activations[name], other.activations[name]
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)

    changes = {"input": ("scale", 1.5), "a0.h1": ("scale", 0.0), "m1": ("scale", 2.0)}
    agree(TensorGraph.from_model(twins[0]), changes)
    for site, (reads, options) in SITES.items():
        if can_stand(shape, reads, options):
            _, graph, part = problem(shape, site, model=twins[0])
            changes = {f"{part}0.error": ("scale", 0.5), **changes_at(part)}
            agree(graph, changes, [f"{part}1.f3"])


# -- how prompts come ----------------------------------------------------------------------------


def test_batches_and_padding_change_nothing():
    model, graph, part = problem("llama", "resid_mid")
    clean, _ = random_tokens(model, 5, 7)
    lengths = torch.tensor([3, 7, 5, 4, 6])
    mask = torch.arange(7) < lengths[:, None]
    amount = torch.linspace(-1, 2, 35, dtype=torch.float64).reshape(5, 7)
    changes = {f"{part}0.f1": ("set", amount), f"{part}1.f2@2": ("scale", 2.0)}
    watch = [f"{part}1.f4"]
    whole = intervene(model, graph, clean, changes, mask=mask, watch=watch)
    few = intervene(model, graph, clean, changes, mask=mask, watch=watch, batch_size=2)
    torch.testing.assert_close(few.logits, whole.logits, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(few.activations[watch[0]], whole.activations[watch[0]])
    assert whole.activations[watch[0]].masked_fill(mask, 0).eq(0).all()
    for i, n in enumerate(lengths.tolist()):
        own = {**changes, f"{part}0.f1": ("set", amount[i : i + 1, :n])}
        alone = intervene(model, graph, clean[i, :n], own, watch=watch)
        torch.testing.assert_close(alone.logits[0], whole.logits[i], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(
            alone.activations[watch[0]][0], whole.activations[watch[0]][i, :n]
        )
    left = clean.flip(1).gather(1, clean.flip(1) * 0 + torch.arange(7))  # padding before
    rows = [torch.cat([left[i, : 7 - n], clean[i, :n]]) for i, n in enumerate(lengths.tolist())]
    padded = intervene(model, graph, torch.stack(rows), changes, mask=mask.flip(1))
    torch.testing.assert_close(padded.logits, whole.logits, rtol=1e-10, atol=1e-10)


def test_logits_are_read_where_they_are_asked_for():
    model, graph, part = problem("gpt2", "mlp_out")
    task = random_task(model, lengths=LENGTHS, position=[2, 3, 1])
    changes = changes_at(part)
    every = by_hand(model, graph, task.clean[0], changes)
    torch.testing.assert_close(intervene(model, graph, task, changes).logits[0], every[2])
    at_1 = intervene(model, graph, task, changes, position=1)
    torch.testing.assert_close(at_1.logits[0], every[1])
    at_each = intervene(model, graph, task, changes, position=torch.tensor([4, 0, 0]))
    torch.testing.assert_close(at_each.logits[0], every[4])


def test_text_tokens_and_tasks_are_the_same_prompts():
    import sae_circuits as sc

    model = load_model("demo")
    graph = TensorGraph.from_model(model, saes=sc.load_saes("demo"))
    task = sc.tasks.ioi(model, n=3, seed=0)
    changes = {"post1.f3": ("add", 2.0), "a2.f5": ("scale", 0.0)}
    whole = intervene(model, graph, task, changes, position=task.lengths - 1)
    texts = intervene(model, graph, list(task.clean_text), changes)
    one = intervene(model, graph, task.clean_text[1], changes)
    tokens = intervene(model, graph, task.clean[2, : task.lengths[2]], changes)
    torch.testing.assert_close(texts.logits, whole.logits)
    torch.testing.assert_close(one.logits[0], whole.logits[1])
    torch.testing.assert_close(tokens.logits[0], whole.logits[2])
    assert repr(one) == "Intervened(1 prompt)"


# -- what is left behind, and bad input ------------------------------------------------------------


def state(model):
    """Hooks, flags and gradients."""
    modules = model.named_modules()
    return (
        {name: (len(m._forward_hooks), len(m._forward_pre_hooks)) for name, m in modules},
        [(p.requires_grad, p.grad) for p in model.parameters()],
        model.training,
        torch.is_grad_enabled(),
    )


@pytest.mark.parametrize("site", ["z", "resid_mid", "transcoder"])
@pytest.mark.parametrize("kind", [0, 1], ids=["hooked", "bridge"])
def test_the_model_is_left_as_found(site, kind, monkeypatch):
    model = TWINS["llama"]()[kind]
    _, graph, part = problem("llama", site, model=model)
    task = random_task(model)
    changes = {f"{part}0.f1": ("set", 1.0), f"{part}1.f1": ("add", 1.0)}
    next(iter(model.parameters())).requires_grad_(False)
    model(task.clean)  # a bridge completes itself in its first run
    before = state(model)
    for attention in ("recomputed", "frozen"):
        intervene(model, graph, task, changes, attention=attention)
        assert state(model) == before

    def fail(*_):
        raise RuntimeError("broken on the way")

    monkeypatch.setattr(type(graph.splits[part, 1].dictionary), "encode", fail)
    with pytest.raises(RuntimeError, match="broken on the way"):
        intervene(model, graph, task, changes, attention="frozen")
    assert state(model) == before


NAN = float("nan")
BAD = {
    "unknown feature": ({"m0.f99": ("set", 0.0)}, GraphError, r"'m0.f99' does not write"),
    "whole of a split": ({"m0": ("scale", 0.0)}, GraphError, "split into features"),
    "reader": ({"a0.h1<q>": ("scale", 0.0)}, GraphError, "does not write"),
    "logits": ({"logits": ("scale", 0.0)}, GraphError, "'logits' does not write"),
    "no name": ({"mlp3": ("set", 0.0)}, GraphError, "not a node's name"),
    "position": ({"m0.f1@4": ("set", 0.0)}, GraphError, r"position 4 of 'm0.f1@4'.*take 0 to 3"),
    "kind": ({"m0.f1": ("multiply", 2.0)}, OptionError, "'multiply'.*add, scale, set"),
    "nan": ({"m0.f1": ("set", NAN)}, OptionError, "amount of 'm0.f1' is nan: give finite"),
    "infinite": ({"m0.f1": ("add", -float("inf"))}, OptionError, "is -inf: give finite"),
    "nan in a tensor": (
        {"m0.f1": ("set", torch.full((3, 6), NAN))},
        OptionError,
        "NaN or infinity",
    ),
    "shape": (
        {"m0.f1": ("set", torch.zeros(2, 6))},
        OptionError,
        r"a tensor \(2, 6\).*floats \[3, 6\]",
    ),
    "set a head": ({"a0.h1": ("set", 0.0)}, OptionError, r"no activation to set.*\('scale', 0.0\)"),
    "add to an error": ({"m0.error": ("add", 1.0)}, OptionError, "no activation to add"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_changes_are_refused(case):
    changes, error, message = BAD[case]
    model, graph, _ = problem("gpt2", "mlp_out")
    with pytest.raises(error, match=message):
        intervene(model, graph, random_task(model, lengths=LENGTHS), changes)


def test_bad_options_graphs_and_prompts_are_refused():
    model, graph, _ = problem("gpt2", "mlp_out")
    task, changes = random_task(model, lengths=LENGTHS), {"m0.f1": ("set", 0.0)}
    with pytest.raises(OptionError, match="attention is 'fixed': 'recomputed' or 'frozen'"):
        intervene(model, graph, task, changes, attention="fixed")
    with pytest.raises(GraphError, match=r"'m0.f1@2' cannot be watched.*'m0.f1'"):
        intervene(model, graph, task, changes, watch=["m0.f1@2"])
    with pytest.raises(GraphError, match=r"'m0.error' cannot be watched"):
        intervene(model, graph, task, changes, watch=["m0.error"])
    plain = TensorGraph.from_model(model)
    with pytest.raises(GraphError, match=r"has none: make the graph with .*saes=load_saes"):
        intervene(model, plain, task, changes)
    from_file = TensorGraph(graph.architecture, graph.writers, graph.readers)
    with pytest.raises(GraphError, match=r"graph\.with_saes\(load_saes"):
        intervene(model, from_file, task, changes)
    with pytest.raises(GraphError, match="is not of this model"):
        intervene(HOOKED["gpt2"](n_layers=3), graph, task, changes)
    with pytest.raises(TaskError, match="position 4 of pair 1 lies outside"):
        intervene(model, graph, task, changes, position=4)
    with pytest.raises(TaskError, match="2 positions for 3 prompts"):
        intervene(model, graph, task, changes, position=torch.tensor([1, 2]))
    with pytest.raises(TaskError, match="the token id 40, and the model's 40 ids end at 39"):
        intervene(model, graph, torch.tensor([1, 40]), changes)
    with pytest.raises(ContextError, match="at most 16"):
        intervene(model, graph, torch.zeros(17, dtype=torch.int64), changes)
    with pytest.raises(TaskError, match="at least one"):
        intervene(model, graph, torch.zeros(0, dtype=torch.int64), changes)
    with pytest.raises(TaskError, match="no prompt"):
        intervene(model, graph, [], changes)
    with pytest.raises(OptionError, match="a mask goes with token ids"):
        intervene(model, graph, task, changes, mask=torch.ones(3, 6))


def test_a_change_too_large_to_compute_is_named():
    model, graph, _ = problem("gpt2", "mlp_out")
    with pytest.raises(NumericalError, match="logits of prompt 0 are not finite after the changes"):
        intervene(model, graph, random_task(model), {"m0.f1": ("set", 1e308)})


def test_a_task_is_run_on_its_clean_prompts():
    model, graph, part = problem("gpt2", "mlp_out")
    clean, corrupt = random_tokens(model, 2, 5)
    task = Task.from_tokens(clean, corrupt, answer=torch.tensor([1, 2]))
    changes = changes_at(part)
    one = intervene(model, graph, task, changes)
    torch.testing.assert_close(one.logits, intervene(model, graph, clean, changes).logits)
