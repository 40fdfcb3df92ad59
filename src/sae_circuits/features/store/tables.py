"""The rows of a store, made of activations: block by block, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt64

from sae_circuits.errors import OptionError
from sae_circuits.features.activations import Activations
from sae_circuits.features.columns import Columns
from sae_circuits.features.corpus import Corpus
from sae_circuits.features.examples import (
    Examples,
    Wanted,
    Windows,
    activations_at,
    examples,
)
from sae_circuits.features.shards import ranges
from sae_circuits.features.sources import Source
from sae_circuits.features.statistics import (
    Statistics,
    by_rank,
    group_bounds,
    histogram,
    intervals,
    quantiles,
    statistics,
)
from sae_circuits.features.store.database import Lists, Table
from sae_circuits.progress import bar


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

    Raises:
        OptionError: a size below 1.
    """

    windows: Windows = field(default_factory=Windows)
    examples: Wanted = field(default_factory=Wanted)
    bins: int = 40
    tokens: int = 50
    neighbours: int = 10
    logits: int = 10

    def __post_init__(self) -> None:
        for name in ("bins", "tokens", "neighbours", "logits"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name}={getattr(self, name)}: give 1 or more")

    @property
    def record(self) -> dict[str, Any]:
        """All of it in plain values."""
        return asdict(self)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Contents:
        """What a record says."""
        inner = {"windows": Windows(**record["windows"]), "examples": Wanted(**record["examples"])}
        return cls(**{**record, **inner})


def store_tables(
    activations: Activations, contents: Contents, source: Source | None
) -> Iterator[tuple[str, Table]]:
    """Rows of the tables that follow from activations alone."""
    corpus = activations.corpus
    yield "tokens", _tokens(activations)
    hashes = contents.windows.hashes(corpus)
    with bar(total=activations.n_features, description="statistics", unit="feature") as progress:
        for columns in activations.blocks():
            yield from _block(columns, activations, contents, hashes)
            progress.update(len(columns))


def _block(
    columns: Columns,
    activations: Activations,
    contents: Contents,
    hashes: UInt64[np.ndarray, "token"],
) -> Iterator[tuple[str, Table]]:
    found = statistics(columns, activations.n_counted)
    order = by_rank(columns)
    cut = intervals(columns, found, max(1, contents.examples.intervals))
    yield "features", {**found.arrays(), "name": _names(activations, columns), "type": found.type}
    yield from _distributions(columns, order, found, contents)
    shown = examples(
        columns, order, cut.counts, activations.corpus, contents.windows, hashes, contents.examples
    )
    if len(shown.feature):
        yield "examples", _windows(columns, shown, activations.corpus, contents.windows)


def _names(activations: Activations, columns: Columns) -> list[str | None]:
    names = activations.names
    return [None if names is None else names[i] for i in columns.features.tolist()]


def _tokens(activations: Activations) -> Table:
    """The vocabulary, and how often each token counts."""
    corpus = activations.corpus
    n = np.bincount(corpus.tokens[activations.counted], minlength=len(corpus.vocabulary))
    return {
        "token": np.arange(len(corpus.vocabulary)),
        "text": list(corpus.vocabulary.texts),
        "special": corpus.vocabulary.is_special,
        "n": n,
    }


def _distributions(
    columns: Columns, order: Int64[np.ndarray, "active"], found: Statistics, contents: Contents
) -> Iterator[tuple[str, Table]]:
    """Histogram, intervals and quantile groups of the features that are active at all."""
    alive = np.flatnonzero(columns.counts)
    if not len(alive):
        return
    groups = max(1, contents.examples.quantiles)
    bins = histogram(columns, found, contents.bins)
    cut = intervals(columns, found, max(1, contents.examples.intervals))
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
                "edges": _lists(where[alive]),
                "counts": _lists(counts[alive]),
            },
        )


def _windows(columns: Columns, shown: Examples, corpus: Corpus, windows: Windows) -> Table:
    """Examples with the tokens around them, and what the feature does there."""
    prompt, position = corpus.locate(shown.place)
    first, stop = windows.spans(corpus, shown.place)
    sizes = stop - first
    places = ranges(first, sizes)
    owner = np.searchsorted(columns.features, shown.feature)
    values = activations_at(columns, np.repeat(owner, sizes), places)
    starts = np.concatenate([[0], np.cumsum(sizes)])
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
        "tokens": Lists(corpus.tokens[places], starts),
        "activations": Lists(values, starts),
        "text": _texts(corpus, first, stop),
    }


def _texts(
    corpus: Corpus, first: Int64[np.ndarray, "example"], stop: Int64[np.ndarray, "example"]
) -> list[str]:
    """What windows read; many examples share one."""
    known: dict[tuple[int, int], str] = {}
    for span in zip(first.tolist(), stop.tolist(), strict=True):
        if span not in known:
            known[span] = corpus.text(corpus.tokens[slice(*span)])
    return [known[span] for span in zip(first.tolist(), stop.tolist(), strict=True)]


def _lists(rows: np.ndarray) -> Lists:
    n, size = rows.shape
    return Lists(rows.reshape(-1), np.arange(n + 1) * size)
