"""What the graph needs to know of a model, read from its configuration alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from sae_circuits.errors import UnsupportedModel, in_words


@dataclass(frozen=True, slots=True)
class Architecture:
    """The sizes and the wiring of a decoder-only transformer.

    `parallel` blocks compute attention and MLP from the same stream, so that an MLP does not see
    the heads of its own layer. `n_kv_heads` is below `n_heads` where several query heads share a
    key and a value. `d_mlp` is how many hidden units an MLP has, 0 where that is not known.
    """

    model: str
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_model: int
    d_head: int
    d_vocab: int
    n_ctx: int
    parallel: bool = False
    has_mlps: bool = True
    d_mlp: int = 0

    @classmethod
    def of(cls, model: Any) -> Architecture:
        """Read the architecture of a TransformerLens model of either kind.

        Raises:
            UnsupportedModel: the object has no configuration, or its stream cannot be written as
                a sum of heads and MLPs that are read through a norm.
        """
        if isinstance(model, Architecture):
            return model
        cfg = getattr(model, "cfg", None)
        if cfg is None or not hasattr(cfg, "n_layers"):
            raise UnsupportedModel(_no_model(model))
        if reason := _why_not(model, cfg):
            name = getattr(cfg, "model_name", type(model).__name__)
            raise UnsupportedModel(f"the graph cannot describe {name!r}: {reason}")
        return cls(
            model=_name(cfg),
            n_layers=cfg.n_layers,
            n_heads=cfg.n_heads,
            n_kv_heads=getattr(cfg, "n_key_value_heads", None) or cfg.n_heads,
            d_model=cfg.d_model,
            d_head=cfg.d_head,
            d_vocab=cfg.d_vocab,
            n_ctx=cfg.n_ctx,
            parallel=bool(getattr(cfg, "parallel_attn_mlp", False)),
            has_mlps=not getattr(cfg, "attn_only", False),
            d_mlp=getattr(cfg, "d_mlp", None) or 0,
        )

    def same_shape(self, other: Architecture) -> bool:
        """Whether two models have the same nodes, whatever their names and weights."""
        return all(
            getattr(self, field) == getattr(other, field)
            for field in ("n_layers", "n_heads", "n_kv_heads", "parallel", "has_mlps")
        )


def _name(cfg: Any) -> str:
    """The model's name: the hub's, or the directory's without the path that led to it."""
    name = str(getattr(cfg, "model_name", None) or "custom")
    return PurePath(name).name if PurePath(name).is_absolute() else name


def _why_not(model: Any, cfg: Any) -> str | None:
    """The reason why a model's stream is not a bus of heads and MLPs, or None where it is."""
    if hasattr(model, "encoder") or getattr(cfg, "is_encoder_decoder", False):
        return "it is an encoder-decoder; only decoder-only models have one residual stream"
    if getattr(cfg, "attention_dir", "causal") != "causal":
        return "its attention is bidirectional; only causal models are supported"
    original = getattr(cfg, "original_architecture", None) or getattr(cfg, "architecture", None)
    if original in ("Olmo2ForCausalLM", "Olmo3ForCausalLM", "BertForMaskedLM"):
        return f"{original} normalises after each layer, so its readers see the stream unnormalised"
    if getattr(cfg, "positional_embedding_type", None) == "shortformer":
        return "shortformer positions are added to queries and keys only, outside the stream"
    blocks = getattr(model, "blocks", None)
    if blocks is not None:
        bare = [i for i, block in enumerate(blocks) if getattr(block, "attn", None) is None]
        if bare:
            return f"layer {bare[0]} has no attention"
    return None


def _no_model(model: object) -> str:
    if isinstance(model, str):
        return f"{model!r} is a name, no model: load it first, with load_model({model!r})"
    if type(model).__module__.startswith("sae_circuits.") or model is None:
        return f"model is {in_words(model)}: the model comes first, from load_model(...)"
    return (
        f"{type(model).__name__} has no TransformerLens configuration (`.cfg`): load it by "
        "load_model(name), or wrap it with TransformerBridge.boot_transformers(name, hf_model=...)"
    )
