"""What the library computes, case by case, as numbers that devices and dtypes are compared by.

A case takes a `Setting` and gives tensors by name, all on the CPU in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import pytest
import torch
from torch import Tensor

import sae_circuits as sc
from shapes import random_task
from small_dictionaries import dictionary
from small_stores import CONTENTS, corpus

Numbers = dict[str, Tensor]


@dataclass(frozen=True)
class Setting:
    """A model, dictionaries of it on its device and in its dtype, and a task.

    Args:
        target, source: features of the second and the first SAE that are active on the prompts.
    """

    model: Any
    saes: list[sc.Dictionary]
    transcoders: list[sc.Dictionary]
    task: sc.Task
    target: str = "post1.f1"
    source: str = "m0.f2"

    @classmethod
    def of(cls, model: Any, n: int = 4) -> Setting:
        """Two SAEs and a transcoder a layer, all of them random, and prompts of several lengths."""
        saes = [dictionary(model, "mlp_out", 0), dictionary(model, "resid_post", 1, seed=5)]
        layers = range(model.cfg.n_layers)
        transcoders = [dictionary(model, "mlp_in", i, writes="mlp_out", seed=9) for i in layers]
        return cls(model, saes, transcoders, random_task(model, n, 6, lengths=(6, 5, 5, 6)[:n]))

    @classmethod
    def demo(cls, dtype: torch.dtype = torch.float32) -> Setting:
        """The bundled model, its dictionaries and a task that it was trained on."""
        model = sc.load_model("demo", kind="hooked", device="cpu", dtype=dtype)
        saes = sc.load_saes("demo", ["mlp_out.0", "resid_post.1"], dtype=dtype)
        transcoders = sc.load_saes("demo", kind="transcoder", dtype=dtype)
        task = sc.tasks.ioi(model, n=24, seed=0)
        common = torch.bincount(task.lengths).topk(2).indices  # so that one can stand for another
        task = task[torch.isin(task.lengths, common).nonzero()[:8, 0]]
        return cls(model, saes, transcoders, task, "post1.f131", "m0.f3")

    def moved(self, model: Any, device: Any, task: Any = None) -> Setting:
        """The same with another copy of the model, and dictionaries on another device."""
        saes, transcoders = (
            [d.to(device, self.dtype_of(model)) for d in each]
            for each in (self.saes, self.transcoders)
        )
        task = self.task if task is None else self.task.to(task)
        return replace(self, model=model, saes=saes, transcoders=transcoders, task=task)

    @staticmethod
    def dtype_of(model: Any) -> torch.dtype:
        return next(model.parameters()).dtype

    @property
    def graph(self) -> sc.TensorGraph:
        """Heads, MLPs and their edges."""
        return sc.TensorGraph.from_model(self.model)

    @property
    def features(self) -> sc.TensorGraph:
        """With the SAEs."""
        return sc.TensorGraph.from_model(self.model, saes=self.saes)

    @property
    def circuit(self) -> sc.Circuit:
        """Every third edge."""
        graph = self.graph
        return sc.Circuit(graph, torch.arange(graph.n_edges) % 3 == 0)


def plain(x: Any) -> Tensor:
    """A result in float64, which has to be on the CPU and in float32 or wider."""
    x = torch.as_tensor(x)
    assert x.device.type == "cpu"
    assert not x.is_floating_point() or x.dtype in (torch.float32, torch.float64)
    return x.detach().double()


def by_pair(u: Tensor, v: Tensor, values: Tensor) -> Numbers:
    """Values by their ends, since what is near zero may be left out."""
    ends = zip(u.tolist(), v.tolist(), strict=True)
    return {f"{i}->{j}": x for (i, j), x in zip(ends, plain(values), strict=True)}


def scores(of: Setting, graph: str = "graph", verb: Any = sc.attribute, **options: Any) -> Numbers:
    found = verb(of.model, getattr(of, graph), of.task, batch_size=3, **options)
    return {"scores": plain(found.values)}


def neurons(of: Setting) -> Numbers:
    graph = sc.TensorGraph.from_model(of.model, neurons=["m0", "a1"])
    return {"scores": plain(sc.attribute(of.model, graph, of.task, method="eap").values)}


def spans(of: Setting, *, across: bool = False) -> Numbers:
    where = {"start": 0, "end": -1}
    found = sc.attribute_spans(of.model, of.graph, of.task, where, across=across, method="eap")
    return {"scores": plain(found.stacked if not across else found.values)}


def pairs(of: Setting) -> Numbers:
    found = sc.attribute_pairs(of.model, of.features, of.task)
    return by_pair(*found.graph.ends(found.ids), found.values)


def kept(of: Setting) -> Numbers:
    found = sc.attribute(of.model, of.graph, of.task, method="eap", keep="example")
    return {"each": plain(found.each), "errors": plain(found.standard_error)}


def evaluated(of: Setting, graph: str = "graph", **options: Any) -> Numbers:
    own = getattr(of, graph)
    circuit = sc.Circuit(own, torch.arange(own.n_edges) % 3 == 0)
    found = sc.evaluate(of.model, circuit, of.task, n_bootstrap=10, batch_size=3, **options)
    examples = ("clean", "corrupt", "circuit", "complement")
    return {name: plain(found.examples[name]) for name in examples}


def curved(of: Setting) -> Numbers:
    made = sc.attribute(of.model, of.graph, of.task, method="eap")
    order = torch.linspace(-1, 1, len(made.values), dtype=made.values.dtype)  # the same for all
    found = sc.curve(of.model, replace(made, values=order), of.task, fractions=(0.1, 0.5, 1))
    return {"faithfulness": plain(found.faithfulness), "cpr": plain(found.cpr)}


def minimal(of: Setting) -> Numbers:
    found = sc.minimality(of.model, of.circuit, of.task, n_bootstrap=10)
    return {"lost": plain(found.lost)}


def constants(of: Setting) -> Numbers:
    values = sc.learn_constants(of.model, of.circuit, of.task, steps=2)
    logits = sc.ablate(of.model, of.circuit, of.task, intervention=values)
    return {"values": plain(values.vector), "logits": plain(logits)}


def intervened(of: Setting) -> Numbers:
    changes = {of.source: ("add", 1.0), "a0.h1": ("scale", 0.0)}
    done = sc.intervene(of.model, of.features, of.task, changes, watch=[of.target])
    return {
        "logits": plain(done.logits),
        "watched": torch.cat([plain(x).flatten() for x in done.activations.values()]),
    }


def connected(of: Setting, **options: Any) -> Numbers:
    found = sc.connections(of.model, of.target, of.saes, of.task, **options)
    return {"values": plain(torch.cat([plain(x) for x in found.values.values()]))}


def pair_connected(of: Setting, **options: Any) -> Numbers:
    found = sc.pair_connections(of.model, "post1", of.saes, of.task, **options).scores("m0")
    return by_pair(*found.graph.ends(found.ids), found.values)


def by_head(of: Setting) -> Numbers:
    one = of.task[:1]
    values = sc.head_connections(of.model, of.source, of.target, of.saes, one, through="a1")
    return {"values": plain(values)}


def weights(of: Setting) -> Numbers:
    found = sc.virtual_weights(of.model, *of.saes, k=5)
    by_head = sc.virtual_weights(of.model, *of.saes, k=5, heads=[(1, 1)])
    return {**by_pair(*found.pairs()), "head": plain(by_head[1, 1].into_values)}


def steered(of: Setting) -> Numbers:
    with sc.steering(of.model, of.saes[0], {2: ("add", 1.0)}):
        logits = of.model(of.task.clean.to(next(of.model.parameters()).device))
    return {"logits": plain(logits.float().cpu())}


def store(of: Setting) -> Numbers:
    prompts = corpus((6, 1, 9, 4))
    made = sc.FeatureDictionary.build(of.model, of.saes[1], prompts, contents=CONTENTS)
    rows = made.database.rows("SELECT * FROM features ORDER BY feature")
    return {
        name: torch.tensor([x if isinstance(x := row[name], float) else torch.nan for row in rows])
        for name in ("density", "mean", "std", "max", "importance", "logit_std")
    }


def traced(of: Setting) -> Numbers:
    prompt = of.task.clean[0, :6]
    graph = sc.trace(of.model, prompt, transcoders=of.transcoders, node_share=1, edge_share=1)
    names = [node.name for node in graph.nodes]
    ends = zip(graph.src.tolist(), graph.dest.tolist(), strict=True)
    each = zip(ends, plain(graph.weight), strict=True)
    return {f"{names[u]}->{names[v]}": weight for (u, v), weight in each}


def marked(names: Sequence[str] = ()) -> list[Any]:
    """Cases, or all of them, as parameters of a test; those that take long are marked so."""
    slow = {name: [pytest.mark.slow] for name in ("acdc", "minimality", "exact")}
    return [pytest.param(name, marks=slow.get(name, [])) for name in names or CASES]


def difference(got: Numbers, want: Numbers) -> float:
    """The norm of the difference of what both have, over the norm of what is wanted."""
    both = [name for name in want if name in got]
    assert len(both) > 0.9 * len(want)
    a, b = (torch.cat([of[name].flatten() for name in both]).nan_to_num() for of in (got, want))
    return float((a - b).norm() / b.norm())


RULES: dict[str, dict[str, Any]] = {
    "eap": {},
    "eap-ig": {"steps": 3},
    "eap-ig-activations": {"steps": 1},
    "clean-corrupted": {},
    "relp": {},
    "gim": {},
    "atp-star": {},
    "mask-ig": {"steps": 2},
    "information-flow": {},
}
SEARCHES: dict[str, dict[str, Any]] = {
    "acdc": {},
    "edge-pruning": {"steps": 2},
    "ugs": {"steps": 2},
}
OF_FEATURES = ("eap", "eap-ig", "eap-ig-activations", "clean-corrupted", "relp", "gim")
CASES: Mapping[str, Callable[[Setting], Numbers]] = MappingProxyType({
    **{name: partial(scores, method=name, **o) for name, o in {**RULES, **SEARCHES}.items()},
    "exact": partial(scores, method="exact"),
    "random": partial(scores, method="random"),
    **{
        f"{name} of features": partial(scores, graph="features", method=name, **RULES[name])
        for name in OF_FEATURES
    },
    "nodes": partial(scores, graph="features", verb=sc.attribute_nodes, method="eap"),
    "neurons": neurons,
    "spans": spans,
    "spans across": partial(spans, across=True),
    "pairs": pairs,
    "scores of examples": kept,
    **{
        f"evaluate, {name}": partial(evaluated, intervention=name)
        for name in ("corrupt", "zero", "mean", "mean-positional", "resample")
    },
    "evaluate, denoising": partial(evaluated, direction="denoising"),
    "evaluate, features": partial(evaluated, graph="features"),
    "curve": curved,
    "minimality": minimal,
    "constants": constants,
    "intervene": intervened,
    **{
        f"connections, {name}": partial(connected, method=name)
        for name in ("total", "direct", "patching")
    },
    "connections of components": partial(connected, method="direct", components=["a0.h1", "m0"]),
    "pair connections": pair_connected,
    "pair connections, total": partial(pair_connected, method="total"),
    "connections by head": by_head,
    "virtual weights": weights,
    "steering": steered,
    "store": store,
    "trace": traced,
})  # fmt: skip
