"""What a feature does to the loss: how much more likely it makes the token that comes.

With r the final stream at p - 1, a the feature's activation there and d its direction,

    direct[p]   = log p(token p | r) - log p(token p | r - a d)
    ablation[p] = log p(token p) - log p(token p) of a run in which the feature is 0 at all tokens

both in nats and by the model's own final norm, unembedding and cap. Above 0 the feature helps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor

from sae_circuits.features.asked import feature_ids
from sae_circuits.features.corpus import Corpus
from sae_circuits.features.effects.directions import stream_directions
from sae_circuits.features.effects.final import Final
from sae_circuits.features.effects.sight import Sight, read_prompts
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries import Dictionary
from sae_circuits.progress import track
from sae_circuits.tasks import Task
from sae_circuits.tasks.prompts import Prompts


def named(effect: float) -> str | None:
    """What the sign of an effect on the loss says; None where it is undefined.

    >>> named(0.7), named(-0.1), named(0.0), named(float("nan"))
    ('helps', 'hurts', 'neither', None)
    """
    if effect != effect:
        return None
    return "helps" if effect > 0 else "hurts" if effect < 0 else "neither"


@torch.no_grad()
def direct_loss_effect(
    model: Any,
    dictionary: Dictionary,
    feature: int,
    prompts: Prompts | Corpus,
    *,
    mask: Shaped[Tensor, "..."] | None = None,
    prepend_bos: bool = True,
    batch_size: int | None = None,
) -> Float[Tensor, "prompt pos"]:
    """How much a feature's own direction in the final stream raises the log probability of a token.

    Above 0 the feature helps, below it hurts. At token p the activation at p - 1 counts; where that
    is 0, so is the effect. What later layers make of the feature is not in it.

    Args:
        model: a TransformerLens model of either kind; left as it was found.
        dictionary: of the feature.
        feature: its id.
        prompts: a corpus; one text or several; token ids, [pos] or [prompt, pos]; or a task.
        mask: true at the real tokens, where prompts are token ids.
        prepend_bos: whether texts begin with the beginning-of-sequence token, if there is one.
        batch_size: prompts at a time.

    Returns:
        In nats, NaN at the first token of each prompt and at padding.

    Raises:
        UnknownName: an id that the dictionary lacks.
        DictionaryError, GraphError: a dictionary that does not fit the model.
        TaskError, ContextError: prompts that the model cannot read.
        NumericalError: weights or a stream that is not finite.

    >>> import sae_circuits as sc
    >>> model, (sae,) = sc.load_model("demo"), sc.load_saes("demo", ["resid_post.3"])
    >>> direct_loss_effect(model, sae, 3, "When Mary and John went").shape
    torch.Size([1, 6])
    """
    problem = _Problem.of(model, dictionary, feature, prompts, mask, prepend_bos)
    return problem.over_batches(_Problem.direct, batch_size)


@torch.no_grad()
def ablation_loss_effect(
    model: Any,
    dictionary: Dictionary,
    feature: int,
    prompts: Prompts | Corpus,
    *,
    mask: Shaped[Tensor, "..."] | None = None,
    prepend_bos: bool = True,
    batch_size: int | None = None,
) -> Float[Tensor, "prompt pos"]:
    """How much lower each token's log probability is in a second run, without the feature.

    Above 0 the feature helps, below it hurts. In that run the feature is 0 at all tokens of the
    prompt, its other features and its error node write what they would have, and all that comes
    later is recomputed.

    Args:
        model: as are all others, see `direct_loss_effect`.

    Returns:
        In nats, NaN at the first token of each prompt and at padding.

    Raises:
        UnknownName, DictionaryError, GraphError, TaskError, ContextError, NumericalError: see
            `direct_loss_effect`.

    >>> import sae_circuits as sc
    >>> model, (sae,) = sc.load_model("demo"), sc.load_saes("demo", ["resid_post.3"])
    >>> ablation_loss_effect(model, sae, 3, "When Mary and John went").shape
    torch.Size([1, 6])
    """
    problem = _Problem.of(model, dictionary, feature, prompts, mask, prepend_bos)
    return problem.over_batches(_Problem.ablation, batch_size)


class _Problem:
    """One feature over prompts, checked."""

    def __init__(self, sight: Sight, final: Final, feature: int, task: Task) -> None:
        self.sight, self.final, self.feature, self.task = sight, final, feature, task
        self.direction = stream_directions(sight.adapter, sight.dictionary, feature)[0]

    @classmethod
    def of(
        cls,
        model: Any,
        dictionary: Dictionary,
        feature: int,
        prompts: Prompts | Corpus,
        mask: Shaped[Tensor, "..."] | None,
        prepend_bos: bool,
    ) -> _Problem:
        adapter = Adapter.of(model)
        sight = Sight.of(adapter, dictionary)
        (own,) = feature_ids(feature, dictionary.n_features).tolist()
        final = Final.of(adapter, sight.dictionary.W_enc.dtype)
        task = read_prompts(model, adapter, prompts, mask=mask, prepend_bos=prepend_bos)
        return cls(sight, final, own, task)

    def over_batches(self, effect: _Effect, size: int | None) -> Float[Tensor, "prompt pos"]:
        """An effect at every token of every prompt."""
        task = self.task
        size = size or self.sight.batch_size(task)
        found = torch.full(task.clean.shape, torch.nan, dtype=self.final.dtype)
        total = -(-len(task) // size)
        first = 0
        for batch in track(task.batches(size), total=total, description="effects on the loss"):
            tokens = batch.clean.to(self.sight.adapter.device)
            pos = torch.arange(1, tokens.shape[1])
            predicted = pos < batch.lengths[:, None].cpu()
            own = effect(self, batch, tokens[:, 1:], predicted.to(tokens.device), first).cpu()
            rows = found[first : first + len(batch), 1 : tokens.shape[1]]
            rows[predicted] = own[predicted]
            first += len(batch)
        return found

    def direct(
        self,
        batch: Task,
        token: Int64[Tensor, "batch next"],
        predicted: Bool[Tensor, "batch next"],
        first: int,
    ) -> Float[Tensor, "batch next"]:
        """Of the final stream, where the feature is active."""
        seen = self.sight.look(batch, first)
        _, every = self.sight.activations(seen.encoded)
        c = every[:, :-1, self.feature]
        there = (c != 0) & predicted
        effects = torch.zeros(token.shape, dtype=self.final.dtype, device=token.device)
        r = seen.final[:, :-1][there]
        moved = c[there][:, None] * self.direction
        effects[there] = difference(self.final, r, moved, token[there])
        return effects

    def ablation(
        self,
        batch: Task,
        token: Int64[Tensor, "batch next"],
        predicted: Bool[Tensor, "batch next"],
        first: int,
    ) -> Float[Tensor, "batch next"]:
        """Of a second run."""
        effects = torch.zeros(token.shape, dtype=self.final.dtype, device=token.device)
        runs = [self.sight.read_without(batch, some, first) for some in ([], [self.feature])]
        whole, without = (
            self.final.log_prob(read[:, :-1][predicted].to(self.final.dtype), token[predicted])
            for read in runs
        )
        effects[predicted] = whole - without
        return effects


_Effect = Callable[
    [_Problem, Task, Int64[Tensor, "batch next"], Bool[Tensor, "batch next"], int],
    Float[Tensor, "batch next"],
]


def difference(
    final: Final,
    r: Float[Tensor, "row d_model"],
    moved: Float[Tensor, "row d_model"],
    token: Int64[Tensor, "row"],
) -> Float[Tensor, "row"]:
    """log p(token) of the final stream, minus that of the final stream without something."""
    r = r.to(final.dtype)
    whole = final.log_prob(final.read(r), token)
    return whole - final.log_prob(final.read(r - moved), token)
