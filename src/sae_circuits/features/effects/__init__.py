"""What features do, from weights alone and in runs of the model on prompts."""

from sae_circuits.features.effects.alignment import NeuronAlignment, head_shares, neuron_alignment
from sae_circuits.features.effects.attention import AttentionSource, attention_source
from sae_circuits.features.effects.directions import stream_directions, writes_to_stream
from sae_circuits.features.effects.logits import LogitEffects, logit_effects
from sae_circuits.features.effects.losses import ablation_loss_effect, direct_loss_effect
from sae_circuits.features.effects.prompt import prompt_scores

__all__ = [
    "AttentionSource",
    "LogitEffects",
    "NeuronAlignment",
    "ablation_loss_effect",
    "attention_source",
    "direct_loss_effect",
    "head_shares",
    "logit_effects",
    "neuron_alignment",
    "prompt_scores",
    "stream_directions",
    "writes_to_stream",
]
