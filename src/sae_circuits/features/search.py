"""Questions to a store: features by token, label, logit, text or number, as data frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_circuits.errors import OptionError, StoreError, UnknownName, unknown
from sae_circuits.features.asked import feature_ids
from sae_circuits.features.store.schema import OWN

if TYPE_CHECKING:
    import pandas

    from sae_circuits.features.store.database import Database

HOW = ("exact", "any-case", "substring", "regex")
COLUMNS = "features.feature, name, type, density, mean_active, max, best.text AS label"


Tokens = Mapping[int, Mapping[str, Any]]
"""Rows of the table of tokens, by id. They are read first: one query more costs less than to plan a
large one."""


@dataclass(frozen=True)
class _Condition:
    """A query that gives features, the score of each, and what it was found by."""

    sql: str
    parameters: tuple[Any, ...]
    shows: tuple[str, ...] = ("score", "found")


class Searches:
    """The part of a feature dictionary that answers questions."""

    database: Database

    def __len__(self) -> int:
        """How many features there are."""
        raise TypeError  # given by the class that is searched

    def search(
        self,
        *,
        token: str | int | Sequence[str | int] | None = None,
        how: str = "exact",
        label: str | None = None,
        logit: str | int | None = None,
        text: str | None = None,
        where: str | None = None,
        order: str | None = None,
        n: int = 20,
    ) -> pandas.DataFrame:
        """Features for which all that is given holds, best first.

        Args:
            token: features that fire on it, or on several together; by its text, whose leading
                space does not matter, or its id. Their score is, as a label's, the harmonic mean of
                `share` (of their firings, those on it) and `recall` (of its counted occurrences,
                those on which they fire).
            how: to read the text of `token` and `logit`: "exact", "any-case", "substring" (of any
                case), or "regex".
            label: a part of a label that is shown, in any case.
            logit: features that make this token more likely; the score is the effect.
            text: a part of what an example reads, in any case.
            where: a condition on columns of the table of features, as in SQL: "density < 0.01".
            order: the column to order by, largest first; by default the first score.
            n: how many at most.

        Returns:
            Columns feature, name, type, density, mean_active, max, label, and for each of `token`,
            `logit` and `text` one with its score and one with what was found; for `token` its
            share and its recall too.

        Raises:
            OptionError: nothing to search by, n below 1, or a regular expression that does not
                compile (of RE2, which DuckDB has).
            UnknownName: another `how` or column.
            StoreError: a condition that is no SQL.
        """
        if how not in HOW:
            raise unknown("way to read a text", how, HOW)
        found: dict[str, _Condition] = {}
        given = {"token": token, "logit": logit}
        asked = {name: self._tokens(one, how) for name, one in given.items() if one is not None}
        for name, tokens in asked.items():
            found[name] = _by_token(tokens) if name == "token" else _by_logit(tokens)
        if text is not None:
            found["text"] = _by_text(text)
        if label is not None:
            found["label"] = _by_label(label)
        if not found and where is None:
            raise OptionError("nothing to search by: give token, label, logit, text or where")
        if order is not None:
            self._column(order)
        _require_some(n)
        rows = self.database.query(*_query(found, where, order, n))
        for name, tokens in asked.items():  # of the few rows that are left
            rows[f"{name}_found"] = [_read(one, tokens) for one in rows[f"{name}_found"]]
        return rows

    def top(self, by: str, n: int = 20, *, smallest: bool = False) -> pandas.DataFrame:
        """The features with the largest value in a column of `statistics()`.

        Raises:
            UnknownName: no such column.
            OptionError: n below 1.
        """
        by = self._column(by)
        _require_some(n)
        return self.database.query(
            f"""SELECT features.*, best.text AS label FROM features LEFT JOIN best USING (feature)
                WHERE {by} IS NOT NULL ORDER BY {by} {"ASC" if smallest else "DESC"}, feature
                LIMIT ?""",
            [n],
        )

    def of_type(self, kind: str) -> pandas.DataFrame:
        """The dead, ultra-sparse, sparse, moderate or dense features."""
        kinds = ("dead", "ultra-sparse", "sparse", "moderate", "dense")
        if kind not in kinds:
            raise unknown("type of feature", kind, kinds)
        return self.database.query(
            "SELECT * FROM features WHERE type = ? ORDER BY n_active DESC, feature", [kind]
        )

    def similar(
        self, i: int | np.integer | str, by: str | None = None, *, among: str = OWN
    ) -> pandas.DataFrame:
        """The features nearest to one, by each measure that the store holds, or by one.

        Args:
            i: a feature's id, or its name.
            by: "pearson", "cosine", "jaccard" or, among features of the store, "decoder".
            among: "features" of the store, or others by the name that `relate` was given.

        Returns:
            Columns measure, rank, feature, name, value, type, density and label; of others no more
            is known than id and name.

        Raises:
            UnknownName: no such feature or measure, or no such others.
        """
        known = {OWN: {"names": None}} | self.database.meta()["related"]
        if among not in known:
            raise unknown("others to be near to", among, known)
        found = self.database.query(
            """SELECT measure, rank, other AS feature, name, value, type, density,
                      best.text AS label
               FROM correlations
               LEFT JOIN features ON features.feature = other AND among = 'features'
               LEFT JOIN best ON best.feature = other AND among = 'features'
               WHERE correlations.feature = ? AND among = ? AND measure = coalesce(?, measure)
               ORDER BY measure, rank""",
            [self._known(i), among, by],
        )
        if by is not None and not len(found):
            sql = "SELECT DISTINCT measure FROM correlations WHERE among = ? ORDER BY 1"
            measures = self.database.query(sql, [among]).measure.tolist()
            if by not in measures:
                raise unknown("measure", by, measures)
        if (names := known[among]["names"]) is not None:
            found["name"] = [names[other] for other in found.feature]
        return found

    def ids(self, features: Sequence[int | str]) -> list[int]:
        """The ids of features that are asked for by id or by name.

        Raises:
            UnknownName: no such feature.
        """
        return [self._known(i) for i in features]

    def _known(self, i: int | np.integer | str) -> int:
        """The id of a feature, by itself or by its name."""
        if isinstance(i, str):
            named = self.database.query("SELECT feature, name FROM features WHERE name NOT NULL")
            found = dict(zip(named.name, named.feature.tolist(), strict=True))
            if not found:
                raise UnknownName(
                    f"no feature {i!r}: those of this store have no names; give an id, 0 to "
                    f"{len(self) - 1}"
                )
            if i not in found:
                raise unknown("feature", i, found)
            return found[i]
        if not isinstance(i, Integral) or isinstance(i, bool):
            raise UnknownName(f"{i!r} is no feature: give its id, or its name")
        return int(feature_ids([int(i)], len(self))[0])

    def _tokens(self, asked: str | int | Sequence[str | int], how: str) -> Tokens:
        """The tokens that are meant.

        Raises:
            OptionError: no token, what is none, or a regular expression that DuckDB cannot match.
        """
        condition, parameters = _matches(asked, how)
        try:
            sql = f"SELECT token, text, n FROM tokens WHERE {condition} ORDER BY token"
            return {row["token"]: row for row in self.database.rows(sql, parameters)}
        except StoreError as error:
            if how != "regex":
                raise
            reason = str(error).splitlines()[0]
            raise OptionError(f"{asked!r} is no regular expression: {reason}") from error

    def _column(self, name: str) -> str:
        columns = self.database.query("SELECT * FROM features LIMIT 0").columns
        if name not in set(columns):
            raise unknown("column", name, list(columns))
        return f'features."{name}"'


def _require_some(n: int) -> None:
    if n < 1:
        raise OptionError(f"n={n}: ask for 1 feature or more")


def _query(
    found: dict[str, _Condition], where: str | None, order: str | None, n: int
) -> tuple[str, list[Any]]:
    """One query for all conditions."""
    parts = "".join(f', "{name}" AS ({c.sql})' for name, c in found.items())
    joins = " ".join(f'JOIN "{name}" USING (feature)' for name in found)
    shown = "".join(
        f', "{name}".{column} AS {name}_{column}'
        for name, condition in found.items()
        for column in condition.shows
    )
    by = f'features."{order}" DESC NULLS LAST' if order else "features.feature"
    if order is None and found:
        by = f'"{next(iter(found))}".score DESC, features.feature'
    condition = f"WHERE ({where})" if where else ""
    sql = f"""WITH nothing AS (SELECT 1){parts}
        SELECT {COLUMNS}{shown} FROM features {joins} LEFT JOIN best USING (feature)
        {condition} ORDER BY {by} LIMIT ?"""
    return sql, [p for c in found.values() for p in c.parameters] + [n]


BY_TEXT = {
    "exact": "ltrim(text) = ltrim(?)",
    "any-case": "ltrim(lower(text)) = ltrim(lower(?))",
    "substring": "contains(lower(text), lower(?))",
    "regex": "regexp_matches(text, ?)",
}


def _matches(asked: str | int | Sequence[str | int], how: str) -> tuple[str, list[Any]]:
    """A condition on rows of the table of tokens."""
    each = list(asked) if isinstance(asked, Sequence) and not isinstance(asked, str) else [asked]
    if not each:
        raise OptionError("no token to search by")
    conditions = list[str]()
    for one in each:
        if not isinstance(one, str | Integral):
            raise OptionError(f"{one!r} is no token: give its text, or its id")
        if isinstance(one, Integral):
            conditions.append("token = ?")
        elif how in ("exact", "any-case") and not one.strip(" "):
            conditions.append("text = ?")  # spaces are all that it is
        else:
            conditions.append(BY_TEXT[how])
    parameters = [int(one) if isinstance(one, Integral) else one for one in each]
    return "(" + " OR ".join(conditions) + ")", parameters


def _by_token(tokens: Tokens) -> _Condition:
    return _Condition(
        """SELECT *, 2 * share * recall / (share + recall) AS score FROM (
               SELECT feature, sum(share) AS share, sum(n) / ? AS recall,
                      list({share: share, token: token}) AS found
               FROM feature_tokens WHERE token IN (SELECT unnest(?)) GROUP BY feature)""",
        (sum(row["n"] for row in tokens.values()), list(tokens)),
        ("score", "share", "recall", "found"),
    )


def _by_logit(tokens: Tokens) -> _Condition:
    return _Condition(
        """SELECT feature, max(effect) AS score,
                  [max({share: effect, token: token})] AS found
           FROM logits WHERE kind = 'top' AND token IN (SELECT unnest(?)) GROUP BY feature""",
        (list(tokens),),
    )


def _read(found: Iterable[Mapping[str, Any]], tokens: Tokens) -> str:
    """What tokens read, the one with the largest share of the firings first."""
    ranked = sorted(found, key=lambda one: (-one["share"], one["token"]))
    return ", ".join(tokens[one["token"]]["text"] for one in ranked)


def _by_text(text: str) -> _Condition:
    return _Condition(
        """SELECT feature, max(activation) AS score,
                  max({activation: activation, text: text}).text AS found
           FROM (SELECT text, unnest(features) AS feature, unnest(activations) AS activation
                 FROM contexts WHERE contains(lower(text), lower(?))) GROUP BY feature""",
        (text,),
    )


def _by_label(label: str) -> _Condition:
    return _Condition(
        """SELECT feature, max(coalesce(score, 2)) AS score  -- a person's words come first
           FROM labels WHERE shown AND contains(lower(text), lower(?)) GROUP BY feature""",
        (label,),
        (),
    )
