"""What a run of the model shows of one dictionary: its input, and the final stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from sae_circuits.ablation.batches import default_batch_size
from sae_circuits.ablation.changed_run import Place, changing
from sae_circuits.ablation.steering import Step
from sae_circuits.cache import check_model
from sae_circuits.errors import DictionaryError, NumericalError, OptionError
from sae_circuits.features.corpus import Corpus
from sae_circuits.features.effects.directions import require_stream
from sae_circuits.graph import Node, TensorGraph
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries import Dictionary
from sae_circuits.models.dictionaries.placed import Placed
from sae_circuits.models.hooks import hooked, hooked_input, stopped_at
from sae_circuits.tasks import Task
from sae_circuits.tasks.align import FILLER, pack
from sae_circuits.tasks.prompts import Prompts, as_task


def read_prompts(
    model: Any,
    adapter: Adapter,
    prompts: Prompts | Corpus,
    *,
    mask: Shaped[Tensor, "..."] | None = None,
    prepend_bos: bool = True,
) -> Task:
    """Prompts that the model can read, as a task; see `as_task`.

    Raises:
        TaskError, ContextError: prompts that it cannot.
    """
    if isinstance(prompts, Corpus):
        if mask is not None:
            raise OptionError("a mask goes with token ids; a corpus has no padding to mask")
        rows = [row.tolist() for row in prompts]
        lengths = torch.tensor([len(row) for row in rows])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        prompts = pack(rows, FILLER)
    task = as_task(model, prompts, mask=mask, prepend_bos=prepend_bos)
    arch = adapter.architecture
    task.check_fits(context=arch.n_ctx, vocabulary=arch.d_vocab)
    check_model(adapter, task.clean)
    return task


@dataclass(frozen=True, eq=False)
class Seen:
    """What one run shows.

    Args:
        encoded: what the encoder gets.
        final: the stream that the logits read, before the norm.
    """

    encoded: Float[Tensor, "batch pos d_in"]
    final: Float[Tensor, "batch pos d_model"]


@dataclass(frozen=True, eq=False)
class Sight:
    """A dictionary in its place in a model that runs."""

    adapter: Adapter
    placed: Placed

    @classmethod
    def of(cls, adapter: Adapter, dictionary: Dictionary) -> Sight:
        """Put a dictionary in its place.

        Raises:
            DictionaryError: of another model or device, or one that writes in several layers.
            GraphError: a place that the model does not have.
        """
        require_stream(adapter, dictionary)
        if len(dictionary.writes) > 1:
            raise DictionaryError(
                f"{dictionary!r} writes in {len(dictionary.writes)} layers: effects on the loss "
                "are for dictionaries that write in one"
            )
        graph = TensorGraph.from_model(adapter.model, saes=[dictionary])
        (placed,) = Placed.all_of(adapter, graph)
        return cls(adapter, placed)

    @property
    def dictionary(self) -> Dictionary:
        """In the dtype in which it runs."""
        return self.placed.dictionary

    def batch_size(self, task: Task) -> int:
        """How many prompts go through the model at a time."""
        n_features = self.dictionary.n_features
        return default_batch_size(self.adapter, task, n_features)

    def look(self, batch: Task, first: int = 0, run: Callable[[], object] | None = None) -> Seen:
        """Run the model.

        Args:
            first: the number of the batch's first prompt, for messages.
            run: what runs the model on the batch, as with gradients; by default without.

        Raises:
            NumericalError: a stream that is not finite.
        """
        kept: dict[str, Tensor] = {}
        place = self._place()
        module, is_input = place.written if place.read is None else (place.read, True)
        home = self.adapter.device

        def keep(x: Tensor) -> None:
            kept.setdefault("encoded", x.detach().flatten(2))

        def keep_final(x: Tensor) -> None:
            kept["final"] = x.detach()

        with (
            torch.no_grad(),
            (hooked_input if is_input else hooked)(module, keep, home),
            hooked_input(self.adapter.unembedding_input, keep_final, home),
        ):
            run() if run is not None else self._read(batch)
        _require_finite(kept["final"], batch, first)
        return Seen(kept["encoded"], kept["final"])

    def activations(
        self, encoded: Float[Tensor, "*token d_in"]
    ) -> tuple[Float[Tensor, "*token feature"], Float[Tensor, "*token feature"]]:
        """Of all features, and how much of its direction each then adds to the stream.

        The two differ where an SAE normalises its input, or a norm stands behind the heads.
        """
        x = encoded.to(self.dictionary.W_enc.dtype)
        f, factor = self.dictionary.encode(x), self.placed.factor(x)
        return f, f if factor is None else f * factor

    def read_without(
        self, batch: Task, features: Sequence[int] = (), first: int = 0
    ) -> Float[Tensor, "batch pos d_model"]:
        """What the unembedding sees when some features are 0 at all tokens.

        The other features and the error node write what they would have, and all that comes later
        is recomputed.

        Raises:
            NumericalError: a stream that is not finite.
        """
        nodes = [
            Node("feature", self.placed.layer, f, site=self.placed.part) for f in map(int, features)
        ]
        place = self._place(*(Step(node, "set", 0.0) for node in nodes))
        with torch.no_grad(), changing(self.adapter, batch, [place] if nodes else [], {}):
            read = self._read(batch)
        _require_finite(read, batch, first)
        return read

    def _read(self, batch: Task) -> Float[Tensor, "batch pos d_model"]:
        adapter, tokens = self.adapter, batch.clean
        end, forward = adapter.model.unembed, lambda: adapter.forward(tokens)
        return stopped_at(end, forward, before=True, home=adapter.device)

    def _place(self, *steps: Step) -> Place:
        placed = self.placed
        whole = Place(self.adapter, placed.part, placed.layer, placed)
        return replace(whole, steps=steps)


def _require_finite(stream: Float[Tensor, "batch pos d_model"], batch: Task, first: int) -> None:
    """Refuse a final stream that is not finite at a real token."""
    real = torch.arange(stream.shape[1]) < batch.lengths[:, None].cpu()
    bad = ~stream.isfinite().all(-1).cpu() & real
    if bool(bad.any()):
        row, pos = bad.nonzero()[0].tolist()
        raise NumericalError(
            f"the final stream of prompt {first + row} is not finite at position {pos}: check "
            "the model's weights and its dtype"
        )
