"""Small random models of every shape, of both kinds, with every parameter far from zero.

`HOOKED`, `BRIDGED` map a shape's name to a function that makes a model in eval mode; `TWINS` to one
that makes a `HookedTransformer` and a `TransformerBridge` of the same weights. `REFUSED` holds
models that the graph cannot describe. Sizes are odd on purpose: no two axes have the same length
where the architecture leaves the choice.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

N_LAYERS, N_HEADS, N_KV, D_HEAD, D_MODEL = 2, 4, 2, 6, 20
D_MLP, D_VOCAB, N_CTX = 28, 40, 16

_BASE = {
    "n_layers": N_LAYERS,
    "n_heads": N_HEADS,
    "d_head": D_HEAD,
    "d_model": D_MODEL,
    "d_mlp": D_MLP,
    "d_vocab": D_VOCAB,
    "n_ctx": N_CTX,
    "act_fn": "gelu_new",
    "normalization_type": "LN",
}
_ROTARY = {"positional_embedding_type": "rotary", "rotary_dim": D_HEAD}
_GATED_GQA = dict(
    _ROTARY, normalization_type="RMS", gated_mlp=True, act_fn="silu", n_key_value_heads=N_KV
)
_GEMMA2 = dict(
    _GATED_GQA,
    act_fn="gelu_pytorch_tanh",
    use_normalization_before_and_after=True,
    attn_scores_soft_cap=3.0,
    output_logits_soft_cap=6.0,
    use_local_attn=True,
    attn_types=["global", "local"] * N_LAYERS,
    window_size=4,
)

HOOKED_CONFIGS: MappingProxyType[str, dict[str, Any]] = MappingProxyType(
    {
        "gpt2": {},
        "gpt2-folded": {"normalization_type": "LNPre"},
        "no-norm": {"normalization_type": None, "act_fn": "relu"},
        "pythia": {
            "act_fn": "gelu",
            "parallel_attn_mlp": True,
            "positional_embedding_type": "rotary",
            "rotary_dim": 2,
        },
        "llama": _GATED_GQA,
        "llama-folded": dict(_GATED_GQA, normalization_type="RMSPre"),
        "gemma2": _GEMMA2,
        "qwen3": dict(_GATED_GQA, use_qk_norm=True),
        "attention-only": {"attn_only": True, "d_mlp": None},
    }
)
"""For each shape, what its `HookedTransformerConfig` has beyond the common sizes."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what the libraries print, log and warn while they make a model."""
    silenced = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(silenced)


@torch.no_grad()
def randomise(
    model: nn.Module, seed: int, *, gain: float = 1.0, zero_centred_norms: bool = False
) -> None:
    """Fill every parameter: norm weights about 1, biases of size 0.3, matrices by fan-in.

    Queries and keys are drawn larger, so that attention patterns are far from uniform. `gain`
    scales all matrices: a model without norms needs less than 1 to stay out of saturation.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        draw = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        if parameter.ndim == 1 and ("norm" in name or "ln" in name) and "b" not in _leaf(name):
            draw = 0.3 * draw + (0.0 if zero_centred_norms else 1.0)
        elif _leaf(name).startswith("b") or parameter.ndim == 1:
            draw = 0.3 * draw
        elif "embed" in name or "wte" in name or "wpe" in name:
            draw = draw if name != "unembed.W_U" else 2 * draw / math.sqrt(parameter.shape[0])
        else:
            sharp = 1.6 if any(k in name for k in ("W_Q", "W_K", "q_proj", "k_proj")) else 1.0
            draw = gain * sharp * draw / math.sqrt(min(parameter.shape[-2:]))
        parameter.copy_(draw)


def _leaf(name: str) -> str:
    return name.rsplit(".", 1)[-1]


# -- HookedTransformer ---------------------------------------------------------------------------


def hooked(shape: str, *, dtype: torch.dtype = torch.float64, seed: int = 0, **overrides: Any):
    """Make a random `HookedTransformer` of a shape; `overrides` go to its configuration."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    cfg = {**_BASE, **HOOKED_CONFIGS[shape], **overrides}
    with quiet():
        model = HookedTransformer(
            HookedTransformerConfig(**cfg, dtype=dtype, seed=seed, model_name=f"tiny-{shape}"),
            move_to_device=False,
        )
    randomise(model, seed, gain=0.6 if model.cfg.normalization_type is None else 1.0)
    if model.cfg.use_normalization_before_and_after:  # as in every such model; else it is refused
        for block in model.blocks:
            block.attn.b_O.data.zero_()
    return model.eval()


def linear(*, dtype: torch.dtype = torch.float64, seed: int = 0, **overrides: Any):
    """Make a model that is linear in its embeddings: fixed patterns, no norm, identity activation.

    Keys are zero and queries are bias only, so that each pattern is uniform over the past and no
    query or key reader matters.
    """
    model = hooked("no-norm", dtype=dtype, seed=seed, **overrides)
    with torch.no_grad():
        for block in model.blocks:
            for weight in (block.attn.W_Q, block.attn.W_K, block.attn.b_K):
                weight.zero_()
            if hasattr(block, "mlp"):
                block.mlp.act_fn = nn.Identity()
    return model


# -- TransformerBridge ---------------------------------------------------------------------------


def _hf_config(shape: str) -> Any:
    import transformers as hf

    common = {"vocab_size": D_VOCAB, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    modern = dict(
        common,
        hidden_size=D_MODEL,
        intermediate_size=D_MLP,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=N_HEADS,
        max_position_embeddings=N_CTX,
    )
    grouped = dict(modern, num_key_value_heads=N_KV, head_dim=D_HEAD, tie_word_embeddings=False)
    makers: dict[str, Callable[[], Any]] = {
        "gpt2": lambda: hf.GPT2Config(
            **common,
            n_embd=D_MODEL,
            n_layer=N_LAYERS,
            n_head=N_HEADS,
            n_inner=D_MLP,
            n_positions=N_CTX,
        ),
        "pythia": lambda: hf.GPTNeoXConfig(
            **{**modern, "hidden_size": 24},
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 10000.0,
                "partial_rotary_factor": 1 / 3,
            },
            use_parallel_residual=True,
        ),
        "llama": lambda: hf.LlamaConfig(**grouped),
        "gemma2": lambda: hf.Gemma2Config(
            **{**grouped, "tie_word_embeddings": True},
            query_pre_attn_scalar=D_HEAD,
            attn_logit_softcapping=3.0,
            final_logit_softcapping=6.0,
            sliding_window=4,
            layer_types=["sliding_attention", "full_attention"],
            hidden_activation="gelu_pytorch_tanh",
        ),
        "qwen3": lambda: hf.Qwen3Config(**grouped),
    }
    return makers[shape]()


_HF_SHAPES = ("gpt2", "pythia", "llama", "gemma2", "qwen3")


def huggingface(shape: str, *, dtype: torch.dtype = torch.float32, seed: int = 0) -> nn.Module:
    """Make a random Hugging Face model of a shape."""
    import transformers as hf

    with quiet():
        model = hf.AutoModelForCausalLM.from_config(_hf_config(shape), attn_implementation="eager")
    randomise(model, seed, zero_centred_norms=shape == "gemma2")
    return model.to(dtype).eval()


def bridged(shape: str, *, dtype: torch.dtype = torch.float32, seed: int = 0):
    """Make a random `TransformerBridge` of a shape."""
    model = huggingface(shape, dtype=dtype, seed=seed)
    return boot(model, f"tiny-{shape}", dtype=dtype, device="cpu")


def boot(model: nn.Module | None, name: str, *, dtype: torch.dtype = torch.float32, **options: Any):
    """Make a `TransformerBridge` to a Hugging Face model, or to one in a folder."""
    from transformer_lens.model_bridge import TransformerBridge

    with quiet():
        return TransformerBridge.boot_transformers(
            name, hf_model=model, dtype=dtype, tokenizer=_tokenizer(), **options
        ).eval()


def _tokenizer() -> Any:
    """A word-level tokenizer over `w0 ... w39`, with a beginning-of-sequence token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<bos>": 0, "<unk>": 1, **{f"w{i}": i for i in range(2, D_VOCAB)}}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        bos_token="<bos>",
        eos_token="<bos>",
        pad_token="<bos>",
        unk_token="<unk>",
        add_bos_token=True,
        name_or_path="tiny",
    )


def twins(shape: str, *, dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Any, Any]:
    """Make a `HookedTransformer` and a `TransformerBridge` that are the same function."""
    from transformer_lens.pretrained import weight_conversions as convert

    source = huggingface(shape, dtype=dtype, seed=seed)
    d_model = {"pythia": 24}.get(shape, D_MODEL)
    d_head = source.config.hidden_size // N_HEADS if shape in ("gpt2", "pythia") else D_HEAD
    eps = {"gpt2": 1e-5, "pythia": 1e-5}.get(shape, 1e-6)
    overrides: dict[str, Any] = {"d_model": d_model, "d_head": d_head, "eps": eps}
    if shape == "gemma2":
        overrides["attn_types"] = ["local", "global"]
    if shape == "qwen3" or shape == "llama":
        overrides["final_rms"] = True
    model = hooked(shape, dtype=dtype, **overrides)
    converter = {
        "gpt2": convert.convert_gpt2_weights,
        "pythia": convert.convert_neox_weights,
        "llama": convert.convert_llama_weights,
        "gemma2": convert.convert_gemma_weights,
        "qwen3": convert.convert_qwen3_weights,
    }[shape]
    with torch.no_grad():
        weights = {k: v.detach().clone() for k, v in converter(source, model.cfg).items()}
    if model.unembed.b_U is not None:
        weights.setdefault("unembed.b_U", torch.zeros_like(model.unembed.b_U))
    missing, unexpected = model.load_state_dict(weights, strict=False)
    lacking = [m for m in missing if not m.endswith(("mask", "IGNORE", "rotary_sin", "rotary_cos"))]
    if lacking or unexpected:
        raise RuntimeError(f"{shape}: missing {lacking}, unexpected {unexpected}")
    return model, bridged(shape, dtype=dtype, seed=seed)


HOOKED = MappingProxyType({shape: partial(hooked, shape) for shape in HOOKED_CONFIGS})
"""Shape -> function(dtype=float64, seed=0, **config) that makes a `HookedTransformer`."""

BRIDGED = MappingProxyType({shape: partial(bridged, shape) for shape in _HF_SHAPES})
"""Shape -> function(dtype=float32, seed=0) that makes a `TransformerBridge`."""

TWINS = MappingProxyType({shape: partial(twins, shape) for shape in _HF_SHAPES})
"""Shape -> function(dtype=float32, seed=0) that makes one model as both kinds."""


# -- models that must be refused -----------------------------------------------------------------


def bert():
    """A post-norm, bidirectional encoder."""
    from transformer_lens import HookedEncoder, HookedTransformerConfig

    with quiet():
        cfg = HookedTransformerConfig(
            **_BASE, attention_dir="bidirectional", model_name="tiny-bert", dtype=torch.float32
        )
        return HookedEncoder(cfg, move_to_device=False).eval()


def encoder_decoder():
    """An encoder-decoder with relative positions."""
    from transformer_lens import HookedEncoderDecoder, HookedTransformerConfig

    with quiet():
        cfg = HookedTransformerConfig(
            **{**_BASE, "act_fn": "relu", "normalization_type": "RMS"},
            positional_embedding_type="relative_positional_bias",
            relative_attention_max_distance=8,
            relative_attention_num_buckets=4,
            decoder_start_token_id=0,
            tie_word_embeddings=True,
            model_name="tiny-t5",
        )
        return HookedEncoderDecoder(cfg, move_to_device=False).eval()


def olmo2():
    """A decoder whose layers are normalised after, and whose readers see the bare stream."""
    return hooked("llama", original_architecture="Olmo2ForCausalLM", n_key_value_heads=None)


REFUSED = MappingProxyType({"bert": bert, "encoder-decoder": encoder_decoder, "olmo2": olmo2})
"""Name -> function() that makes a model whose stream is no bus of heads and MLPs."""


# -- tasks ---------------------------------------------------------------------------------------


def random_tokens(model: Any, n: int, pos: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Clean and corrupt tokens [n, pos] that differ in about half of the places, the first too."""
    generator = torch.Generator().manual_seed(seed)
    d_vocab = model.cfg.d_vocab
    clean = torch.randint(d_vocab, (n, pos), generator=generator)
    other = torch.randint(1, d_vocab, (n, pos), generator=generator)
    changed = torch.rand(n, pos, generator=generator) < 0.5
    changed[:, 0] = True
    return clean, torch.where(changed, (clean + other) % d_vocab, clean)


def random_task(
    model: Any,
    n: int = 3,
    pos: int = 6,
    seed: int = 0,
    *,
    lengths: Sequence[int] | None = None,
    n_answers: int = 1,
    n_wrong: int = 1,
    position: Sequence[int] | None = None,
):
    """A task of random tokens and random, distinct answers.

    Args:
        lengths: how many tokens of each example are real; padding is on the right.
        n_answers: right answers per example; `n_wrong` wrong ones, none where it is 0.
        position: where the logits are read; the last real token where it is not given.
    """
    from sae_circuits.tasks.task import Task

    clean, corrupt = random_tokens(model, n, pos, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    ids = torch.stack([torch.randperm(model.cfg.d_vocab, generator=generator) for _ in range(n)])
    mask = None
    if lengths is not None:
        mask = torch.arange(pos)[None] < torch.tensor(lengths)[:, None]
    return Task.from_tokens(
        clean,
        corrupt,
        answer=ids[:, :n_answers],
        wrong=ids[:, n_answers : n_answers + n_wrong] if n_wrong else None,
        mask=mask,
        position=None if position is None else torch.tensor(position),
        name="random",
    )
