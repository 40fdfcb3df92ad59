"""`Feature`: what a store knows of one feature, in plain values, and as a card in a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sae_circuits.viz.pages import render_template

if TYPE_CHECKING:
    from sae_circuits.features.store.database import Database


TEXTS = """SELECT token, text FROM tokens WHERE token IN (
    SELECT unnest(tokens) FROM examples WHERE feature = ?)"""


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

        def rows(sql: str) -> list[dict[str, Any]]:
            return database.rows(sql, [i])

        meta = database.meta()
        texts = {row["token"]: row["text"] for row in database.rows(TEXTS, [i])}
        return cls(
            id=i,
            statistics=rows("SELECT * FROM features WHERE feature = ?")[0],
            distributions={
                row["kind"]: Distribution(tuple(row["edges"]), tuple(row["counts"]))
                for row in rows("SELECT * FROM distributions WHERE feature = ?")
            },
            examples=tuple(
                Example(
                    **{
                        **{key: row[key] for key in row if key != "feature"},
                        "tokens": tuple(texts[token] for token in row["tokens"]),
                        "activations": tuple(row["activations"]),
                    }
                )
                for row in rows(
                    """SELECT * FROM examples WHERE feature = ?
                       ORDER BY kind = 'top' DESC, kind, "group", rank"""
                )
            ),
            tokens=rows(
                """SELECT text, n_active AS n, share, recall, lift, mean FROM (
                       SELECT feature_tokens.*, feature_tokens.n AS n_active, tokens.text
                       FROM feature_tokens JOIN tokens USING (token) WHERE feature = ?)
                   ORDER BY rank"""
            ),
            logits=rows(
                """SELECT kind, rank, text, effect FROM logits JOIN tokens USING (token)
                   WHERE feature = ? ORDER BY kind DESC, rank"""
            ),
            neurons=rows(
                "SELECT rank, neuron, value, share FROM neurons WHERE feature = ? ORDER BY rank"
            ),
            heads=rows("SELECT head, share FROM heads WHERE feature = ? ORDER BY head"),
            neighbours=_named(
                rows(
                    """SELECT among, measure, rank, other AS feature, name, value
                       FROM correlations
                       LEFT JOIN features ON features.feature = other AND among = 'features'
                       WHERE correlations.feature = ?
                       ORDER BY among != 'features', among, measure, rank"""
                ),
                meta["related"],
            ),
            labels=rows(
                """SELECT strategy, text, shown, score, precision, recall, base_rate FROM labels
                   WHERE feature = ? ORDER BY shown DESC, score DESC NULLS FIRST, strategy"""
            ),
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


def _named(
    rows: Sequence[dict[str, Any]], related: Mapping[str, Mapping[str, Any]]
) -> Sequence[dict[str, Any]]:
    """Neighbours with the names of those that are others' and have names."""
    for row in rows:
        names = related.get(row["among"], {}).get("names")
        row["name"] = names[row["feature"]] if names else row["name"]
    return rows
