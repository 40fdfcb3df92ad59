"""Two threads, each with a copy of a model, get what one after the other gets."""

from __future__ import annotations

import copy
import sys
import threading
import warnings

import pytest
import torch

import sae_circuits as sc
from sae_circuits.models.adapter import Adapter


@pytest.fixture
def _turns():
    """Let threads take turns very often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def at_once(*works):
    """What each gives, all run at the same time."""
    found, begin = [None] * len(works), threading.Barrier(len(works))

    def run(i, work):
        begin.wait()
        try:
            found[i] = work()
        except BaseException as error:
            found[i] = error

    threads = [threading.Thread(target=run, args=each) for each in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return found


def numbers(model, task, saes, method):
    """Scores of heads and of features, and a circuit's metric on each example."""
    options = {"method": method, "batch_size": 3}
    scores = sc.attribute(model, sc.TensorGraph.from_model(model), task, **options)
    features = sc.attribute(model, sc.TensorGraph.from_model(model, saes=saes), task, **options)
    report = sc.evaluate(model, sc.prune.top_n(scores, 47), task, n_bootstrap=10, batch_size=3)
    return [scores.values, features.values, *report.examples.values()]


def hooks_of(models):
    """How many hooks each module has."""
    return [len(module._forward_hooks) for model in models for module in model.modules()]


@pytest.mark.usefixtures("_turns")
@pytest.mark.parametrize("kind", ["hooked", "bridge"])
def test_two_models_in_two_threads_give_what_each_gives_alone(kind):
    model = sc.load_model("demo", kind=kind, device="cpu")
    models = model, copy.deepcopy(model)
    tasks = [sc.tasks.ioi(model, n=6, seed=seed) for seed in (0, 1)]
    saes = sc.load_saes("demo", ["mlp_out.0"])
    works = [
        lambda one=one, task=task, method=method: numbers(one, task, saes, method)
        for one, task, method in zip(models, tasks, ("eap-ig", "relp"), strict=True)
    ]
    alone = [work() for work in works]
    filters, hooks = list(warnings.filters), hooks_of(models)
    for got, want in zip(at_once(*works), alone, strict=True):
        for x, y in zip(got, want, strict=True):
            assert torch.equal(x.nan_to_num(), y.nan_to_num())
    assert warnings.filters == filters
    assert hooks_of(models) == hooks  # they are left as they were found
    assert all(p.requires_grad for one in models for p in Adapter.of(one).parameters())


@pytest.mark.usefixtures("_turns")
def test_models_loaded_in_two_threads_leave_the_process_as_it_was():
    before = sys.stdout, list(warnings.filters)
    load = lambda: Adapter.of(sc.load_model("demo", device="cpu")).fingerprint  # noqa: E731
    one, other = at_once(load, load)
    assert one == other
    assert (sys.stdout, list(warnings.filters)) == before
