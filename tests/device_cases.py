"""What the library computes, case by case, as numbers that devices and dtypes are compared by.

A case takes a `Setting` and gives tensors by name, all on the CPU in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

import sae_circuits as sc
from shapes import random_task
from small_dictionaries import dictionary
from small_stores import CONTENTS, corpus

Numbers = dict[str, Tensor]
TARGET, SOURCE = "post1.f1", "m0.f2"  # active on the prompts


@dataclass(frozen=True)
class Setting:
    """A model, dictionaries of it on its device and in its dtype, and a task."""

    model: Any
    saes: list[sc.Dictionary]
    transcoders: list[sc.Dictionary]
    task: sc.Task

    @classmethod
    def of(cls, model: Any, n: int = 4) -> Setting:
        """Two SAEs and a transcoder a layer, all of them random, and prompts of several lengths."""
        saes = [dictionary(model, "mlp_out", 0), dictionary(model, "resid_post", 1, seed=5)]
        layers = range(model.cfg.n_layers)
        transcoders = [dictionary(model, "mlp_in", i, writes="mlp_out", seed=9) for i in layers]
        return cls(model, saes, transcoders, random_task(model, n, 6, lengths=(6, 5, 5, 6)[:n]))

    def moved(self, model: Any, device: Any, task: Any = None) -> Setting:
        """The same with another copy of the model, and dictionaries on another device."""
        saes, transcoders = (
            [d.to(device, self.dtype_of(model)) for d in each]
            for each in (self.saes, self.transcoders)
        )
        return Setting(model, saes, transcoders, self.task if task is None else self.task.to(task))

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
    """A tensor on the CPU, in float64."""
    return torch.as_tensor(x).detach().cpu().double()


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
    order = found.ids.argsort()
    return {"scores": plain(found.values[order])}


def kept(of: Setting) -> Numbers:
    found = sc.attribute(of.model, of.graph, of.task, method="eap", keep="example")
    return {"each": plain(found.each), "errors": plain(found.standard_error)}


def evaluated(of: Setting, graph: str = "graph", **options: Any) -> Numbers:
    own = getattr(of, graph)
    circuit = sc.Circuit(own, torch.arange(own.n_edges) % 3 == 0)
    found = sc.evaluate(of.model, circuit, of.task, n_bootstrap=10, batch_size=3, **options)
    return {n: plain(getattr(found, n)) for n in ("clean", "corrupt", "circuit", "faithfulness")}


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
    changes = {SOURCE: ("add", 1.0), "a0.h1": ("scale", 0.0)}
    done = sc.intervene(of.model, of.features, of.task, changes, watch=[TARGET])
    return {
        "logits": plain(done.logits),
        "watched": torch.cat([plain(x).flatten() for x in done.activations.values()]),
    }


def connected(of: Setting, **options: Any) -> Numbers:
    found = sc.connections(of.model, TARGET, of.saes, of.task, **options)
    return {"values": plain(torch.cat([plain(x) for x in found.values.values()]))}


def pair_connected(of: Setting, **options: Any) -> Numbers:
    found = sc.pair_connections(of.model, "post1", of.saes, of.task, **options).scores("m0")
    return {"values": plain(found.values[found.ids.argsort()])}


def by_head(of: Setting) -> Numbers:
    one = of.task[:1]
    values = sc.head_connections(of.model, SOURCE, TARGET, of.saes, one, through="a1")
    return {"values": plain(values)}


def weights(of: Setting) -> Numbers:
    found = sc.virtual_weights(of.model, *of.saes, k=3)
    heads = sc.virtual_weights(of.model, *of.saes, k=3, heads=[(1, 1)])
    return {"all": plain(found.pairs()[2]), "head": plain(heads[1, 1].pairs()[2])}


def steered(of: Setting) -> Numbers:
    sae = of.saes[0]
    with sc.steering(of.model, sae, {2: ("add", 1.0)}):
        logits = of.model(of.task.clean.to(next(of.model.parameters()).device))
    return {"logits": plain(logits)}


def store(of: Setting) -> Numbers:
    found = sc.FeatureDictionary.build(
        of.model, of.saes[1], corpus((6, 1, 9, 4)), contents=CONTENTS
    )
    rows = found.database.rows("SELECT * FROM features ORDER BY 1")
    columns = zip(*rows, strict=True)
    return {
        str(i): torch.tensor([float("nan") if x is None else float(x) for x in column])
        for i, column in enumerate(columns)
        if all(x is None or isinstance(x, int | float) for x in column)
    }


def traced(of: Setting) -> Numbers:
    graph = sc.trace(
        of.model, of.task.clean[0], transcoders=of.transcoders, node_share=1, edge_share=1
    )
    order = [f"{node.name}" for node in graph.nodes]
    W = torch.zeros(len(order), len(order), dtype=torch.float64)
    W[graph.dest, graph.src] = graph.weight.double()
    where = sorted(range(len(order)), key=order.__getitem__)
    return {"weights": W[where][:, where]}


RULES = {
    "eap": {},
    "eap-ig": {"steps": 3},
    "eap-ig-activations": {"steps": 2},
    "clean-corrupted": {},
    "relp": {},
    "gim": {},
}
OTHERS: dict[str, dict[str, Any]] = {
    "atp-star": {},
    "mask-ig": {"steps": 2},
    "information-flow": {},
    "exact": {},
    "random": {},
    "acdc": {},
    "edge-pruning": {"steps": 2},
    "ugs": {"steps": 2},
}
CASES: Mapping[str, Callable[[Setting], Numbers]] = MappingProxyType({
    **{name: partial(scores, method=name, **o) for name, o in {**RULES, **OTHERS}.items()},
    **{
        f"{name} of features": partial(scores, graph="features", method=name, **o)
        for name, o in RULES.items()
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
