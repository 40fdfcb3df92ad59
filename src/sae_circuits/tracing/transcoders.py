"""Which transcoder reads and which ones write at each MLP."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sae_circuits.errors import DictionaryError
from sae_circuits.graph import Architecture
from sae_circuits.models.dictionaries import Dictionary


def by_layer(
    transcoders: Sequence[Dictionary], arch: Architecture, device: torch.device
) -> dict[int, Dictionary]:
    """The transcoder of each layer that has one, by the layer where it reads.

    Raises:
        DictionaryError: no transcoder of MLPs; one of another model; two of one layer.
    """
    found: dict[int, Dictionary] = {}
    for d in transcoders:
        if not isinstance(d, Dictionary):
            raise DictionaryError(
                f"{type(d).__name__} is no Dictionary: give load_saes(..., kind='transcoder')"
            )
        _require_transcoder(d)
        d.require_fits(arch)
        layer = d.reads.layer
        if layer in found:
            raise DictionaryError(
                f"{found[layer]!r} and {d!r} both read layer {layer}: give one for each layer"
            )
        found[layer] = d if d.W_enc.device == device else d.to(device)
    return dict(sorted(found.items()))


def _require_transcoder(d: Dictionary) -> None:
    layer = d.reads.layer
    reads = d.reads.kind in ("mlp_normalized", "mlp_in", "resid_mid")
    writes = all(site.kind == "mlp_out" and site.layer >= layer for site in d.writes)
    if not reads or not writes:
        raise DictionaryError(
            f"{d!r} is no transcoder: it has to read what an MLP reads (mlp_normalized, mlp_in or "
            "resid_mid) and to write what this or later MLPs write (mlp_out); an SAE explains what "
            "a layer writes, not what the layer does"
        )
    if d.W_skip is not None and d.writes[0].layer != layer:
        raise DictionaryError(
            f"{d!r} has a skip term into another layer than its own, which is not supported"
        )
