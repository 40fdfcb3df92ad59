"""What the model is run for: final streams at some tokens of a corpus, and coefficients there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.features.corpus import Corpus
from sae_circuits.features.effects.final import Final
from sae_circuits.features.effects.sight import Sight, read_prompts
from sae_circuits.features.sources import WIDTH
from sae_circuits.features.stretches import ranges
from sae_circuits.models.hooks import hooked, hooked_input
from sae_circuits.progress import track
from sae_circuits.tasks import Task
from sae_circuits.tasks.align import FILLER

TOKENS = 4096  # that are run at a time


@dataclass(frozen=True, eq=False)
class Streams:
    """Final streams at some places of a corpus.

    Args:
        places: of the corpus, rising.
        r: the streams there.
        coefficients: of each pair that was asked for, how much of its direction the feature adds.
    """

    places: Int64[np.ndarray, "place"]
    r: Float[Tensor, "place d_model"]
    coefficients: Float[Tensor, "pair"]


@torch.no_grad()
def streams_at(
    sight: Sight,
    final: Final,
    corpus: Corpus,
    features: Int64[np.ndarray, "pair"],
    places: Int64[np.ndarray, "pair"],
) -> Streams:
    """Run the model once over the prompts that hold some places.

    Args:
        features: that are active, one for each place.
        places: of the corpus, as often as features are asked for there.

    Raises:
        NumericalError: a stream that is not finite.
    """
    every, of_place, counts = np.unique(places, return_inverse=True, return_counts=True)
    by_place, starts = np.argsort(of_place, kind="stable"), np.cumsum(counts) - counts
    read = _Read.of(sight, features[by_place])
    prompt, position = corpus.locate(every)
    d_model = sight.adapter.architecture.d_model
    r = torch.empty(len(every), d_model, dtype=final.dtype, device=sight.adapter.device)
    found = torch.zeros(len(places), dtype=final.dtype, device=r.device)
    batches = list(_batches(corpus, np.unique(prompt), sight.adapter.architecture.n_ctx))
    for prompts, width in track(batches, description="streams"):
        first, stop = (np.searchsorted(prompt, prompts, side=side) for side in ("left", "right"))
        held = ranges(first, stop - first)
        row = np.repeat(np.arange(len(prompts)), stop - first)
        task = _task(sight, corpus, prompts, width)
        with _last_mlp_at(sight, torch.from_numpy(row), torch.from_numpy(position[held])):
            seen = sight.look(task)
        r[held] = seen.final[row, position[held]].to(final.dtype)
        pairs = ranges(starts[held], counts[held])
        at = np.repeat(np.arange(len(held)), counts[held])
        x = seen.encoded[row, position[held]]
        found[by_place[pairs]] = read.coefficients(x, at, pairs).to(final.dtype)
    return Streams(every, r, found)


@contextmanager
def _last_mlp_at(
    sight: Sight, row: Int64[Tensor, "place"], position: Int64[Tensor, "place"]
) -> Iterator[None]:
    """Inside, the last MLP runs on some tokens alone, and adds nothing to the others.

    No token sees another one behind the last attention, so that the final stream at these tokens is
    as it would be.
    """
    last = sight.adapter.architecture.n_layers - 1
    mlp = getattr(sight.adapter.block(last), "mlp", None)
    is_looked_at = (sight.placed.part, sight.placed.layer) == ("m", last)  # by more than the block
    if mlp is None or is_looked_at:
        yield
        return
    size = list[int]()

    def some(x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "1 place d_model"]:
        size[:] = x.shape[:2]
        return x[row, position][None]

    def every(x: Float[Tensor, "1 place d_model"]) -> Float[Tensor, "batch pos d_model"]:
        whole = x.new_zeros(*size, x.shape[-1])
        whole[row, position] = x[0]
        return whole

    home = sight.adapter.device
    with hooked_input(mlp, some, home), hooked(mlp, every, home):
        yield


def _batches(
    corpus: Corpus, prompts: Int64[np.ndarray, "prompt"], n_ctx: int | None
) -> Iterator[tuple[Int64[np.ndarray, "some"], int]]:
    """Prompts to run together, and the width to which they are padded."""
    sizes = np.diff(corpus.starts)[prompts]
    widths = (sizes + WIDTH - 1) // WIDTH * WIDTH
    widths = np.minimum(widths, n_ctx) if n_ctx else widths
    for width in np.unique(widths).tolist():
        own, n = prompts[widths == width], max(1, TOKENS // width)
        for start in range(0, len(own), n):
            yield own[start : start + n], width


def _task(sight: Sight, corpus: Corpus, prompts: Int64[np.ndarray, "prompt"], width: int) -> Task:
    tokens = torch.full((len(prompts), width), FILLER)
    mask = torch.zeros(len(prompts), width, dtype=torch.bool)
    for row, prompt in enumerate(prompts.tolist()):
        own = torch.from_numpy(corpus.prompt(prompt).astype(np.int64))
        tokens[row, : len(own)], mask[row, : len(own)] = own, True
    task = read_prompts(sight.adapter.model, sight.adapter, tokens, mask=mask)
    return replace(task, clean=tokens, corrupt=tokens)  # of one width, whatever stands in them


@dataclass(frozen=True, eq=False)
class _Read:
    """How some pairs' features read.

    Args:
        W: the encoder's column of each feature that is there, as a row.
        b: their biases.
        column: which of these each pair has.
    """

    sight: Sight
    W: Float[Tensor, "feature d_in"]
    b: Float[Tensor, "feature"]
    column: Int64[np.ndarray, "pair"]

    @classmethod
    def of(cls, sight: Sight, features: Int64[np.ndarray, "pair"]) -> _Read:
        """Of the pairs' features."""
        ids, column = np.unique(features, return_inverse=True)
        d = sight.dictionary
        return cls(sight, d.W_enc[:, ids].T.contiguous(), d.b_enc[ids], column)

    def coefficients(
        self,
        encoded: Float[Tensor, "place d_in"],
        at: Int64[np.ndarray, "own"],
        pairs: Int64[np.ndarray, "own"],
    ) -> Float[Tensor, "own"]:
        """How much of its direction the feature of each pair adds, where it is active.

        Args:
            encoded: what the encoder gets at some places.
            at: which of them is each pair's.
            pairs: their numbers.
        """
        x = encoded.to(self.W.dtype)
        column = self.column[pairs]
        a = (self.sight.dictionary.normalised(x)[at] * self.W[column]).sum(1) + self.b[column]
        factor = self.sight.placed.factor(x)
        return a if factor is None else a * factor[at, 0]
