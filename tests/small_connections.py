"""Small models with a dictionary at each end, and the connections of a feature that is active."""

from __future__ import annotations

from dataclasses import replace

import torch

import sae_circuits as sc
from sae_circuits.errors import DictionaryError
from sae_circuits.graph import TensorGraph
from shapes import HOOKED, linear, random_task
from small_dictionaries import N_FEATURES, dictionary

EVERY = range(N_FEATURES)
SOURCES = {
    "z": ("a0", "z", {}),
    "attn_out": ("a0", "attn_out", {"gate": "threshold"}),
    "mlp_out": ("m0", "mlp_out", {"scaled": True}),
    "resid_pre": ("pre0", "resid_pre", {"gate": "gated"}),
    "resid_mid": ("mid0", "resid_mid", {}),
    "resid_post": ("post0", "resid_post", {"gate": "topk"}),
    "transcoder": ("m0", "mlp_in", {"writes": "mlp_out", "skip": True}),
}
TARGETS = {
    "z": ("a1", "z", {}),
    "attn_out": ("a1", "attn_out", {}),
    "mlp_out": ("m1", "mlp_out", {}),
    "resid_pre": ("pre1", "resid_pre", {"gate": "threshold"}),
    "resid_mid": ("mid1", "resid_mid", {}),
    "resid_post": ("post1", "resid_post", {"gate": "topk"}),
    "transcoder": ("m1", "mlp_in", {"writes": "mlp_out"}),
}
CASES = [
    *(("gpt2", source, "resid_post") for source in SOURCES),
    *(("llama", "mlp_out", target) for target in TARGETS),
    *((shape, "resid_pre", "resid_post") for shape in HOOKED if shape not in ("gpt2", "llama")),
    ("gemma2", "z", "attn_out"), ("pythia", "mlp_out", "transcoder"), ("pythia", "attn_out", "z"),
]  # fmt: skip


def problem(shape, source="mlp_out", target="resid_post", lengths=(6, 4, 5)):
    model = HOOKED[shape]()
    place, reads, options = SOURCES[source]
    end, read_by, more = TARGETS[target]
    saes = [dictionary(model, reads, 0, **options), dictionary(model, read_by, 1, seed=5, **more)]
    return model, saes, place, end, random_task(model, 3, 6, lengths=lengths)


def found(model, saes, end, task, **options):
    """The connections of the first feature that is active."""
    for feature in EVERY:
        try:
            return sc.connections(model, f"{end}.f{feature}", saes, task, **options)
        except DictionaryError:
            continue
    raise AssertionError("none is active")


def edited(model, saes, task, change, target):
    """The target's summed activation when a feature is changed, by another part of the library."""
    total = 0.0
    graph = TensorGraph.from_model(model, saes=saes)
    done = sc.intervene(model, graph, task, change, watch=[target])
    total = done.activations[target].double().sum() - done.clean_activations[target].double().sum()
    return float(total) / len(task)


def without_gates(sae):
    """The dictionary with all features active, as linear ones are."""
    return replace(sae, gate=torch.ones_like)


def straight():
    """A linear model with features at both ends, all of them active."""
    model = linear()
    saes = [dictionary(model, "resid_pre", 0), dictionary(model, "resid_post", 1, seed=5)]
    return model, [without_gates(sae) for sae in saes], random_task(model, 3, 6)
