"""Results of models in float32, float16 and bfloat16 against float64, within the bounds of
docs/scaling.md; and sums in float32 whatever the model's dtype."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache

import pytest
import torch
from scipy.stats import spearmanr

import sae_circuits as sc
from device_cases import CASES, RULES, SEARCHES, Setting, difference, marked
from sae_circuits.ablation.interventions import Intervention
from sae_circuits.attribution.gradients import Gradients
from sae_circuits.attribution.kernel import score_edges
from sae_circuits.attribution.problem import Problem
from sae_circuits.metrics import logit_diff
from sae_circuits.models.adapter import Adapter
from sae_circuits.precision import wide, wide_dtype

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
HEADS = {"float32": 1e-5, "float16": 0.003, "bfloat16": 0.03}
FEATURES = {"float32": 1e-5, "float16": 0.05, "bfloat16": 0.15}
RUNS = {"float32": 1e-5, "float16": 0.02, "bfloat16": 0.15}
WITH_FEATURES = (
    "nodes", "pairs", "evaluate, features", "connections, total", "connections, direct",
    "connections, patching", "connections of components", "pair connections",
    "pair connections, total", "virtual weights", "store", "trace",
)  # fmt: skip
# What is chosen or learned step by step may take another way; patching edges of a circuit one by
# one moves a metric by less than its rounding; and the demo's two features share no head.
NOT_HERE = (*SEARCHES, "minimality", "constants", "random", "connections by head")
HERE = [name for name in CASES if name not in NOT_HERE]


@cache
def setting(dtype: str) -> Setting:
    return Setting.demo(getattr(torch, dtype))


@cache
def exact(case: str):
    return CASES[case](setting("float64"))


def bound(case: str, dtype: str) -> float:
    if case == "exact":
        return RUNS[dtype]
    return (FEATURES if case in WITH_FEATURES or "features" in case else HEADS)[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", marked(HERE))
def test_results_agree_with_float64_within_the_stated_bounds(case, dtype):
    assert difference(CASES[case](setting(dtype)), exact(case)) < bound(case, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", RULES)
def test_the_strongest_edges_are_the_same_within_the_stated_bounds(method, dtype):
    got, want = (x["scores"].abs() for x in (CASES[method](setting(dtype)), exact(method)))
    assert spearmanr(got, want).statistic > 0.96
    n = len(want) // 10
    both = set(got.topk(n).indices.tolist()) & set(want.topk(n).indices.tolist())
    assert len(both) >= 0.9 * n


def test_wide_is_float32_at_least():
    assert wide_dtype(torch.bfloat16, torch.float16) == torch.float32
    assert wide_dtype(torch.bfloat16, torch.float64) == torch.float64
    x = torch.randn(3, dtype=torch.float64)
    assert wide(x) is x


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_what_a_narrow_model_gives_is_multiplied_and_summed_in_float32(dtype):
    """The scores are those that float64 makes of the very same activations and gradients."""
    of = setting(dtype)
    adapter, graph = Adapter.of(of.model), of.graph
    prepared = Intervention.prepare(adapter, of.task, "corrupt", batch_size=8, seed=0, saes=())
    problem = Problem(adapter, graph, of.task, logit_diff, prepared)
    run = problem.clean
    slopes = problem.slopes(run, problem.leaves(run, graph)[0], again=True)
    got = problem.score(Gradients.of(adapter, slopes, run))

    def double(x):
        return x.detach().double()

    reads = run.reads
    streams = {
        name: tuple(map(double, getattr(reads, name)))
        for name in ("attn_stream", "mlp_stream", "q", "k", "v", "z", "mlp")
    }
    exact_run = replace(run, seen=replace(reads, final=double(reads.final), **streams))
    wider = Adapter.of(torch.nn.Module.to(copy.deepcopy(of.model), torch.float64))
    gradients = Gradients.of(wider, {p: double(g) for p, g in slopes.items()}, exact_run)
    change = problem.change.map(by=double)
    (tokens,) = problem.tokens()
    want = score_edges(wider, graph, (), change, gradients, tokens)
    assert got.dtype == torch.float64
    assert float((got - want).norm() / want.norm()) < 1e-5


def test_projections_of_a_narrow_dictionary_are_summed_in_float32():
    of = setting("bfloat16")
    report = sc.evaluate(of.model, sc.Circuit.full(of.features), of.task, n_bootstrap=10)
    assert report.examples["circuit"].dtype == torch.float64
    assert abs(report.faithfulness - 1) < FEATURES["bfloat16"]
