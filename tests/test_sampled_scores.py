"""Scores that keep what each example, or each batch, said, and what that says of their error."""

from __future__ import annotations

import pytest
import torch

import sae_circuits as sc
from graph_strategies import architecture
from sae_circuits.errors import GraphError, OptionError
from sae_circuits.graph import Provenance, SampledScores, Scores, TensorGraph
from sae_circuits.graph import sampled_scores as module
from shapes import HOOKED, random_task
from small_dictionaries import dictionary

TIGHT = {"rtol": 1e-9, "atol": 1e-12}
OPTIONS = {"eap-ig": {"steps": 2}, "eap-ig-activations": {"steps": 1}, "mask-ig": {"steps": 2}}
TINY = TensorGraph.from_model(architecture(1, 1))  # 8 edges


def problem(shape="gpt2", n=5, lengths=(6, 4, 5, 6, 3), saes=()):
    model = HOOKED[shape](dtype=torch.float64)
    made = [dictionary(model, *where) for where in saes]
    return model, TensorGraph.from_model(model, saes=made), random_task(model, n=n, lengths=lengths)


# -- from a model ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", sorted(set(sc.methods()) - {"random"}))
def test_each_example_has_the_scores_that_it_has_alone(method):
    model, graph, task = problem()
    how = {"method": method, **OPTIONS.get(method, {})}
    kept = sc.attribute(model, graph, task, keep="example", batch_size=3, **how)
    assert kept.sizes.tolist() == [1] * 5
    for i, row in enumerate(kept.each):
        alone = sc.attribute(model, graph, task[i : i + 1], **how)
        torch.testing.assert_close(row, alone.values, **TIGHT)
    whole = sc.attribute(model, graph, task, **how)
    torch.testing.assert_close(kept.values, whole.values, **TIGHT)
    torch.testing.assert_close(kept.each.mean(0), whole.values, **TIGHT)
    assert kept.provenance == whole.provenance
    assert float(kept.each.std(0).max()) > 0


@pytest.mark.parametrize("shape", ["llama", "pythia", "gemma2"])
def test_examples_do_not_depend_on_batches(shape):
    model, graph, task = problem(shape)
    how = {"method": "eap-ig", "steps": 2, "keep": "example"}
    whole = sc.attribute(model, graph, task, **how)
    for size in (1, 2, 4):
        again = sc.attribute(model, graph, task, batch_size=size, **how)
        torch.testing.assert_close(again.each, whole.each, **TIGHT)
    turned = sc.attribute(model, graph, task[[4, 2, 0, 1, 3]], **how)
    torch.testing.assert_close(turned.each, whole.each[[4, 2, 0, 1, 3]], **TIGHT)


def test_features_and_other_interventions_have_examples_too():
    saes = [("z", 0), ("resid_post", 0), ("mlp_out", 1)]
    model, graph, task = problem(saes=saes)
    for intervention in ("mean", "zero", "resample"):
        how = {"method": "eap-ig-activations" if intervention == "mean" else "eap"}
        if intervention == "resample":
            task = random_task(model, n=5, lengths=[6] * 5)
        how["intervention"] = intervention
        kept = sc.attribute(model, graph, task, keep="example", **how)
        whole = sc.attribute(model, graph, task, **how).values
        torch.testing.assert_close(kept.each.mean(0), whole, **TIGHT)
        assert float(kept.each.std(0).max()) > 0


def test_batches_are_kept_with_their_sizes():
    model, graph, task = problem()
    kept = sc.attribute(model, graph, task, method="eap", keep="batch", batch_size=2)
    assert kept.sizes.tolist() == [2, 2, 1]
    for row, part in zip(kept.each, (task[:2], task[2:4], task[4:]), strict=True):
        alone = sc.attribute(model, graph, part, method="eap").values
        torch.testing.assert_close(row, alone, **TIGHT)
    whole = sc.attribute(model, graph, task, method="eap").values
    torch.testing.assert_close(kept.values, whole, **TIGHT)
    torch.testing.assert_close(kept.sizes.double() @ kept.each / 5, whole, **TIGHT)


def test_rules_score_all_examples_in_the_same_pass(monkeypatch):
    from sae_circuits.attribution import problem as made

    model, graph, task = problem()
    sizes, run = [], made.run

    def counted(adapter, tokens, *args, **options):
        sizes.append(len(tokens))
        return run(adapter, tokens, *args, **options)

    monkeypatch.setattr(made, "run", counted)
    for keep, batch_size, expected in [
        ("example", None, [5, 5]), ("batch", None, [5, 5]), ("example", 4, [4, 4, 1, 1])
    ]:  # fmt: skip
        sizes.clear()
        how = {"method": "clean-corrupted", "batch_size": batch_size}
        sc.attribute(model, graph, task, keep=keep, **how)
        assert sizes == expected


def test_a_method_of_ones_own_that_tells_no_examples_apart_runs_one_by_one():
    model, graph, task = problem()

    def score_batch(problem):
        return problem.measure(problem.clean.logits).detach().double().sum() * graph.dense(
            torch.ones(graph.n_edges, dtype=torch.float64)
        )

    own = sc.Method(name="own", score_batch=score_batch)
    kept = sc.attribute(model, graph, task, method=own, keep="example", batch_size=2)
    whole = sc.ablate(model, sc.Circuit.full(graph), task)
    targets = sc.metrics.Targets(task.answer, task.wrong, whole)
    torch.testing.assert_close(kept.each[:, 0], sc.metrics.logit_diff(whole, targets), **TIGHT)


def test_another_keep_is_refused_before_any_run():
    _, graph, task = problem()
    with pytest.raises(OptionError, match="keep='examples': 'example' or 'batch'"):
        sc.attribute(None, graph, task, keep="examples")


# -- as values -------------------------------------------------------------------------------------


def sampled(n=40, sizes=None, seed=0) -> SampledScores:
    """Means from -2 to 1.5 with noise of s.d. 2: some signs are sure, others are not."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, 8, generator=generator, dtype=torch.float64)
    return SampledScores.of(TINY, 0.5 * torch.arange(-4.0, 4.0).double() + 2 * noise, sizes)


def test_standard_errors_are_the_usual_ones_and_those_of_replicated_groups():
    scores = sampled()
    usual = scores.each.std(0) / 40**0.5
    torch.testing.assert_close(scores.standard_error, usual, **TIGHT)
    sizes = torch.tensor([1, 3] * 20)
    uneven = sampled(sizes=sizes)
    weights = sizes.double() / sizes.sum()
    torch.testing.assert_close(uneven.values, weights @ uneven.each, **TIGHT)
    by_hand = [
        (40 / 39 * sum((w * (x - m)) ** 2 for w, x in zip(weights, column, strict=True))) ** 0.5
        for column, m in zip(uneven.each.T, uneven.values, strict=True)
    ]
    torch.testing.assert_close(uneven.standard_error, torch.stack(by_hand), **TIGHT)
    equal = SampledScores.of(TINY, scores.each, torch.full((40,), 7))
    torch.testing.assert_close(equal.standard_error, usual, **TIGHT)


def test_standard_errors_say_how_far_other_samples_fall():
    """Over 400 samples, the spread of the scores is what each sample's standard error claims."""
    many = [sampled(seed=i) for i in range(400)]
    spread = torch.stack([one.values for one in many]).std(0)
    claimed = torch.stack([one.standard_error for one in many]).mean(0)
    torch.testing.assert_close(claimed, spread, rtol=0.12, atol=0)
    truth = 0.5 * torch.arange(-4.0, 4.0).double()
    inside = []
    for one in many:
        low, high = one.bootstrap(200).interval(0.9)
        inside.append((low <= truth) & (truth <= high))
    assert torch.stack(inside).double().mean() == pytest.approx(0.9, abs=0.03)


def test_the_bootstrap_is_a_slow_loop_over_draws():
    scores = sampled(n=6, sizes=torch.tensor([1, 2, 3, 1, 2, 3]))
    drawn = scores.bootstrap(50, seed=3)
    picks = torch.randint(6, (50, 6), generator=torch.Generator().manual_seed(3)).tolist()
    means = []
    for row in picks:
        examples = [scores.each[g] for g in row for _ in range(int(scores.sizes[g]))]
        means.append(torch.stack(examples).mean(0))
    means = torch.stack(means)
    torch.testing.assert_close(torch.cat(list(drawn.means()), 1), means, **TIGHT)
    share = (means.sign() == scores.values.sign()).double().mean(0)
    torch.testing.assert_close(drawn.sign_share, share)
    low, high = drawn.interval(0.8)
    torch.testing.assert_close(low, means.quantile(0.1, 0))
    torch.testing.assert_close(high, means.quantile(0.9, 0))
    assert not torch.equal(drawn.weights, scores.bootstrap(50, seed=4).weights)


def test_chunks_of_edges_change_nothing(monkeypatch):
    scores = sampled()
    whole = scores.bootstrap(100)
    expected = (*whole.interval(), whole.sign_share)
    monkeypatch.setattr(module, "CHUNK", 300)  # three edges at a time
    chunked = scores.bootstrap(100)
    assert [means.shape[1] for means in chunked.means()] == [3, 3, 2]
    for got, want in zip((*chunked.interval(), chunked.sign_share), expected, strict=True):
        torch.testing.assert_close(got, want)


def test_edges_of_unstable_sign_are_dropped():
    scores = sampled()
    share = scores.bootstrap(1000).sign_share
    kept = scores.drop_unstable(0.95)
    assert kept.values.tolist() == [
        value if sure >= 0.95 else 0.0
        for value, sure in zip(scores.values.tolist(), share.tolist(), strict=True)
    ]
    assert 0 < int((kept.values == 0).sum()) < 8
    assert type(kept) is Scores
    assert kept.provenance.options["drop_unstable"] == {"share": 0.95, "n": 1000, "seed": 0}
    always = SampledScores.of(TINY, torch.tensor([[1.0, -1.0] * 4, [2.0, -3.0] * 4]))
    assert torch.equal(always.drop_unstable(1.0).values, always.values)
    never = SampledScores.of(TINY, torch.tensor([[1.0] * 8, [-2.0] * 8]))
    assert float(never.drop_unstable(0.9).values.abs().sum()) == 0


def test_the_table_has_errors_and_intervals():
    scores = sampled()
    table = scores.to_pandas(level=0.9, n=200, seed=1)
    assert list(table.columns) == [
        "src", "dest", "score", "standard_error", "low", "high", "sign_share"
    ]  # fmt: skip
    drawn = scores.bootstrap(200, seed=1)
    low, high = drawn.interval(0.9)
    assert table.low.tolist() == low.tolist()
    assert table.high.tolist() == high.tolist()
    assert table.standard_error.tolist() == scores.standard_error.tolist()
    assert table.sign_share.tolist() == drawn.sign_share.tolist()
    assert bool((table.low < table.score).all() and (table.score < table.high).all())


def test_arithmetic_keeps_groups_where_they_are_the_same():
    a, b = sampled(seed=1), sampled(seed=2)
    for got, want in [
        (a + b, a.each + b.each), (a - b, a.each - b.each), (3 * a, 3 * a.each), (-a, -a.each),
        (a / 4, a.each / 4),
    ]:  # fmt: skip
        assert isinstance(got, SampledScores)
        torch.testing.assert_close(got.each, want)
        torch.testing.assert_close(got.values, want.mean(0))
    other_task = SampledScores(TINY, b.values, Provenance(task_id="x"), each=b.each, sizes=b.sizes)
    for other in (b.total, sampled(n=3), other_task):
        got = a + other
        assert type(got) is Scores
        torch.testing.assert_close(got.values, a.values + other.values)
    assert type(b.total + a) is Scores


def test_on_a_subgraph_the_columns_go_along():
    scores = sampled()
    part = TINY.subgraph(["input", "m0"])
    found = scores.on(part)
    ids = [TINY.edge_id(edge) for edge in part.edges]
    torch.testing.assert_close(found.each, scores.each[:, ids])
    torch.testing.assert_close(found.values, scores.values[ids])
    assert sc.prune.top_n(found, 1).scores is found


def test_files_hold_the_groups(tmp_path):
    scores = sampled(sizes=torch.tensor([1, 3] * 20))
    sc.save(scores, tmp_path / "kept.safetensors")
    again = sc.load(tmp_path / "kept.safetensors", Scores)
    assert isinstance(again, SampledScores)
    assert torch.equal(again.each, scores.each)
    assert torch.equal(again.sizes, scores.sizes)
    assert torch.equal(again.values, scores.values)


def test_what_cannot_be_resampled_is_refused():
    one = sampled(n=1)
    for call in (lambda: one.standard_error, one.bootstrap, one.drop_unstable, one.to_pandas):
        with pytest.raises(OptionError, match="one group of 1 examples alone"):
            call()
    some = sampled(n=3)
    for call, message in [
        (lambda: some.bootstrap(0), "n=0: resample at least once"),
        (lambda: some.drop_unstable(0), "a share of 0 of the resamples: above 0, at most 1"),
        (lambda: some.drop_unstable(95), "a share of 95 "),
        (lambda: some.bootstrap().interval(95), "level=95: between 0 and 1"),
    ]:
        with pytest.raises(OptionError, match=message):
            call()
    other = TensorGraph.from_model(architecture(2, 1))
    with pytest.raises(GraphError, match=r"\(8,\) values do not fit"):
        SampledScores.of(other, some.each)
