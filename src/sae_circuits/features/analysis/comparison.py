"""Two dictionaries at one site: which features of the one the other has too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sae_circuits.errors import DictionaryError
from sae_circuits.features.asked import require_decoder
from sae_circuits.features.columns import Activity
from sae_circuits.features.decoders import nearest_decoders, unit_rows
from sae_circuits.features.frames import table
from sae_circuits.features.relations import correlations
from sae_circuits.models.dictionaries import Dictionary

if TYPE_CHECKING:
    import pandas

MATCH = 0.7
"""The cosine, and the correlation, from which two features count as one by default."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """What of one dictionary another one has too.

    Args:
        table: one row for each feature of the first: `feature`; `by_decoder`, the feature of the
            second with the largest decoder cosine, and that `cosine`; `by_activity`, the one with
            the largest Pearson correlation over the counted tokens, that `pearson`, and on how many
            tokens both are active, `together`; `agree`: both are the same feature. What is
            undefined, or was not asked for, is missing.
        matched_by_decoder: of the first's features that have a nearest one, the share whose cosine
            is at least `least`; NaN if none has.
        matched_by_activity: the same for correlations.
        least: from where on two features count as one.
    """

    table: pandas.DataFrame
    matched_by_decoder: float
    matched_by_activity: float
    least: float


def compare(
    a: Dictionary,
    b: Dictionary,
    activities: tuple[Activity, Activity] | None = None,
    *,
    least: float = MATCH,
) -> Comparison:
    """Find for each feature of a dictionary the nearest feature of another at the same site.

    It has a direction: `compare(b, a)` says what of b is in a.

    Args:
        a, b: dictionaries that write to the same site, of any size and architecture.
        activities: of both, on the same counted tokens, for the correlations.
        least: the cosine, and the correlation, from which two features count as one.

    Raises:
        DictionaryError: they write to different sites or widths, or an activity is of another one.
        CorpusError: the activities are of different tokens.
    """
    if a.writes[0] != b.writes[0] or a.W_dec.shape[1] != b.W_dec.shape[1]:
        raise DictionaryError(
            f"{a!r} and {b!r} write {a.W_dec.shape[1]} and {b.W_dec.shape[1]} numbers at "
            f"{a.writes[0].name} and {b.writes[0].name}: compare two at one site"
        )
    if activities is not None:
        for dictionary, activity in zip((a, b), activities, strict=True):
            require_decoder(dictionary.W_dec, activity)
    ids = np.arange(a.n_features)
    near = nearest_decoders(unit_rows(a.W_dec), unit_rows(b.W_dec), ids, 1, same=False)
    found = table({"feature": ids}).set_index("feature")
    found["by_decoder"] = table({"x": near.other}).set_index(near.feature)["x"]
    found["cosine"] = table({"x": near.value}).set_index(near.feature)["x"]
    names = {"by_activity": "other", "pearson": "value", "together": "together"}
    if activities is None:
        found = found.assign(**dict.fromkeys(names, np.nan))
    else:
        pairs = correlations(activities[0], 1, measures=["pearson"], other=activities[1])
        for name, column in names.items():
            found[name] = pairs.set_index("feature")[column]
    agree = (found.by_decoder == found.by_activity).astype("boolean")
    found["agree"] = agree.mask(found.by_decoder.isna() | found.by_activity.isna())
    counted = ["by_decoder", "by_activity", "together"]
    found = found.astype(dict.fromkeys(counted, "Int64")).reset_index()
    by_decoder, by_activity = (_share(found[name], least) for name in ("cosine", "pearson"))
    return Comparison(found, by_decoder, by_activity, least)


def _share(values: pandas.Series, least: float) -> float:
    known = values.dropna()
    return float((known >= least).mean()) if len(known) else np.nan
