"""The rows of a store, made of activations: block by block, so that memory stays bounded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt64

from sae_circuits.errors import OptionError
from sae_circuits.features.activations import Activations
from sae_circuits.features.analysis.kinds import mean_sizes
from sae_circuits.features.analysis.positions import counted_positions, position_rows
from sae_circuits.features.analysis.tokens import (
    TokenCounts,
    counted_tokens,
    token_counts,
    token_entropy,
    top_tokens,
)
from sae_circuits.features.columns import Columns
from sae_circuits.features.corpus import Corpus
from sae_circuits.features.examples import (
    Examples,
    Wanted,
    Windows,
    around,
    examples,
)
from sae_circuits.features.labels import Label
from sae_circuits.features.sources import DictionarySource, Source
from sae_circuits.features.statistics import (
    Histogram,
    Statistics,
    by_rank,
    group_bounds,
    histogram,
    intervals,
    quantiles,
    statistics,
)
from sae_circuits.features.store.database import Joined, Lists, Table
from sae_circuits.features.store.weights import (
    DictionaryWeights,
    NoWeights,
    Weights,
)
from sae_circuits.features.stretches import ranges
from sae_circuits.progress import bar

POSITIONS = ("feature", "position", "n", "share")


@dataclass(frozen=True)
class Contents:
    """What a store says of each feature.

    Args:
        windows: of tokens around an example.
        examples: how many of which kind.
        bins: of the histogram of active values.
        tokens: how many of a feature's tokens to list.
        neighbours: how many of the features that go with one to list, by each measure.
        logits: how many of the tokens that it makes more likely, and less, to list.
        neurons: how many of the coordinates on which its decoder row mostly lies to list.

    Raises:
        OptionError: a size below 1.
    """

    windows: Windows = field(default_factory=Windows)
    examples: Wanted = field(default_factory=Wanted)
    bins: int = 40
    tokens: int = 50
    neighbours: int = 10
    logits: int = 10
    neurons: int = 3

    def __post_init__(self) -> None:
        for name in ("bins", "tokens", "neighbours", "logits", "neurons"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name}={getattr(self, name)}: give 1 or more")

    @property
    def record(self) -> dict[str, Any]:
        """All of it in plain values."""
        return asdict(self)

    def weights(self, source: Source) -> Weights:
        """What there is to say of a source's weights."""
        if isinstance(source, DictionarySource):
            sizes = {"logits": self.logits, "bins": self.bins, "neurons": self.neurons}
            return DictionaryWeights.of(source, **sizes)
        return NoWeights(source.n_features)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Contents:
        """What a record says."""
        inner = {"windows": Windows(**record["windows"]), "examples": Wanted(**record["examples"])}
        return cls(**{**record, **inner})


def store_tables(
    activations: Activations, contents: Contents, weights: Weights
) -> Iterator[tuple[str, Table]]:
    """Rows of all tables but the labels, and of what goes with what on the same tokens."""
    yield from weights.tables()
    said = _Said(activations, contents, weights)
    yield "tokens", said.vocabulary()
    with bar(total=activations.n_features, description="statistics", unit="feature") as progress:
        for columns in activations.blocks():
            yield from said.of(columns)
            progress.update(len(columns))
    yield from weights.neighbours(activations, contents.neighbours)


@dataclass(frozen=True, eq=False)
class _Said:
    """What is said of each feature of a block."""

    activations: Activations
    contents: Contents
    weights: Weights

    def of(self, columns: Columns) -> Iterator[tuple[str, Table]]:
        """Rows of all tables that follow from activations."""
        contents, corpus = self.contents, self.activations.corpus
        found = statistics(columns, self.activations.n_counted)
        order = by_rank(columns)
        cut = intervals(columns, found, max(1, contents.examples.intervals))
        tokens = token_counts(columns, corpus)
        yield "features", self._numbers(columns, found, tokens)
        yield from _distributions(columns, order, found, cut, contents)
        yield "feature_tokens", top_tokens(tokens, self._occurrences, contents.tokens)
        yield from self._positions(columns)
        shown = examples(
            columns, order, cut.counts, corpus, contents.windows, self._hashes, contents.examples
        )
        yield "examples", _windows(columns, shown, corpus, contents.windows)

    def _numbers(self, columns: Columns, found: Statistics, tokens: TokenCounts) -> Table:
        names, ids = self.activations.names, columns.features
        n_tokens, n_counted = self.activations.corpus.n_tokens, self.activations.n_counted
        written = mean_sizes(columns, n_tokens, n_counted)
        return {
            **found.arrays(),
            "name": [None if names is None else names[i] for i in ids.tolist()],
            "type": found.type,
            "token_entropy": token_entropy(tokens.rows),
            "importance": written * self.weights.norms[ids],
            **{name: values[ids] for name, values in self.weights.numbers.items()},
        }

    def _positions(self, columns: Columns) -> Iterator[tuple[str, Table]]:
        for rows in position_rows(columns, self.activations.corpus, self._counted_positions):
            yield "positions", {name: rows[name] for name in POSITIONS}

    def vocabulary(self) -> Table:
        """Every token id, and how often it counts."""
        vocabulary = self.activations.corpus.vocabulary
        return {
            "token": np.arange(len(vocabulary)),
            "text": list(vocabulary.texts),
            "special": vocabulary.is_special,
            "n": self._occurrences,
        }

    @cached_property
    def _hashes(self) -> UInt64[np.ndarray, "token"]:
        return self.contents.windows.hashes(self.activations.corpus)

    @cached_property
    def _occurrences(self) -> Int64[np.ndarray, "vocab"]:
        return counted_tokens(self.activations)

    @cached_property
    def _counted_positions(self) -> Int64[np.ndarray, "pos"]:
        return counted_positions(self.activations)


def _distributions(
    columns: Columns,
    order: Int64[np.ndarray, "active"],
    found: Statistics,
    cut: Histogram,
    contents: Contents,
) -> Iterator[tuple[str, Table]]:
    """Histogram, intervals and quantile groups of the features that are active at all."""
    alive = np.flatnonzero(columns.counts)
    if not len(alive):
        return
    groups = max(1, contents.examples.quantiles)
    bins = histogram(columns, found, contents.bins)
    sizes = np.diff(group_bounds(columns.counts, groups), axis=1)
    edges = quantiles(columns, order, groups).astype(np.float64)
    for kind, where, counts in (
        ("histogram", bins.edges, bins.counts),
        ("interval", cut.edges, cut.counts),
        ("quantile", edges, sizes),
    ):
        yield (
            "distributions",
            {
                "feature": columns.features[alive],
                "kind": [kind] * len(alive),
                "edges": Lists.of(where[alive]),
                "counts": Lists.of(counts[alive]),
            },
        )


def _windows(columns: Columns, shown: Examples, corpus: Corpus, windows: Windows) -> Table:
    """Examples with the tokens around them, and what the feature does there."""
    prompt, position = corpus.locate(shown.place)
    first, stop = windows.spans(corpus, shown.place)
    sizes = stop - first
    starts = np.concatenate([[0], np.cumsum(sizes)])
    tokens = Lists(corpus.tokens[ranges(first, sizes)], starts)
    return {
        "feature": shown.feature,
        "kind": list(shown.group),
        "group": shown.index,
        "rank": shown.rank,
        "prompt": prompt,
        "position": position,
        "activation": shown.activation,
        "times": shown.times,
        "first": position - (shown.place - first),
        "tokens": tokens,
        "activations": Lists(around(columns, shown.which, first, stop), starts),
        "text": Joined(tokens, corpus.vocabulary.texts, corpus.vocabulary.gap),
    }


def label_rows(labels: Sequence[Label]) -> Table:
    """Rows of the table of labels."""
    nan = float("nan")
    numbers = ("score", "precision", "recall", "base_rate")
    found: dict[str, Any] = {
        name: np.array([getattr(one, name) for one in labels], dtype=np.float64) for name in numbers
    }
    for name in ("precision", "recall"):
        ends = [getattr(one, f"{name}_interval") or (nan, nan) for one in labels]
        low, high = np.array(ends, dtype=np.float64).reshape(-1, 2).T
        found |= {f"{name}_low": low, f"{name}_high": high}
    return {
        "feature": np.array([one.feature for one in labels], dtype=np.int64),
        "strategy": [one.strategy for one in labels],
        "text": [one.text for one in labels],
        "shown": np.array([one.shown for one in labels], dtype=bool),
        "provenance": [json.dumps(dict(one.provenance), allow_nan=False) for one in labels],
        "time": [one.time for one in labels],
        **found,
    }
