"""Scores by position and by named span."""

from __future__ import annotations

import pytest
import torch

import sae_circuits as sc
from reference_attribution import _gradients
from sae_circuits.errors import OptionError, TaskError, UnknownName
from shapes import HOOKED, random_task
from small_dictionaries import dictionary
from split_run import forward, replacement, split

SAES = [("z", 0, {}), ("resid_post", 0, {"gate": "topk"}), ("mlp_out", 1, {"gate": "threshold"})]
METHODS = {"eap": {}, "eap-ig": {"steps": 2}, "eap-ig-activations": {"steps": 2}}


def problem(*, through=False, features=True, **task):
    model = HOOKED["gpt2"](dtype=torch.float64)
    saes = [dictionary(model, reads, layer, **options) for reads, layer, options in SAES]
    graph = sc.TensorGraph.from_model(model, saes=saes if features else [], through=through)
    return model, graph, random_task(model, **{"n": 3, "lengths": [6, 4, 5], **task})


@pytest.mark.parametrize("through", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_spans_add_up_to_the_scores_without(method, through):
    model, graph, task = problem(through=through)
    spans = {"start": range(2), "end": -1}
    how = {"method": method, **METHODS[method]}
    for of, whole in (("edges", sc.attribute), ("nodes", sc.attribute_nodes)):
        parts = sc.attribute_spans(model, graph, task, spans, of=of, **how)
        assert list(parts) == ["start", "end", "rest"]
        want = whole(model, graph, task, **how).values
        torch.testing.assert_close(parts.total.values, want, rtol=1e-9, atol=1e-12)
        assert all(part.values.abs().max() > 0 for part in parts.values())


def test_scores_at_positions_equal_the_reference():
    model, graph, task = problem(features=False)
    parts = split(model, graph)
    clean = forward(parts, task.clean)
    to = replacement(parts, task, "corrupt")
    gradients = _gradients(parts, task, sc.metrics.logit_diff, clean, task.clean, None)
    d = torch.stack([to[i] - clean.written[i] for i in range(graph.n_src)])
    g = torch.stack([gradients[i] for i in range(graph.n_dest)])
    want = torch.einsum("snpd,rnpd->psr", d, g).detach() / len(task)
    ours = sc.attribute_spans(model, graph, task, method="eap")
    assert list(ours) == [f"@{i}" for i in range(6)]
    for i, scores in enumerate(ours.values()):
        torch.testing.assert_close(scores.values, graph.flat(want[i]), rtol=1e-7, atol=1e-10)


def test_spans_do_not_depend_on_batches_or_on_how_they_are_given():
    model, graph, task = problem(n=5, lengths=[6, 4, 5, 6, 3])
    mask = torch.zeros(5, 6, dtype=torch.bool)
    mask[:, 1:3] = True
    at = task.lengths - 1
    given = [
        {"some": range(1, 3), "end": -1 * torch.ones(5, dtype=torch.int64)},
        {"some": mask & (torch.arange(6) < at[:, None]), "end": at},
    ]
    lone = task.lengths == 3  # of that prompt, position 2 is the end
    assert int(lone.sum()) == 1
    with pytest.raises(TaskError, match="'some' and 'end' overlap at position 2 of prompt 4"):
        sc.attribute_spans(model, graph, task, given[0], method="eap")
    whole = sc.attribute_spans(model, graph, task, given[1], method="eap")
    for size in (1, 2):
        batched = sc.attribute_spans(model, graph, task, given[1], method="eap", batch_size=size)
        for span, scores in whole.items():
            torch.testing.assert_close(batched[span].values, scores.values, rtol=1e-9, atol=1e-12)


def test_spans_have_other_lengths_in_other_prompts():
    model, graph, task = problem(features=False)
    ends = torch.tensor([[0, 3], [1, 2], [2, 2]])
    mask = torch.zeros(3, 6, dtype=torch.bool)
    for example, (start, end) in enumerate(ends.tolist()):
        mask[example, start:end] = True
    found = [
        sc.attribute_spans(model, graph, task, {"name": where}, method="eap")
        for where in (ends, mask, (ends, mask))
    ]
    each = [
        sc.attribute_spans(model, graph, task[i : i + 1], method="eap")[f"@{t}"].values
        for i, t in mask.nonzero().tolist()
    ]
    for scores in found:
        torch.testing.assert_close(scores["name"].values, sum(each) / 3, rtol=1e-9, atol=1e-12)


def test_a_table_and_the_largest():
    model, graph, task = problem()
    spans = sc.attribute_spans(model, graph, task, {"first": 0}, method="eap")
    table = spans.to_pandas()
    assert list(table.columns) == ["span", "src", "dest", "score"]
    assert len(table) == 2 * graph.n_edges
    span, edge, value = spans.top(1)[0]
    assert spans[span][edge] == value == table.score[table.score.abs().idxmax()]
    nodes = sc.attribute_spans(model, graph, task, of="nodes", method="eap")
    assert list(nodes.to_pandas().columns) == ["span", "node", "score"]
    with pytest.raises(UnknownName, match="unknown span 'firs': did you mean 'first'"):
        _ = spans["firs"]


@pytest.mark.parametrize(
    ("spans", "error", "message"),
    [
        ({"far": 5}, TaskError, "span 'far': prompt 1 has 4 tokens and no position 5"),
        ({"far": -5}, TaskError, "span 'far': prompt 1 has 4 tokens and no position -1"),
        ({}, TaskError, "give spans by their names"),
        ({"rest": 1}, TaskError, "'rest' is kept for tokens in no span"),
        ("positions", TaskError, "'position', or spans by their names"),
        ({"a": torch.zeros(2, 6, dtype=torch.bool)}, TaskError, r"\[2, 6\]; the prompts are"),
        ({"a": torch.zeros(2, dtype=torch.int64)}, TaskError, "one for each of 3 prompts"),
        (
            {"a": torch.tensor([[0, 2], [1, 5], [0, 1]])},
            TaskError,
            "span 'a' goes from 1 to before 5 in prompt 1, which has 4 tokens",
        ),
        (
            {"a": torch.tensor([[0, 2], [3, 2], [0, 1]])},
            TaskError,
            "from 3 to before 2 in prompt 1",
        ),
        (
            {"a": (range(1, 3), torch.tensor([[1, 3], [1, 2], [1, 3]]))},
            TaskError,
            r"span 'a' does not align: it has positions \[1, 2\] of clean prompt 1 and \[1\] of",
        ),
        ({"a": (0, 5)}, TaskError, "prompt 1 has 4 tokens and no position 5"),
    ],
)
def test_spans_that_cannot_be(spans, error, message):
    model, graph, task = problem(features=False)
    with pytest.raises(error, match=message):
        sc.attribute_spans(model, graph, task, spans)


def test_methods_that_are_no_sums_over_positions():
    model, graph, task = problem(features=False)
    for method in ("exact", "random"):
        with pytest.raises(OptionError, match="scores edges only, no spans"):
            sc.attribute_spans(model, graph, task, method=method)
