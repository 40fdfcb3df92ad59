"""Directions as dictionaries: their numbers by hand, and what takes a dictionary taking them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sae_circuits as sc
from sae_circuits import directions
from sae_circuits.errors import (
    ContextError,
    DictionaryError,
    NumericalError,
    OptionError,
    TaskError,
    UnknownName,
)
from sae_circuits.models.dictionaries import Site
from shapes import BRIDGED, HOOKED, random_task, random_tokens

V = {"a": torch.tensor([3.0, 4.0]), "b": torch.tensor([0.0, 2.0])}
X = torch.tensor([[5.0, 10.0], [-1.0, 0.5]])
KINDS = ("z", "attn_out", "mlp_out", "resid_pre", "resid_mid", "resid_post")
HOOKS = {"z": "attn.hook_z"}


# -- vectors and probes --------------------------------------------------------------------------


def test_activations_are_what_is_read_and_the_error_is_the_rest():
    d = directions.of_vectors("resid_post.1", V, bias={"a": 0.0, "b": -1.0})
    # (5, 10) . (3, 4) / 25 = 2.2, (5, 10) . (0, 2) / 4 - 1 = 4
    torch.testing.assert_close(d.encode(X), torch.tensor([[2.2, 4.0], [-0.04, -0.75]]))
    torch.testing.assert_close(d(X)[0], 2.2 * V["a"] + 4 * V["b"])
    torch.testing.assert_close(d.error(X) + d(X), X)
    assert d.names == ("a", "b")
    assert d.is_sae
    assert d.reads == Site("resid_post", 1)
    assert torch.equal(d.W_dec, torch.stack(list(V.values())))


def test_a_direction_may_read_along_another_one():
    read = {"b": torch.tensor([1.0, 0.0]), "a": torch.tensor([0.0, -1.0])}  # in another order
    d = directions.of_vectors("blocks.1.hook_resid_post", V, read=read)
    torch.testing.assert_close(d.encode(X), torch.tensor([[-10.0, 5.0], [-0.5, -1.0]]))


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (None, [[2.2, 5.0], [-0.04, 0.25]]),
        (0, [[2.2, 5.0], [0.0, 0.25]]),
        (0.5, [[2.2, 5.0], [0.0, 0.0]]),
        ({"a": 3.0, "b": 0.1}, [[0.0, 5.0], [0.0, 0.25]]),
    ],
)
def test_a_threshold_closes_what_is_not_above_it(threshold, expected):
    d = directions.of_vectors("mlp_out.0", V, threshold=threshold)
    torch.testing.assert_close(d.encode(X), torch.tensor(expected))


def test_a_probe_reads_its_weight_and_writes_what_raises_it_by_one():
    linear = torch.nn.Linear(2, 3)
    d = directions.of_probe("mlp_out.0", linear.weight, linear.bias, ["x", "y", "z"])
    torch.testing.assert_close(d.encode(X), linear(X).detach())
    for i in range(3):
        raised = linear(X + d.W_dec[i]).detach() - linear(X).detach()
        torch.testing.assert_close(raised[:, i], torch.ones(2))
    one = directions.of_probe("mlp_out.0", torch.tensor([3.0, 4.0]), 1.0, threshold=0)
    torch.testing.assert_close(one.encode(X), torch.tensor([[56.0], [0.0]]))
    assert one.names == ("probe",)


def test_a_part_of_the_directions_keeps_its_names():
    some = directions.of_vectors("mlp_out.0", V).only([1])
    assert some.names == ("b",)
    torch.testing.assert_close(some.encode(X), torch.tensor([[5.0], [0.25]]))


# -- what is found on prompts --------------------------------------------------------------------


def standing(model, kind, layer, tokens):
    """What stands at a site of a HookedTransformer, [n, pos, width]."""
    name = f"blocks.{layer}.{HOOKS.get(kind, f'hook_{kind}')}"
    return model.run_with_cache(tokens)[1][name].flatten(2)


@pytest.mark.parametrize(
    "kind", ["z", "attn_out", "mlp_out", "resid_pre", "resid_mid", "resid_post"]
)
@pytest.mark.parametrize("shape", ["gpt2", "gemma2"])
def test_a_difference_of_means_is_that(shape, kind):
    model = HOOKED[shape]()
    plus = random_task(model, n=4, lengths=[6, 4, 5, 3])
    minus = random_task(model, n=3, seed=3)
    for position, row in ((-1, None), (1, 1), (-2, None)):
        d = directions.of_difference(
            model, f"{kind}.1", plus, minus, position=position, name="plus"
        )
        means = []
        for task in (plus, minus):
            x = standing(model, kind, 1, task.clean)
            at = task.lengths + position if row is None else torch.full((len(task),), row)
            means.append(torch.stack([x[i, at[i]] for i in range(len(task))]).mean(0))
        torch.testing.assert_close(d.W_dec[0], means[0] - means[1], rtol=1e-9, atol=1e-12)
        read = d.encode(torch.stack(means))[:, 0]
        torch.testing.assert_close(read, torch.tensor([1.0, 0.0]).double(), rtol=0, atol=1e-9)
    assert d.names == ("plus",)


def test_all_tokens_but_special_ones_count_where_no_position_is_given():
    model = sc.load_model("demo", kind="hooked")
    texts = ["Michael and Rebecca went to the beach", "Afterwards, Michael gave a map"]
    d = directions.of_difference(model, "resid_post.1", texts, texts[1], position=None)
    rows = [standing(model, "resid_post", 1, model.to_tokens(text))[0, 1:] for text in texts]
    expected = torch.cat(rows).double().mean(0) - rows[1].double().mean(0)
    torch.testing.assert_close(d.W_dec[0], expected.float(), rtol=1e-4, atol=1e-5)


def test_principal_axes_are_those_of_the_covariance():
    model = HOOKED["llama"]()
    task = random_task(model, n=12, lengths=[6, 4, 5] * 4)
    d = directions.of_pca(model, "resid_post.0", task, 3)
    x = standing(model, "resid_post", 0, task.clean)
    real = torch.arange(6) < task.lengths[:, None]
    rows = x[real].numpy()
    sizes, axes = np.linalg.eigh(np.cov(rows.T))
    for i in range(3):
        axis = torch.from_numpy(axes[:, -1 - i])
        assert abs(float(axis @ d.W_dec[i])) == pytest.approx(1, abs=1e-9)
        assert d.W_dec[i, d.W_dec[i].abs().argmax()] > 0
        variance = d.encode(x[real])[:, i].var().item()
        assert variance == pytest.approx(sizes[-1 - i], rel=1e-9)
    torch.testing.assert_close(
        d.encode(x[real]).mean(0), torch.zeros(3).double(), atol=1e-9, rtol=0
    )
    assert d.names == ("pc1", "pc2", "pc3")
    one = directions.of_pca(model, "resid_post.0", task, 1, position=-1, name="axis")
    assert one.names == ("axis1",)


def test_both_kinds_of_model_give_the_same_direction():
    found = []
    for kind in ("hooked", "bridge"):
        model = sc.load_model("demo", kind=kind)
        task = sc.tasks.ioi(model, n=8, seed=0)
        found.append(directions.of_difference(model, "resid_post.2", task, task.swapped()).W_dec)
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


# -- all that takes a dictionary takes them ------------------------------------------------------


def test_directions_are_nodes_whose_effects_add_up_with_the_error():
    model = HOOKED["no-norm"]()
    torch.manual_seed(1)
    d = directions.of_vectors(
        "resid_post.0", {name: torch.randn(20).double() for name in ("up", "down")}, bias=0.25
    )
    graph = sc.TensorGraph.from_model(model, saes=[d])
    assert [node.name for node in graph.src_nodes if node.site == "post"] == [
        "post0.f0", "post0.f1", "post0.error",
    ]  # fmt: skip
    task = random_task(model)
    scores = sc.attribute(model, graph, task, method="eap")
    circuit = sc.prune.top_n(scores, graph.n_edges)
    assert sc.evaluate(model, circuit, task).faithfulness == pytest.approx(1, abs=1e-6)
    done = sc.intervene(model, graph, task, {"post0.f1": ("set", 1.5)}, watch=["post0.f1"])
    torch.testing.assert_close(
        done.activations["post0.f1"], torch.full(task.clean.shape, 1.5).double()
    )
    read = d.encode(standing(model, "resid_post", 0, task.clean))[..., 1]
    torch.testing.assert_close(done.clean_activations["post0.f1"], read)
    assert bool((read < 0).any())
    slow = model.run_with_hooks(
        task.clean,
        fwd_hooks=[
            ("blocks.0.hook_resid_post", lambda x, hook: x + (1.5 - read)[..., None] * d.W_dec[1])
        ],
    )[:, -1]
    torch.testing.assert_close(done.logits, slow, rtol=1e-9, atol=1e-10)


def test_a_store_of_directions_has_their_names_labels_statistics_and_pages(tmp_path):
    model, corpus = sc.load_model("demo"), sc.demo_corpus(3000)
    task = sc.tasks.ioi(model, n=16, seed=0)
    d = directions.of_pca(
        model, "resid_post.1", task, 2, name="axis", threshold={"axis1": 1.0, "axis2": 0.0}
    )
    features = sc.FeatureDictionary.build(model, d, corpus, tmp_path / "store")
    numbers = features.statistics()
    assert numbers.name.tolist() == ["axis1", "axis2"]
    assert features.feature("axis2").id == 1
    x = features.source.read(corpus, 0, len(corpus))
    special = torch.isin(torch.as_tensor(corpus.tokens), torch.tensor([0, 1, 2]))
    a = d.encode(x)[~special]
    assert numbers.n_active.tolist() == (a != 0).sum(0).tolist()
    assert numbers.max_active.tolist() == pytest.approx(a.amax(0).tolist(), rel=1e-5)
    means = (a.sum(0) / (a != 0).sum(0)).tolist()
    assert numbers.mean_active.tolist() == pytest.approx(means, rel=1e-4)
    features.label()
    assert any(row["shown"] for row in features.feature("axis1").labels)
    (profile,) = sc.FeatureView.build(features, ["axis1"]).profiles
    assert profile.name == "axis1"


# -- bad input -----------------------------------------------------------------------------------

NAN = torch.tensor([1.0, float("nan")])


@pytest.mark.parametrize(
    ("site", "vectors", "more", "error", "message"),
    [
        ("resid_post.1", {}, {}, DictionaryError, "no vector"),
        ("resid_post.1", {"a": NAN}, {}, DictionaryError, "'a' holds NaN"),
        ("resid_post.1", {"a": torch.zeros(2)}, {}, DictionaryError, "'a' is 0"),
        ("resid_post.1", {"a": V["a"], "b": torch.ones(3)}, {}, DictionaryError, r"'b' .* \[3\]"),
        ("resid_post.1", {"a": torch.ones(1, 2)}, {}, DictionaryError, r"'a' .* \[1, 2\]"),
        ("resid_post.1", V, {"read": {"a": V["a"]}}, DictionaryError, "'b' has no read direction"),
        ("resid_post.1", V, {"bias": {"a": 1, "c": 2}}, UnknownName, "'c'"),
        ("resid_post.1", V, {"bias": float("nan")}, OptionError, "bias of 'a' is nan"),
        ("resid_post.1", V, {"threshold": -1}, OptionError, "threshold -1 is below 0"),
        ("mlp_in.1", V, {}, DictionaryError, "written at mlp_in.1"),
        ("resid.1", V, {}, DictionaryError, "'resid.1'"),
    ],
)
def test_bad_vectors_are_refused(site, vectors, more, error, message):
    with pytest.raises(error, match=message):
        directions.of_vectors(site, vectors, **more)


def test_probes_of_other_numbers_are_refused():
    with pytest.raises(DictionaryError, match="2 probes with 1 names"):
        directions.of_probe("mlp_out.0", torch.ones(2, 3), 0.0, ["a"])
    with pytest.raises(DictionaryError, match=r"2 probes with 2 names .1 different"):
        directions.of_probe("mlp_out.0", torch.ones(2, 3), 0.0, ["a", "a"])
    with pytest.raises(DictionaryError, match="3 biases"):
        directions.of_probe("mlp_out.0", torch.ones(2, 3), torch.zeros(3), ["a", "b"])
    with pytest.raises(DictionaryError, match="'b' is 0"):
        directions.of_probe("mlp_out.0", torch.eye(2, 3)[[0, 1]] * torch.tensor([[1.0], [0.0]]),
                            0.0, ["a", "b"])  # fmt: skip


def test_bad_prompts_are_refused_before_the_model_runs():
    model = HOOKED["gpt2"]()
    tokens, others = random_tokens(model, 2, 6)
    empty = torch.zeros(0, 6, dtype=torch.int64)
    for given, more, error, message in (
        ((empty, tokens), {}, TaskError, "at least one"),
        ((tokens, empty), {}, TaskError, "at least one"),
        ((tokens, others), {"position": 6}, OptionError, "position 6 .* positive prompts, of 6"),
        ((tokens, others[:, :4]), {"position": -5}, OptionError, "-5 .* negative prompts, of 4"),
        ((tokens, tokens), {}, DictionaryError, "same mean"),
        ((tokens.repeat(1, 3), others), {}, ContextError, "at most 16"),
    ):
        with pytest.raises(error, match=message):
            directions.of_difference(model, "resid_post.1", *given, **more)
    with pytest.raises(DictionaryError, match="no layer 7"):
        directions.of_difference(model, "resid_post.7", tokens, others)
    with pytest.raises(TaskError, match="no prompt"):
        directions.of_difference(sc.load_model("demo"), "resid_post.1", [], ["Michael"])
    for n in (0, 12):
        with pytest.raises(OptionError, match=f"{n} axes .* 12 tokens varies along 11"):
            directions.of_pca(model, "resid_post.1", tokens, n)


def test_what_is_not_finite_is_refused():
    model = HOOKED["gpt2"]()
    with torch.no_grad():
        model.W_E[3] = float("nan")
    tokens, others = torch.full((1, 4), 3), torch.full((1, 4), 5)
    with pytest.raises(NumericalError, match="the negative prompts is not finite"):
        directions.of_difference(model, "resid_post.1", others, tokens)


def test_a_dictionary_refuses_names_that_are_too_few():
    d = directions.of_vectors("mlp_out.0", V)
    with pytest.raises(DictionaryError, match="1 names, 1 of them different, for 2"):
        sc.Dictionary(**{**vars(d), "names": ("a",)})


def test_bridges_take_directions_at_every_site():
    model = BRIDGED["llama"]()
    tokens, others = random_tokens(model, 3, 6)
    for kind in KINDS:
        d = directions.of_difference(model, f"{kind}.1", tokens, others)
        with sc.steering(model, d, "project"):
            assert bool(model(tokens).isfinite().all())
