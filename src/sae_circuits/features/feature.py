"""`Feature`: what a store knows of one feature, in plain values, and as a card in a notebook."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sae_circuits.features.store.schema import OWN
from sae_circuits.viz.pages import render_template

if TYPE_CHECKING:
    from sae_circuits.features.store.database import Database


@dataclass(frozen=True)
class Example:
    """A token on which the feature is active, with the tokens around it.

    Args:
        kind: "top", "interval", "quantile" or "random".
        group: the number of the interval or the quantile group, from 0.
        rank: within the group, from 0.
        prompt: of the corpus.
        position: in the prompt.
        activation: at the token.
        times: how often the feature is active where the same tokens stand around.
        first: the position of the window's first token.
        tokens: of the window, as people read them.
        activations: of the feature, on each of them.
        text: what they read.
    """

    kind: str
    group: int
    rank: int
    prompt: int
    position: int
    activation: float
    times: int
    first: int
    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    text: str


@dataclass(frozen=True)
class Distribution:
    """Counts of a feature's active values, and the edges between them."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Feature:
    """One feature.

    Args:
        id: its number in the dictionary.
        statistics: its row of the table of features.
        distributions: "histogram", "interval" and "quantile"; none of a dead feature.
        examples: of all kinds.
        tokens: on which it fires most often: text, count, share of its firings, share of the
            token's occurrences, and how much more often than by chance.
        logits: tokens that it makes more likely ("top") and less ("bottom"), with the effect.
        neurons: the coordinates on which its decoder row mostly lies, with the share of each.
        heads: the share of each head in that row, of a dictionary of z.
        neighbours: the nearest to it by each measure, `among` the features of its dictionary, and
            among others that `relate` was given.
        labels: the shown ones first.
        gap: what stands between two tokens of a text.
    """

    id: int
    statistics: Mapping[str, Any]
    distributions: Mapping[str, Distribution]
    examples: tuple[Example, ...]
    tokens: Sequence[Mapping[str, Any]]
    logits: Sequence[Mapping[str, Any]]
    neurons: Sequence[Mapping[str, Any]]
    heads: Sequence[Mapping[str, Any]]
    neighbours: Sequence[Mapping[str, Any]]
    labels: Sequence[Mapping[str, Any]]
    gap: str = ""

    @classmethod
    def of(cls, database: Database, i: int) -> Feature:
        """Read a feature from a store."""
        rows, meta = _read(database, i), database.meta()
        texts = _texts(database, rows)
        names = {OWN: {"names": meta["names"]}, **meta["related"]}
        return cls(
            id=i,
            statistics=rows["features"][0],
            distributions={
                row["kind"]: Distribution(tuple(row["edges"]), tuple(row["counts"]))
                for row in rows["distributions"]
            },
            examples=tuple(_example(row, texts) for row in rows["examples"]),
            tokens=[{"text": texts[row["token"]], **row} for row in rows["feature_tokens"]],
            logits=[{"text": texts[row["token"]], **row} for row in rows["logits"]],
            neurons=rows["neurons"],
            heads=rows["heads"],
            neighbours=[
                {**row, "name": _name(names[row["among"]]["names"], row["feature"])}
                for row in rows["correlations"]
            ],
            labels=rows["labels"],
            gap=meta["gap"],
        )

    @property
    def label(self) -> str | None:
        """The best label that is shown, if there is one."""
        return next((row["text"] for row in self.labels if row["shown"]), None)

    def __repr__(self) -> str:
        said = f", {self.label!r}" if self.label else ""
        density = self.statistics["density"]
        share = "no counted token" if density is None else f"{density:.3%} of tokens"
        return f"Feature({self.id}: {self.statistics['type']}, {share}{said})"

    def top(self, n: int | None = None) -> tuple[Example, ...]:
        """The examples with the largest activations."""
        return tuple(e for e in self.examples if e.kind == "top")[:n]

    @property
    def nearest(self) -> list[tuple[str, str, Sequence[Mapping[str, Any]]]]:
        """For features, and all others that it was related to: by which measure, and the nearest.

        The measure is the first there is of Pearson, cosine and Jaccard.
        """
        found: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
        for row in self.neighbours:
            found.setdefault(row["among"], {}).setdefault(row["measure"], []).append(row)
        first = {
            among: next((m for m in ("pearson", "cosine", "jaccard") if m in rows), None)
            for among, rows in found.items()
        }
        return [(among, m, found[among][m]) for among, m in first.items() if m is not None]

    def _repr_html_(self) -> str:
        return str(render_template("feature.html", feature=self, top=self.top(8)))


QUERIES = {
    "features": "*",
    "distributions": "kind, edges, counts",
    "examples": "* EXCLUDE (feature)",
    "feature_tokens": "token, n, share, recall, lift, mean, rank",
    "logits": "kind, rank, token, effect",
    "neurons": "rank, neuron, value, share",
    "heads": "head, share",
    "correlations": "among, measure, rank, other AS feature, value",
    "labels": "strategy, text, shown, score, precision, recall, base_rate",
}
"""What is read of each table: neither joined nor ordered, which would take longer than to read."""

ORDERS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "examples": lambda row: (row["kind"] != "top", row["kind"], row["group"], row["rank"]),
    "feature_tokens": itemgetter("rank"),
    "logits": lambda row: (row["kind"] != "top", row["rank"]),
    "neurons": itemgetter("rank"),
    "heads": itemgetter("head"),
    "correlations": lambda row: (
        row["among"] != OWN, row["among"], row["measure"], row["rank"]
    ),
    "labels": lambda row: (
        not row["shown"], row["score"] is not None, -(row["score"] or 0), row["strategy"]
    ),
}  # fmt: skip


def _read(database: Database, i: int) -> dict[str, list[dict[str, Any]]]:
    """The rows of a feature in each table, in their order."""
    queries = {
        name: f"SELECT {columns} FROM {name} WHERE feature = ?" for name, columns in QUERIES.items()
    }
    found = database.answers(queries, [i])
    for name, key in ORDERS.items():
        found[name].sort(key=key)
    return found


def _texts(database: Database, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[int, str]:
    """What tokens read that come up among the rows of a feature."""
    ids = {token for row in rows["examples"] for token in row["tokens"]}
    ids |= {row["token"] for name in ("feature_tokens", "logits") for row in rows[name]}
    sql = "SELECT token, text FROM tokens WHERE token IN (SELECT unnest(?))"
    return {row["token"]: row["text"] for row in database.rows(sql, [sorted(ids)])}


def _example(row: Mapping[str, Any], texts: Mapping[int, str]) -> Example:
    """An example with tokens as people read them."""
    tokens = tuple(texts[token] for token in row["tokens"])
    return Example(**{**row, "tokens": tokens, "activations": tuple(row["activations"])})


def _name(names: Sequence[str] | None, i: int) -> str | None:
    """The name of a feature, where there are names."""
    return None if names is None else names[i]
