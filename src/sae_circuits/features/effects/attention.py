"""`attention_source`: from where the attention brought what a feature of z reads.

With f the feature's index in its dictionary, and h running over query heads,

    source[q, s] = sum over h of pattern[h, q, s] value[s, h] . W_enc[h, :, f]

whose sum over s is z[q] . W_enc[:, f].
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.errors import DictionaryError, NumericalError, TaskError
from sae_circuits.features.asked import feature_ids
from sae_circuits.features.effects.directions import require_stream
from sae_circuits.features.effects.sight import read_prompts
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries import Dictionary
from sae_circuits.models.hooks import hooked, stopped_at


@dataclass(frozen=True, eq=False)
class AttentionSource:
    """How much each source position gives to a feature's pre-activation.

    The pre-activation at a position is the sum of its row, plus the bias.

    Args:
        feature: its id.
        values: by the position where it is read, and by source.
        bias: what the dictionary's own biases, and its normalisation's shift, add at each position.
    """

    feature: int
    values: Float[Tensor, "pos src"]
    bias: Float[Tensor, "pos"]

    @property
    def pre_activation(self) -> Float[Tensor, "pos"]:
        """What the gate gets."""
        return self.values.sum(1) + self.bias

    def __repr__(self) -> str:
        return f"AttentionSource(feature {self.feature}, {len(self.values)} tokens)"


@torch.no_grad()
def attention_source(
    model: Any,
    dictionary: Dictionary,
    feature: int,
    prompt: str | Int64[Tensor, "pos"],
    *,
    prepend_bos: bool = True,
) -> AttentionSource:
    """Split the pre-activation of a feature of z by the position that attention brought it from.

    Where query heads share a key and a value, each has the value of its group. Of a dictionary
    that normalises its input, all is over the scale that it divides by.

    Args:
        model: a TransformerLens model of either kind; left as it was found.
        dictionary: that reads z.
        feature: its id, counted through all heads.
        prompt: a text, or token ids.
        prepend_bos: whether a text begins with the beginning-of-sequence token, if there is one.

    Raises:
        UnknownName: an id that the dictionary lacks.
        DictionaryError: one that does not read z, or does not fit the model.
        TaskError, ContextError: a prompt that the model cannot read.
        NumericalError: attention that is not finite.

    Reference: arXiv 2406.17759, where it is direct feature attribution by source position.

    >>> import sae_circuits as sc
    >>> model, (sae,) = sc.load_model("demo"), sc.load_saes("demo", ["z.1"])
    >>> attention_source(model, sae, 3, "When Mary and John went")
    AttentionSource(feature 3, 6 tokens)
    """
    adapter = Adapter.of(model)
    require_stream(adapter, dictionary)
    if dictionary.reads.kind != "z":
        raise DictionaryError(
            f"{dictionary!r} reads {dictionary.reads.name}: attention has a source for "
            "dictionaries that read z"
        )
    (f,) = feature_ids(feature, dictionary.n_features).tolist()
    if not isinstance(prompt, str) and (not isinstance(prompt, Tensor) or prompt.ndim != 1):
        raise TaskError("the prompt is not one: give a text, or token ids [pos]")
    task = read_prompts(model, adapter, prompt, prepend_bos=prepend_bos)
    pattern, value, z = _attention(adapter, dictionary.reads.layer, task.clean)
    d = dictionary.to(z.device, torch.promote_types(z.dtype, dictionary.W_enc.dtype))
    column = d.W_enc[:, f].unflatten(0, value.shape[1:])
    along = torch.einsum("shk,hk->sh", value.to(column.dtype), column)
    values = torch.einsum("hqs,sh->qs", pattern.to(column.dtype), along)
    return AttentionSource(f, *_with_bias(d, f, values, z.to(column.dtype)))


def _attention(
    adapter: Adapter, layer: int, tokens: Int64[Tensor, "1 pos"]
) -> tuple[
    Float[Tensor, "head pos src"], Float[Tensor, "src head d_head"], Float[Tensor, "pos d_in"]
]:
    """Patterns, each query head's values, and z of one layer in a run on one prompt."""
    kept: dict[str, Tensor] = {}
    points = {
        "pattern": f"blocks.{layer}.attn.hook_pattern",
        "value": adapter.port_name(layer, "v"),
    }
    home = adapter.device
    with ExitStack() as hooks:
        for name, point in points.items():
            keep = partial(kept.__setitem__, name)
            hooks.enter_context(hooked(adapter.point(point), keep, home))
        z_point = adapter.point(f"blocks.{layer}.attn.hook_z")
        z = stopped_at(z_point, lambda: adapter.forward(tokens), home=home)[0].flatten(1)
    if not all(bool(x.isfinite().all()) for x in (z, *kept.values())):
        raise NumericalError(
            f"the attention of layer {layer} is not finite: check the model's weights and its dtype"
        )
    arch = adapter.architecture
    value = adapter.by_head(kept["value"])[0]
    return kept["pattern"][0], value.repeat_interleave(arch.n_heads // value.shape[1], 1), z


def _with_bias(
    d: Dictionary, f: int, values: Float[Tensor, "pos src"], z: Float[Tensor, "pos d_in"]
) -> tuple[Float[Tensor, "pos src"], Float[Tensor, "pos"]]:
    """Values over the scale of the dictionary's input, and what is no position's."""
    column = d.W_enc[:, f]
    bias = d.b_enc[f] - (0 if d.b_in is None else d.b_in @ column)
    scale = d.scale(z)
    if scale is None:
        return values, bias.expand(len(values))
    shifted = (scale.shift.expand_as(z) / scale.divide) @ column
    return values / scale.divide, bias - shifted
