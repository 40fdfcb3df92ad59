"""What is asked of steering, checked: which features change how, where and how far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from sae_circuits.errors import DictionaryError, OptionError, unknown
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries import Dictionary, load_saes

AMOUNTS = ("add", "set", "scale")
WORDS = ("remove", "project")
_WAYS = "('add', 4.0), ('set', 1.0), ('scale', 2.0), 'remove' or 'project'"

Change = tuple[str, float] | str
Changes = Change | Mapping[str | int, Change]
"""A change of all features, or one for each of some by name or number."""


def one_dictionary(adapter: Adapter, dictionary: Any) -> Dictionary:
    """One dictionary on the model's device, that fits it and writes at one site.

    Raises:
        DictionaryError: a name, several, or one that does not fit.
    """
    if isinstance(dictionary, str):
        raise DictionaryError(
            f"{dictionary!r} is a name: load one dictionary, by sc.load_saes(...)[0]"
        )
    found = load_saes(dictionary, device=adapter.device)
    if len(found) != 1:
        raise DictionaryError(f"{len(found)} dictionaries: steer with one, or in nested blocks")
    found[0].require_fits(adapter.architecture)
    if len(found[0].writes) > 1:
        raise DictionaryError(
            f"{found[0]!r} writes to {len(found[0].writes)} layers: steer with one that writes to "
            "one"
        )
    return found[0]


def changes_by_feature(d: Dictionary, changes: Changes) -> dict[int, tuple[str, float]]:
    """The change of each feature, by number.

    Raises:
        OptionError: a change that is none, or two of one feature.
        UnknownName: a feature that the dictionary does not have.
    """
    if not isinstance(changes, Mapping):
        change = _pair("all features", changes)
        return dict.fromkeys(range(d.n_features), change)
    if not changes:
        raise OptionError(f"there are no changes: give one for all features, {_WAYS}")
    found: dict[int, tuple[str, float]] = {}
    for name, change in changes.items():
        index = feature_of(d, name)
        if index in found:
            raise OptionError(f"feature {index} has two changes: give it one")
        found[index] = _pair(f"feature {name!r}", change)
    return found


def feature_of(d: Dictionary, name: str | int) -> int:
    """The number of a feature, by number or name.

    Raises:
        UnknownName: with what there is.
    """
    if isinstance(name, str) and d.names is not None and name in d.names:
        return d.names.index(name)
    if isinstance(name, str):
        raise unknown(f"feature of {d!r}", name, d.names or ("its features have numbers alone",))
    if isinstance(name, bool) or not 0 <= name < d.n_features:
        raise unknown(f"feature of {d!r}", name, (f"0 to {d.n_features - 1}",))
    return name


def _pair(whose: str, change: Any) -> tuple[str, float]:
    """What is done and by how much."""
    if isinstance(change, str):
        if change not in WORDS:
            raise OptionError(f"the change of {whose} is {change!r}: give {_WAYS}")
        return ("scale", 0.0) if change == "remove" else ("project", 0.0)
    if not isinstance(change, tuple) or len(change) != 2 or change[0] not in AMOUNTS:
        raise OptionError(f"the change of {whose} is {change!r}: give {_WAYS}")
    kind, amount = change
    if not isinstance(amount, Real) or not abs(float(amount)) < float("inf"):
        raise OptionError(f"the amount of {whose} is {amount!r}: give a finite number")
    return kind, float(amount)


def positions_of(adapter: Adapter, positions: int | Sequence[int] | None) -> tuple[int, ...] | None:
    """The positions, or None for all.

    Raises:
        OptionError: none, or one that no text of the model's context has.
    """
    if positions is None:
        return None
    found = (positions,) if isinstance(positions, int) else tuple(positions)
    most = adapter.architecture.n_ctx
    if not found:
        raise OptionError("there are no positions: give some, or None for all tokens")
    for pos in found:
        if pos < 0 or (most and pos >= most):
            raise OptionError(
                f"position {pos} is outside of what {adapter.architecture.model!r} reads: take 0 "
                f"to {most - 1 if most else 'the last token'}, counted from the first token"
            )
    return found


def in_words(d: Dictionary, wanted: Mapping[int, tuple[str, float]]) -> str:
    """Changes as a line of text."""

    def said(f: int, kind: str, amount: float) -> str:
        name = d.names[f] if d.names else f"f{f}"
        return f"project out {name}" if kind == "project" else f"{kind} {amount:g} {name}"

    some = [said(f, *change) for f, change in list(wanted.items())[:3]]
    more = len(wanted) - len(some)
    return ", ".join(some) + (f" and {more:,} more" if more else "")


def require_strength(strength: object) -> None:
    """Refuse what is no finite number.

    Raises:
        OptionError: with what was given.
    """
    if not isinstance(strength, Real) or not abs(float(strength)) < float("inf"):
        raise OptionError(f"the strength is {strength!r}: give a finite number, 0 for no change")
