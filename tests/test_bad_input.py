"""Bad input: each is refused with the right error, which names it and says what to do.

Where it can be seen before the model runs, it is: such tests have a model that must not run.
"""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

import sae_circuits as sc
from sae_circuits.errors import (
    AlignmentError,
    ContextError,
    FileFormatError,
    GraphError,
    MetricError,
    NumericalError,
    OutputError,
    TaskError,
    UnknownName,
)
from sae_circuits.models.small import random_model
from sae_circuits.testing import random_task

METHODS = [name for name in sc.methods() if name != "random"]  # which runs nothing
OF_METRIC = [name for name in METHODS if name != "information-flow"]


@pytest.fixture(scope="module")
def demo():
    return sc.load_model("demo")


@pytest.fixture
def model():
    return random_model(dtype=torch.float32)


@pytest.fixture
def still(model):
    """The model, which must not run."""

    def ran(*_):
        raise AssertionError("the model ran before the input was checked")

    model.embed.register_forward_pre_hook(ran)
    return model


@pytest.fixture
def graph(model):
    return sc.TensorGraph.from_model(model)


@pytest.fixture
def full(graph):
    return sc.Circuit.full(graph)


@pytest.fixture
def other_graph():
    return sc.TensorGraph.from_model(sc.Architecture("other", 3, 2, 2, 16, 4, 30, 12))


@pytest.fixture
def task():
    return random_task(n=6)


def said(error: pytest.ExceptionInfo, *parts: str) -> None:
    for part in parts:
        assert part in str(error.value)


# -- names -----------------------------------------------------------------------------------------


def test_an_unknown_task(demo):
    with pytest.raises(UnknownName) as error:
        sc.tasks.make("subject_verbs", demo, n=2, seed=0)
    said(error, "unknown task 'subject_verbs'", "did you mean 'subject_verb'?", "greater_than")


def test_an_unknown_method(still, graph, task):
    with pytest.raises(UnknownName) as error:
        sc.attribute(still, graph, task, method="eap-gi")
    said(error, "unknown method 'eap-gi'", "did you mean 'eap-ig' or 'eap'?", "exact")


def test_an_unknown_option_of_a_method(still, graph, task):
    with pytest.raises(UnknownName) as error:
        sc.attribute(still, graph, task, method="eap-ig", step=5)
    said(error, "unknown option of method 'eap-ig' 'step'", "did you mean 'steps'?")


@pytest.mark.parametrize("verb", ["get", "attribute", "evaluate", "curve"])
def test_an_unknown_metric(verb, still, graph, full, task):
    scores = sc.Scores(graph, torch.ones(graph.n_edges))
    with pytest.raises(UnknownName) as error:
        {
            "get": lambda name: sc.metrics.get(name),
            "attribute": lambda name: sc.attribute(still, graph, task, metric=name),
            "evaluate": lambda name: sc.evaluate(still, full, task, metric=name),
            "curve": lambda name: sc.curve(still, scores, task, metric=name),
        }[verb]("logit_dif")
    said(error, "unknown metric 'logit_dif'", "did you mean 'logit_diff'?", "cross_entropy")


def test_a_metric_by_name_is_the_metric(model, graph, full, task):
    by_name = sc.attribute(model, graph, task, metric="prob_diff", method="eap")
    by_value = sc.attribute(model, graph, task, metric=sc.metrics.prob_diff, method="eap")
    assert torch.equal(by_name.values, by_value.values)
    assert by_name.provenance == by_value.provenance
    assert sc.evaluate(model, full, task, metric="kl").provenance.metric == "kl"


def test_an_unknown_model():
    with pytest.raises(UnknownName) as error:
        sc.load_model("gtp2")
    said(error, "unknown model 'gtp2'", "did you mean 'gpt2'", "(demo)")


# -- prompts ---------------------------------------------------------------------------------------


def test_strings_that_do_not_align(demo):
    clean, corrupt = "The capital of France is", "The capital of the France is"
    with pytest.raises(AlignmentError) as error:
        sc.Task.from_strings(demo, [clean, clean], [clean, corrupt], answer=["Paris", "Paris"])
    said(error, "pair 1", "6 tokens", "7", repr(clean), repr(corrupt), "must be replaced by")


def test_tokens_that_do_not_align():
    tokens = torch.tensor([[1, 2, 3], [4, 5, 6]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    with pytest.raises(AlignmentError) as error:
        sc.Task.from_tokens(
            tokens,
            tokens,
            answer=tokens[:, 0],
            mask=torch.ones_like(mask),
            corrupt_mask=mask,
        )
    said(error, "pair 1", "3 tokens", "2", "[4, 5, 6]", "[4, 5]", "must be replaced by")


def test_empty_data(demo, tmp_path):
    with pytest.raises(TaskError, match=r"of 0 examples is empty: ask for at least one"):
        sc.tasks.ioi(demo, n=0)
    with pytest.raises(TaskError, match=r"'strings' is empty: it needs at least one pair"):
        sc.Task.from_strings(demo, [], [], answer=[])
    none = torch.zeros(0, 3, dtype=torch.int64)
    with pytest.raises(TaskError, match=r"'tokens' is empty: it needs at least one pair"):
        sc.Task.from_tokens(none, none, answer=none[:, 0])
    for text in ("", "clean,corrupt,answer\n"):
        (tmp_path / "none.csv").write_text(text)
        with pytest.raises(FileFormatError, match=r"none\.csv holds no prompts: give at least one"):
            sc.Task.from_file(demo, tmp_path / "none.csv")


@pytest.mark.parametrize("verb", ["attribute", "evaluate", "ablate", "curve"])
def test_a_prompt_longer_than_the_context(verb, still, graph, full):
    tokens = torch.ones(3, 13, dtype=torch.int64)
    mask = torch.ones(3, 13)
    mask[[0, 2], -1] = 0
    task = sc.Task.from_tokens(tokens, tokens, answer=tokens[:, 0], mask=mask)
    scores = sc.Scores(graph, torch.ones(graph.n_edges))
    with pytest.raises(ContextError) as error:
        {
            "attribute": lambda: sc.attribute(still, graph, task),
            "evaluate": lambda: sc.evaluate(still, full, task),
            "ablate": lambda: sc.ablate(still, full, task),
            "curve": lambda: sc.curve(still, scores, task),
        }[verb]()
    said(error, "prompt 1", "has 13 tokens", "reads at most 12", "shorten it")


# -- numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("weight", "node"),
    [("blocks.1.mlp.W_in", "m1"), ("blocks.0.mlp.b_out", "m0"), ("blocks.1.attn.W_V", "a1.h2")],
)
def test_nan_in_a_weight_names_the_node(method, weight, node, model, graph, task):
    parameter = model.get_parameter(weight)
    with torch.no_grad():
        parameter[2 if "attn" in weight else 0] = float("nan")
    with pytest.raises(NumericalError) as error:
        sc.attribute(model, graph, task, method=method)
    said(error, f"{node} of the", "for example 0", "check the model's weights")


@pytest.mark.parametrize("intervention", ["corrupt", "mean", "zero"])
def test_nan_in_an_evaluation_names_the_node(intervention, model, full, task):
    with torch.no_grad():
        model.blocks[1].mlp.W_in[0, 0] = float("nan")
    with pytest.raises(NumericalError) as error:
        sc.evaluate(model, full, task, intervention=intervention)
    said(error, "m1 of the clean run", "for example 0", "check the model's weights")


@pytest.mark.parametrize(
    ("side", "intervention"), [("clean", "corrupt"), ("clean", "mean"), ("corrupt", "corrupt")]
)
def test_nan_in_activations_names_the_example(side, intervention, model, graph, full, task):
    prompts = {name: getattr(task, name).clamp(max=28) for name in ("clean", "corrupt")}
    prompts[side][4, 0] = 29  # the only token without an embedding
    task = replace(task, **prompts)
    with torch.no_grad():
        model.embed.W_E[29] = float("inf")
    for run in (
        lambda: sc.attribute(
            model, graph, task, method="eap", intervention=intervention, batch_size=2
        ),
        lambda: sc.evaluate(model, full, task, intervention=intervention, batch_size=2),
    ):
        with pytest.raises(NumericalError) as error:
            run()
        said(error, "input of the", side, "for example 4", "the prompt")


@pytest.mark.parametrize("method", OF_METRIC)
def test_nan_in_a_metric_names_the_example(method, model, graph, full, task):
    def log_of_negative(logits, targets):
        fourth = (targets.answer == task.answer[4]).all(1)
        return torch.where(fourth, float("nan"), sc.metrics.logit_diff(logits, targets))

    with pytest.raises(NumericalError) as error:
        sc.attribute(model, graph, task, metric=log_of_negative, method=method, batch_size=2)
    said(error, "metric 'log_of_negative'", "for example 4", "mend the metric")
    with pytest.raises(NumericalError) as error:
        sc.evaluate(model, full, task, metric=log_of_negative, batch_size=2)
    said(error, "metric 'log_of_negative'", "for example 4", "mend the metric")


# -- metrics ---------------------------------------------------------------------------------------


def nothing(logits, targets):
    return 0 * logits.sum(-1)


def certainty(logits, targets):
    """One, but for rounding, whose gradient is not exactly zero."""
    return logits.softmax(-1).sum(-1)


@pytest.mark.parametrize(
    "method", ["eap", "eap-ig", "clean-corrupted", "eap-ig-activations", "gim"]
)
@pytest.mark.parametrize("metric", [nothing, certainty])
def test_a_constant_metric(metric, method, model, graph, full, task):
    with pytest.raises(MetricError) as error:
        sc.attribute(model, graph, task, metric=metric, method=method, batch_size=4)
    said(error, f"metric {metric.__name__!r} has no gradient", repr(method), "use eap-ig")


def test_a_constant_metric_has_no_gap_to_recover(model, full, task):
    with pytest.raises(MetricError) as error:
        sc.evaluate(model, full, task, metric=nothing)
    said(error, "'nothing' is constant on all 6 examples", "use corrupt prompts")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_metric_at_its_minimum(dtype, graph, task):
    model = random_model(dtype=dtype)
    with pytest.raises(MetricError) as error:
        sc.attribute(model, graph, task, metric=sc.metrics.kl, method="eap")
    said(error, "metric 'kl' has no gradient", "'eap'", "at its minimum", "use eap-ig")
    scores = sc.attribute(model, graph, task, metric=sc.metrics.kl, method="eap-ig")
    assert float(scores.values.abs().max()) > 1e-3


def test_a_batch_without_a_slope_is_no_error(model, graph, task):
    """A saturated metric has no gradient on some examples: their scores are zero."""
    at_clean = sc.evaluate(model, sc.Circuit.full(graph), task).examples["clean"]
    middle = float(at_clean.median())

    def hinge(logits, targets):
        return sc.metrics.logit_diff(logits, targets).clamp(max=middle - 1e-3)

    below = at_clean < middle - 1e-3
    assert 0 < int(below.sum()) < len(task)
    found = sc.attribute(model, graph, task, metric=hinge, method="eap", batch_size=1)
    of_below = sc.attribute(model, graph, task[below.nonzero()[:, 0]], method="eap")
    expected = of_below.values * below.double().mean().item()
    torch.testing.assert_close(found.values, expected, rtol=1e-4, atol=1e-6)


def test_a_small_metric_is_no_constant_one(model, graph, task):
    def small(logits, targets):
        return 1e-9 * sc.metrics.logit_diff(logits, targets)

    found = sc.attribute(model, graph, task, metric=small, method="eap")
    expected = sc.attribute(model, graph, task, method="eap")
    torch.testing.assert_close(1e9 * found.values, expected.values)


def cut(logits, targets):
    return sc.metrics.logit_diff(logits.detach(), targets)


@pytest.mark.parametrize("metric", [sc.metrics.accuracy, cut])
def test_a_metric_that_is_not_differentiable(metric, model, graph, task):
    with pytest.raises(MetricError) as error:
        sc.attribute(model, graph, task, metric=metric)
    said(error, repr(metric.__name__), "is not differentiable", "attribute with another")


def test_a_metric_that_is_not_one_number_per_example(model, graph, full, task):
    def mean(logits, targets):
        return sc.metrics.logit_diff(logits, targets).mean()

    for run in (
        lambda: sc.attribute(model, graph, task, metric=mean),
        lambda: sc.evaluate(model, full, task, metric=mean),
    ):
        with pytest.raises(MetricError) as error:
            run()
        said(error, "metric 'mean' returned ()", "one number per example, (6,)")


# -- graphs and circuits ---------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["attribute", "evaluate", "ablate", "curve"])
def test_the_graph_of_another_model(verb, still, other_graph, task):
    circuit = sc.Circuit.full(other_graph)
    scores = sc.Scores(other_graph, torch.ones(other_graph.n_edges))
    with pytest.raises(GraphError) as error:
        {
            "attribute": lambda: sc.attribute(still, other_graph, task),
            "evaluate": lambda: sc.evaluate(still, circuit, task),
            "ablate": lambda: sc.ablate(still, circuit, task),
            "curve": lambda: sc.curve(still, scores, task),
        }[verb]()
    said(error, "'other'", "is not of this model ('random')", "TensorGraph.from_model(model)")


@pytest.mark.parametrize("pruner", [sc.prune.top_n, sc.prune.best_first])
def test_more_edges_than_there_are(pruner, graph):
    scores = sc.Scores(graph, torch.ones(graph.n_edges))
    with pytest.raises(GraphError) as error:
        pruner(scores, graph.n_edges + 1)
    said(error, "111 edges asked for", "the graph has 110")
    with pytest.raises(GraphError, match=re.escape("-1 edges asked for: give 0 or more")):
        pruner(scores, -1)


def test_more_nodes_than_there_are(graph):
    with pytest.raises(GraphError, match="11 writers asked for, the graph has 10"):
        sc.prune.top_nodes(sc.Scores(graph, torch.ones(graph.n_edges)), 11)


# -- places ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report():
    model = random_model(dtype=torch.float32)
    return sc.evaluate(model, sc.Circuit.full(sc.TensorGraph.from_model(model)), random_task())


def test_an_output_folder_that_holds_something(report, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError) as error:
        report.save(tmp_path)
    said(error, str(tmp_path), "is not empty", "'thesis.tex'", "choose another folder")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("inside", ["", "below"])
def test_an_output_folder_that_is_a_file(inside, report, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError) as error:
        report.save(tmp_path / "out" / inside)
    said(error, str(tmp_path / "out"), "a file stands where a folder is needed", "choose another")


def test_an_output_folder_that_cannot_be_written(report, tmp_path, monkeypatch):
    def full_up(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", full_up)  # the super-user may write anywhere
    with pytest.raises(OutputError) as error:
        report.save(tmp_path / "out")
    said(error, str(tmp_path / "out"), "permission denied", "choose another folder")


def test_a_file_in_a_folder_that_is_not_there(report, tmp_path):
    path = tmp_path / "missing" / "circuit.json"
    with pytest.raises(OutputError) as error:
        report.of.save(path)
    said(error, str(path), "does not exist; make it first")
