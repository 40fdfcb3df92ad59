"""Cross-layer transcoders from safetensors in circuit-tracer's layout.

Layer i has a file `W_enc_i.safetensors` with `W_enc_i` [feature, d_model], `b_enc_i` [feature],
`b_dec_i` [d_model] and, for JumpReLU, `threshold_i` [feature]; and a file `W_dec_i.safetensors`
with `W_dec_i` [feature, n_layers - i, d_model]: what a feature writes to this MLP's output and to
each later one's. Where there is a `config.yaml`, its `feature_input_hook` and
`feature_output_hook` say where features read and write; else they read the stream between heads
and MLP.
(Layout: github.com/safety-research/circuit-tracer, cross_layer_transcoder.py.)
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from sae_circuits.errors import DictionaryError, FileFormatError
from sae_circuits.models.dictionaries import gates
from sae_circuits.models.dictionaries.dictionary import Dictionary
from sae_circuits.models.dictionaries.sites import Site, SiteKind

_CONFIG = "config.yaml"


def is_cross_layer(folder: Path) -> bool:
    """Whether a folder holds a cross-layer transcoder."""
    return (folder / "W_enc_0.safetensors").exists()


def read_cross_layer(
    folder: Path,
    *,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
) -> list[Dictionary]:
    """One dictionary for each layer of a cross-layer transcoder.

    Raises:
        FileFormatError: a file that is missing or damaged, or that lacks a tensor.
        DictionaryError: shapes that do not fit; NaN; a hook point where no transcoder can stand.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    reads = _site(folder, "feature_input_hook", "hook_resid_mid")
    if _site(folder, "feature_output_hook", "hook_mlp_out") != "mlp_out":
        raise DictionaryError(f"{folder / _CONFIG} says that features write to no MLP's output")
    n_layers = len(list(folder.glob("W_enc_*.safetensors")))
    found = []
    for i in range(n_layers):
        weights: dict[str, torch.Tensor] = {}
        for kind in ("W_enc", "W_dec"):
            path = folder / f"{kind}_{i}.safetensors"
            try:
                weights |= load_file(path, device=device)
            except (OSError, SafetensorError) as error:
                raise FileFormatError(f"cannot read {path}: {error}") from error
        try:
            W_enc, b_enc, b_dec, W_dec = (
                weights[f"{name}_{i}"].to(dtype) for name in ("W_enc", "b_enc", "b_dec", "W_dec")
            )
        except KeyError as error:
            raise FileFormatError(f"layer {i} in {folder} lacks the tensor {error}") from error
        if W_dec.ndim != 3 or W_dec.shape[1] != n_layers - i:
            raise DictionaryError(
                f"W_dec_{i} in {folder} is {list(W_dec.shape)}: [feature, {n_layers - i}, d_model] "
                f"fits {n_layers} layers"
            )
        threshold = weights.get(f"threshold_{i}")
        found.append(
            Dictionary(
                name=f"{folder.name}/{i}",
                reads=Site(reads, i),
                writes=tuple(Site("mlp_out", to) for to in range(i, n_layers)),
                W_enc=W_enc.T,
                b_enc=b_enc,
                decoders=W_dec.unbind(1),
                b_dec=b_dec,
                gate=gates.relu
                if threshold is None
                else gates.Threshold(threshold.flatten().to(dtype)),
            )
        )
    return found


def _site(folder: Path, key: str, default: str) -> SiteKind:
    """Where features read or write, of a flat list of names and values."""
    path = folder / _CONFIG
    try:
        said = path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(f"cannot read {path}: {error}") from error
    found = re.search(rf"^{key}:\s*[\"']?(?:blocks\.\{{layer\}}\.)?([\w.]+)", said, re.MULTILINE)
    return Site.parse(f"blocks.0.{found[1] if found else default}").kind
