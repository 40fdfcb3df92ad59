"""The sizes of a model that decide what running it costs, in numbers for each token.

What autograd keeps of a layer was counted on both kinds of models (GPT-2, Llama, Gemma 2, Qwen 3
and Pythia): per token at most 7 d_model, 4 for each hidden unit of the MLP, and 2.3 for each head
and position. A `HookedTransformer` keeps copies of weights too.
"""

from __future__ import annotations

from dataclasses import dataclass

from sae_circuits.graph import Architecture

NORMS = 7  # vectors of the stream's width that a layer keeps for its gradient
HIDDEN = 4  # numbers for each hidden unit of the MLP
PATTERNS = 2.5  # numbers for each head and position that is seen
BUSY = 5  # such numbers of one layer while it is computed, forth or back


@dataclass(frozen=True, slots=True)
class Shape:
    """A model's sizes, and how it holds them.

    Args:
        itemsize: bytes of a weight.
        gated: whether an MLP has a gate, a third matrix.
        hooked: whether it is a `HookedTransformer`, which copies weights as it runs.
    """

    architecture: Architecture
    itemsize: int = 4
    gated: bool = False
    hooked: bool = False

    # -- numbers of a token ------------------------------------------------------------------

    @property
    def width(self) -> int:
        """Of the stream."""
        return self.architecture.d_model

    @property
    def heads(self) -> int:
        """Of all heads of a layer, as they write: z, or queries."""
        return self.architecture.n_heads * self.architecture.d_head

    @property
    def keys(self) -> int:
        """Keys of a layer; as many values."""
        return self.architecture.n_kv_heads * self.architecture.d_head

    @property
    def hidden(self) -> int:
        """Hidden units of an MLP; four times the width where that is not known."""
        arch = self.architecture
        return (arch.d_mlp or 4 * arch.d_model) if arch.has_mlps else 0

    @property
    def mlps(self) -> int:
        """How many MLPs a layer has: one or none."""
        return int(self.architecture.has_mlps)

    @property
    def writes(self) -> int:
        """What the writers of all layers write, in narrow form."""
        return self.width + self.architecture.n_layers * (self.heads + self.mlps * self.width)

    @property
    def reads(self) -> int:
        """What the readers of all layers make of the stream."""
        each = self.heads + 2 * self.keys + self.mlps * self.width
        return self.width + self.architecture.n_layers * each

    @property
    def streams(self) -> int:
        """The streams that readers of all depths read."""
        return self.width * (1 + self.architecture.n_layers * (1 + self.mlps))

    # -- bytes -------------------------------------------------------------------------------

    @property
    def sum_size(self) -> int:
        """Of a number that is summed up: the model's dtype, float32 at least."""
        return max(4, self.itemsize)

    @property
    def weights(self) -> int:
        """All of them: layers, embedding and unembedding."""
        arch = self.architecture
        return self.itemsize * (
            arch.n_layers * self.layer_weights + 2 * arch.d_vocab * arch.d_model
        )

    @property
    def layer_weights(self) -> int:
        """How many weights the matrices of a layer have."""
        attention = 2 * self.width * (self.heads + self.keys)
        return attention + (2 + self.gated) * self.width * self.hidden

    @property
    def copied(self) -> int:
        """The weights of a layer that running it copies."""
        if not self.hooked:
            return 0
        mlp = 3 * self.width * self.hidden if self.gated else 0
        return self.itemsize * int(4.5 * self.width * self.heads + mlp)

    def kept(self, pos: int) -> int:
        """For the gradient of a token of a prompt: all layers."""
        arch = self.architecture
        wide = NORMS * max(self.width, self.heads) + int(PATTERNS * arch.n_heads * pos)
        return arch.n_layers * (self.sum_size * wide + self.itemsize * HIDDEN * self.hidden)

    def busy(self, pos: int) -> int:
        """For a token of a prompt while a layer is computed."""
        arch = self.architecture
        numbers = max(self.width, self.heads) + max(arch.n_heads * pos, self.hidden)
        return BUSY * self.sum_size * numbers
