"""Dictionaries from the classes of sae-lens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sae_circuits.errors import DictionaryError, in_words
from sae_circuits.models.dictionaries import gates
from sae_circuits.models.dictionaries.dictionary import Dictionary
from sae_circuits.models.dictionaries.scalings import SCALINGS
from sae_circuits.models.dictionaries.sites import Site

_WITHOUT_GATE = {
    "matching_pursuit": "it chooses features one after the other, each from what is left",
    "temporal": "part of its code is predicted from other tokens by attention",
}
_TRAINED_AS = {  # classes that exist for training only, and what they become when saved
    "batchtopk": "jumprelu",
    "matryoshka_batchtopk": "jumprelu",
}


def from_sae_lens(sae: Any, name: str | None = None) -> Dictionary:
    """View an SAE or a transcoder of sae-lens; its weights are shared, not copied.

    Decoder norms by which a top-k SAE rescales, and the gain of a gated SAE's magnitudes, are
    folded into copies of the weights.

    Args:
        sae: an instance of any class of sae-lens but those without a closed form: matching
            pursuit, and temporal with attention.
        name: for messages and pictures; by default its hook point.

    Raises:
        DictionaryError: a class without a closed form, with the reason; a class for training
            only; a hook point where the graph takes no dictionary.
    """
    if not callable(getattr(getattr(sae, "cfg", None), "architecture", None)):
        raise DictionaryError(
            f"{in_words(sae)} is no SAE of sae-lens: give one, or load_saes a name or a folder"
        )
    cfg = sae.cfg
    kind, metadata = cfg.architecture(), cfg.metadata
    if kind in _WITHOUT_GATE and not _predicts_nothing(sae, kind):
        raise DictionaryError(
            f"a {kind!r} SAE has no closed form: {_WITHOUT_GATE[kind]}, so its features are not "
            "encoder rows with a gate"
        )
    if kind in _TRAINED_AS:
        raise DictionaryError(
            f"a {kind!r} SAE depends on the batch while it is trained; save it with "
            f"save_inference_model and load it as a {_TRAINED_AS[kind]!r} one"
        )
    if not metadata.hook_name:
        raise DictionaryError(
            "this SAE does not say where it belongs: set sae.cfg.metadata.hook_name, such as "
            "'blocks.3.hook_mlp_out'"
        )
    W_enc, W_dec, b_dec = _affine(sae, kind)
    is_transcoder = "transcoder" in kind
    reads = Site.parse(metadata.hook_name)
    writes = Site.parse(metadata.hook_name_out) if is_transcoder else reads
    if kind == "gated":
        b_enc, W_enc = sae.b_mag.detach(), W_enc * sae.r_mag.detach().exp()
    else:
        b_enc = W_enc.new_zeros(cfg.d_sae) if kind == "temporal" else sae.b_enc.detach()
    if getattr(cfg, "rescale_acts_by_decoder_norm", False):
        norm = W_dec.norm(dim=-1)
        W_enc, b_enc, W_dec = W_enc * norm, b_enc * norm, W_dec / norm[:, None]
    W_skip = getattr(sae, "W_skip", None)
    return Dictionary(
        name=name or metadata.hook_name,
        reads=reads,
        writes=(writes,),
        W_enc=W_enc,
        b_enc=b_enc,
        decoders=(W_dec,),
        b_dec=b_dec,
        gate=_gate(sae, kind),
        b_in=b_dec if cfg.apply_b_dec_to_input and not is_transcoder else None,
        scaling=SCALINGS.get(cfg.normalize_activations),
        W_skip=None if W_skip is None else W_skip.detach().T,
        model=metadata.model_name,
        neuronpedia=hosted if isinstance(hosted := metadata.neuronpedia_id, str) else None,
    )


def read_folder(folder: Any, device: str, dtype: torch.dtype | None) -> Dictionary:
    """A dictionary from a folder that sae-lens wrote (configuration and safetensors).

    Raises:
        DictionaryError: a file that is missing or damaged, or that does not fit the other.
    """
    from sae_lens import SAE

    name = None if dtype is None else str(dtype).removeprefix("torch.")
    try:
        sae = SAE.load_from_disk(folder, device=device, dtype=name)
    except Exception as error:  # whatever sae-lens and safetensors raise
        raise DictionaryError(f"cannot read the dictionary in {folder}: {_said(error)}") from error
    return from_sae_lens(sae)


def fetch(release: str, sae_id: str, device: str, dtype: torch.dtype | None) -> Dictionary:
    """A dictionary from the releases that sae-lens knows; reaches for the network.

    Raises:
        DictionaryError: a release or an id that it does not know, or cannot fetch.
    """
    from sae_lens import SAE

    name = "float32" if dtype is None else str(dtype).removeprefix("torch.")
    try:
        sae = SAE.from_pretrained(release, sae_id, device=device, dtype=name)
    except Exception as error:  # whatever sae-lens and the hub raise
        raise DictionaryError(
            f"{sae_id!r} of the release {release!r} could not be loaded: {_said(error)}; check "
            "both names and the network, or pass a folder that holds it"
        ) from error
    return from_sae_lens(sae, f"{release}/{sae_id}")


def _said(error: Exception) -> str:
    """The first line of an error of another library, with its kind."""
    said = (str(error).strip() or "no reason given").partition("\n")[0].rstrip(".;:")
    return f"{said} ({type(error).__name__})"


def _predicts_nothing(sae: Any, kind: str) -> bool:
    """Whether it is a temporal SAE without attention, whose code hangs on no other token."""
    return kind == "temporal" and not len(sae.attn_layers)


def _affine(sae: Any, kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """Encoder, decoder and the bias of what is decoded.

    A temporal SAE scales its input by a constant, and may tie the encoder to the decoder.
    """
    W_dec, b_dec = sae.W_dec.detach(), sae.b_dec.detach()
    if kind != "temporal":
        return sae.W_enc.detach(), W_dec, b_dec
    cfg, scale = sae.cfg, 1.0
    if cfg.normalize_activations == "constant_scalar_rescale":
        scale = cfg.activation_normalization_factor
    W_enc = W_dec.T if cfg.tied_weights else sae.W_enc.detach()
    if cfg.tied_weights and not cfg.apply_b_dec_to_input:
        b_dec = torch.zeros_like(b_dec)
    return sae.lam * scale * W_enc, W_dec / scale, b_dec / scale


def _gate(sae: Any, kind: str) -> gates.Gate:
    threshold: Tensor | None = getattr(sae, "threshold", None)
    if kind == "gated":
        return gates.Gated(*(getattr(sae, n).detach() for n in ("b_mag", "r_mag", "b_gate")))
    if kind == "topk":
        return gates.TopK(sae.cfg.k)
    if kind == "temporal" and sae.cfg.sae_diff_type == "topk" and sae.cfg.kval_topk is not None:
        return gates.TopK(sae.cfg.kval_topk)
    if kind == "abstopk":
        return gates.AbsoluteTopK(sae.cfg.k)
    if threshold is not None:
        return gates.Threshold(threshold.detach())
    return gates.relu
