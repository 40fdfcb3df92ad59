"""What features do to the tokens that their windows show: effects on the loss, and on logits.

The model is run once over all prompts that are concerned, as far as its final stream; see
`without.py` for what follows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor

from sae_circuits.dashboards.numbers import short
from sae_circuits.dashboards.shown import Shown
from sae_circuits.dashboards.streams import Streams, streams_at
from sae_circuits.dashboards.window import EachEffects, EachToken
from sae_circuits.dashboards.windows import split
from sae_circuits.features.corpus import Corpus
from sae_circuits.features.effects.final import Final
from sae_circuits.features.effects.sight import Sight
from sae_circuits.features.effects.vocabulary import Tokens
from sae_circuits.features.effects.without import Changes, Pairs, changes

LOSS_DIGITS, HOVER_DIGITS = 5, 3  # that a page shows


@dataclass(frozen=True, eq=False)
class Followers:
    """Tokens that follow an active one, in all windows of some features.

    Args:
        row: of the table of examples.
        at: which token of the window.
        pair: which of the pairs, of a feature and the place before the token, it is.
        feature: of each pair, rising.
        place: of each pair.
    """

    row: Int64[np.ndarray, "follower"]
    at: Int64[np.ndarray, "follower"]
    pair: Int64[np.ndarray, "follower"]
    feature: Int64[np.ndarray, "pair"]
    place: Int64[np.ndarray, "pair"]

    @classmethod
    def of(cls, shown: Shown, corpus: Corpus) -> Followers:
        """Of all windows."""
        row, at = shown.following
        rows = shown.rows
        place = corpus.starts[rows["prompt"][row]] + rows["first"][row] + at - 1
        key = rows["feature"][row].astype(np.int64) * corpus.n_tokens + place
        pairs, pair = np.unique(key, return_inverse=True)
        return cls(row, at, pair, pairs // corpus.n_tokens, pairs % corpus.n_tokens)


@dataclass(frozen=True, eq=False)
class AtTokens:
    """Effects of some features on the tokens of their windows.

    Args:
        corpus: of the windows.
        followers: the tokens that follow an active one.
        final: the end of the model.
        streams: what a run of it gave.
    """

    corpus: Corpus
    followers: Followers
    final: Final
    streams: Streams

    @classmethod
    def of(cls, sight: Sight, shown: Shown, corpus: Corpus) -> AtTokens:
        """Run the model once for all of it."""
        followers = Followers.of(shown, corpus)
        final = Final.of(sight.adapter, sight.dictionary.W_enc.dtype)
        streams = streams_at(sight, final, corpus, followers.feature, followers.place)
        return cls(corpus, followers, final, streams)

    def changes(
        self,
        features: Int64[np.ndarray, "feature"],
        directions: Float[Tensor, "feature d_model"],
        effects: Float[Tensor, "feature vocab"],
        hover: int,
    ) -> tuple[slice, Changes]:
        """What some features do, and which of the pairs are theirs.

        Args:
            features: their ids, rising, with no other one of the windows' between them.
            directions: what each adds to the stream.
            effects: of these on the logits: see `effect_rows`.
            hover: how many tokens to list that are helped, and hurt.
        """
        known, streams = self.followers, self.streams
        ends = np.searchsorted(known.feature, [features[0], features[-1] + 1])
        some = slice(*ends.tolist())
        place = known.place[some]

        def moved(x: Integer[np.ndarray, "pair"]) -> Int64[Tensor, "pair"]:
            return torch.from_numpy(x.astype(np.int64)).to(directions.device)

        pairs = Pairs(
            r=streams.r[np.searchsorted(streams.places, place)],
            directions=directions,
            effects=effects,
            feature=moved(np.searchsorted(features, known.feature[some])),
            coefficient=streams.coefficients[some],
            token=moved(self.corpus.tokens[place + 1]),
        )
        return some, changes(self.final, pairs, hover)

    def of_rows(self, rows: slice, pairs: slice, found: Changes) -> EachEffects:
        """Effects on the tokens of some windows.

        Args:
            rows: of the table of examples.
            pairs: those that were found.
        """
        known = self.followers
        own = slice(*np.searchsorted(known.row, [rows.start, rows.stop]).tolist())
        bounds = np.searchsorted(known.row[own], np.arange(rows.start, rows.stop + 1))
        of_pair = known.pair[own] - pairs.start
        before = found.before.double().cpu().numpy()
        direct = found.direct.double().cpu().numpy()
        shown = (
            split(short(x[of_pair], LOSS_DIGITS), bounds)
            for x in (direct, np.exp(before), np.exp(before - direct))
        )
        return EachEffects(
            split(known.at[own].tolist(), bounds), next(shown), next(shown), next(shown),
            helped=_listed(found.helped, 1, of_pair, bounds),
            hurt=_listed(found.hurt, -1, of_pair, bounds),
        )  # fmt: skip


def _listed(
    tokens: Tokens,
    sign: int,
    of_pair: Int64[np.ndarray, "follower"],
    bounds: Int64[np.ndarray, "ends"],
) -> EachToken:
    """The tokens that are helped, or hurt, as far as there are any, after each active one."""
    values = tokens.values.double().cpu().numpy()
    there = (sign * values > 0).sum(1).tolist()
    columns = (
        [tuple(row[:n]) for row, n in zip(rows, there, strict=True)]
        for rows in (tokens.ids.tolist(), short(values, HOVER_DIGITS))
    )
    return EachToken(*(split([rows[i] for i in of_pair.tolist()], bounds) for rows in columns))
