"""`OnPrompt`: all features that are active on a prompt, token by token, and what they do there.

With r the final stream at a position, s the scale of the final norm there, c what feature f adds
along its direction d (its activation, times what its place scales it by), and m a metric of the
logits at the prompt's last token,

    loss effect   = log p(next token | r) - log p(next token | r - c d)
    logit effect  = c / s * (g * P d) . (W_U[:, t] - its mean over the vocabulary)
    attribution   = c * d . dm / d(stream where the dictionary writes)

where P removes the mean if the norm does, and g is its gain. Loss effects go through the norm and
the cap of the logits exactly; logit effects hold the norm's scale and come before the cap, so that
they add up over all that writes to r. All is from one run of the model, and one backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from sae_circuits.ablation.interventions import Intervention
from sae_circuits.attribution import Problem
from sae_circuits.attribution.flat import require_slope
from sae_circuits.errors import OptionError, TaskError
from sae_circuits.features.columns import Activity
from sae_circuits.features.effects.directions import stream_directions
from sae_circuits.features.effects.final import ROWS, Final
from sae_circuits.features.effects.largest import largest
from sae_circuits.features.effects.sight import Seen, Sight, read_prompts
from sae_circuits.features.quantiles import quantiles_at
from sae_circuits.graph import TensorGraph
from sae_circuits.metrics import Metric, metric_name
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries import Dictionary
from sae_circuits.tasks import Task


@dataclass(frozen=True)
class Measured:
    """A metric of the logits at a prompt's last token, with the token ids that it compares."""

    metric: Metric
    answer: tuple[int, ...] = ()
    wrong: tuple[int, ...] = ()

    def asked_of(self, task: Task) -> Task:
        """A prompt as a task with these answers; its own, which nothing reads, without any."""
        given = {"answer": self.answer, "wrong": self.wrong}
        return replace(task, **{k: task.clean.new_tensor([ids]) for k, ids in given.items() if ids})


@dataclass(frozen=True, eq=False)
class OnPrompt:
    """Activations that are not 0 on one prompt, by position and then by id.

    Args:
        tokens: of the prompt.
        stream: the final stream, before the norm.
        slope: of a metric, at the stream where the dictionary writes; None without a metric.
        positions, features: of each activation.
        activations: which they are.
        coefficients: how much of its direction each adds to the stream.
    """

    sight: Sight
    final: Final
    tokens: Int64[Tensor, "pos"]
    stream: Float[Tensor, "pos d_model"]
    slope: Float[Tensor, "pos d_model"] | None
    positions: Int64[Tensor, "active"]
    features: Int64[Tensor, "active"]
    activations: Float[Tensor, "active"]
    coefficients: Float[Tensor, "active"]

    @classmethod
    def of(
        cls,
        model: Any,
        dictionary: Dictionary,
        prompt: str | Int64[Tensor, "pos"],
        measured: Measured | None = None,
        *,
        prepend_bos: bool = True,
    ) -> OnPrompt:
        """Run a model on a prompt, once; with a metric, also backwards, once.

        Raises:
            DictionaryError, GraphError: a dictionary that does not fit the model.
            TaskError, ContextError: a prompt that the model cannot read, or an answer beyond its
                vocabulary.
            MetricError: a metric without a gradient.
            NumericalError: weights or a stream that is not finite.
        """
        adapter = Adapter.of(model)
        sight = Sight.of(adapter, dictionary)
        if not isinstance(prompt, str) and (not isinstance(prompt, Tensor) or prompt.ndim != 1):
            raise TaskError("the prompt is not one: give a text, or token ids [pos]")
        final = Final.of(adapter, sight.dictionary.W_enc.dtype)
        task = read_prompts(model, adapter, prompt, prepend_bos=prepend_bos)
        if measured is None:
            seen, slope = sight.look(task), None
        else:
            seen, slope = _with_slope(sight, task, measured)
        with torch.no_grad():
            f, c = sight.activations(seen.encoded[0])
        at, ids = f.nonzero().unbind(1)
        tokens = task.clean[0].to(adapter.device)
        return cls(sight, final, tokens, seen.final[0], slope, at, ids, f[at, ids], c[at, ids])

    def __len__(self) -> int:
        return len(self.features)

    def at(self, position: int) -> OnPrompt:
        """Those at one position.

        Raises:
            OptionError: a position outside the prompt.
        """
        n = len(self.tokens)
        if not 0 <= position < n:
            raise OptionError(f"position {position} is outside the prompt: take 0 to {n - 1}")
        own = self.positions == position
        names = ("positions", "features", "activations", "coefficients")
        return replace(self, **{name: getattr(self, name)[own] for name in names})

    # -- scores ----------------------------------------------------------------------------------

    def quantiles(
        self, activity: Activity
    ) -> tuple[Float64[np.ndarray, "active"], Float64[np.ndarray, "active"]]:
        """The share of a corpus's counted tokens, and of a feature's active ones, with no more.

        Raises:
            OptionError: activity of another number of features.
        """
        dictionary = self.sight.dictionary
        if activity.n_features != dictionary.n_features:
            raise OptionError(
                f"the activity is of {activity.n_features} features, and {dictionary!r} has "
                f"{dictionary.n_features}: give that of this dictionary"
            )
        ids, column = np.unique(self.features.cpu().numpy(), return_inverse=True)
        values, n_counted = self.activations.double().cpu().numpy(), int(activity.counted.sum())
        return quantiles_at(values, column, activity.columns(ids), n_counted)

    @torch.no_grad()
    def loss_effects(self) -> Float64[np.ndarray, "active"]:
        """Direct loss effects on the next token, in nats; NaN at the last position."""
        D, index = self._directions()
        effects = self.coefficients.new_full((len(self),), torch.nan, dtype=self.final.dtype)
        followed = (self.positions < len(self.tokens) - 1).nonzero()[:, 0]
        r, after = self.stream.to(self.final.dtype), self.tokens[1:]
        whole = self.log_probs()
        for some in followed.split(ROWS):
            p = self.positions[some]
            moved = self.coefficients[some, None] * D[index[some]]
            without = self.final.log_prob(self.final.read(r[p] - moved), after[p])
            effects[some] = whole[p] - without
        return effects.double().cpu().numpy()

    @torch.no_grad()
    def logit_effects(self, tokens: Sequence[int]) -> Float64[np.ndarray, "active token"]:
        """Direct effects on the logits of some tokens of the vocabulary, in logits."""
        final, device = self.final, self.stream.device
        D, index = self._directions()
        r, read = self.stream.to(final.dtype), final.gained(D)
        scale = r.new_ones(len(r), 1)
        if final.norm is not None:
            read, (_, scale) = final.gained(final.norm.centre(D)), final.norm.normalise(r)
        ids = torch.tensor(list(tokens), dtype=torch.int64, device=device)
        U = final.W_U[:, ids].double() - final.mean[:, None]
        each = (read.double() @ U)[index]
        share = self.coefficients / scale[self.positions, 0]
        return (share[:, None] * each).cpu().numpy()

    @torch.no_grad()
    def attributions(self) -> Float64[np.ndarray, "active"]:
        """Activations times the metric's gradient, in the metric's unit.

        Raises:
            OptionError: the model was run without a metric.
        """
        if self.slope is None:
            raise OptionError("there is no metric to attribute: give one")
        D, index = self._directions()
        slope = (self.slope.to(D.dtype) @ D.T)[self.positions, index]
        return (self.coefficients * slope).double().cpu().numpy()

    @torch.no_grad()
    def log_probs(self) -> Float[Tensor, "next"]:
        """Of each token but the first, given those before it, in nats."""
        r = self.stream[:-1].to(self.final.dtype)
        return self.final.log_prob(self.final.read(r), self.tokens[1:])

    @torch.no_grad()
    def likely(self, n: int) -> tuple[list[int], list[float]]:
        """The tokens that the model takes for the most likely after the prompt, that first.

        Returns:
            Their ids, ties by the lower one, and their probabilities.
        """
        logits = self.sight.adapter.logits(self.stream[-1:]).double()
        ids = largest(logits, n).places[0]
        return ids.tolist(), logits[0].softmax(0)[ids].tolist()

    def _directions(
        self,
    ) -> tuple[Float[Tensor, "feature d_model"], Int64[Tensor, "active"]]:
        """Of all features here, and which is whose."""
        ids, index = self.features.unique(return_inverse=True)
        return stream_directions(self.sight.adapter, self.sight.dictionary, ids), index


def _with_slope(
    sight: Sight, task: Task, measured: Measured
) -> tuple[Seen, Float[Tensor, "pos d_model"]]:
    """One run, and the gradient of a metric at the stream where the dictionary writes."""
    adapter, placed, task = sight.adapter, sight.placed, measured.asked_of(task)
    arch = adapter.architecture
    task.check_fits(context=arch.n_ctx, vocabulary=arch.d_vocab)
    nothing = Intervention("zero", task)  # of which a gradient alone needs no values
    graph = TensorGraph.from_model(adapter.model)
    problem = Problem(
        adapter, graph, task, measured.metric, nothing, saes=(placed,), attn_outputs=True
    )
    seen = sight.look(task, run=lambda: problem.clean)
    place = placed.name, 0
    leaf = problem.clean.reads.outputs[placed.name]
    with torch.enable_grad():
        slope = problem.slopes(problem.clean, {place: leaf})[place]
    require_slope(problem.flat, metric_name(measured.metric), "attribution")
    return seen, slope[0]
