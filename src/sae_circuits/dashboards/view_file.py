"""A view in a file of our own JSON, and back: see docs/dashboards.md.

The columns of a group's windows stand side by side, and of activations those that are not 0, since
a page holds thousands of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from sae_circuits._version import __version__
from sae_circuits.dashboards.profile import Effects, Group, Profile, Values, Window
from sae_circuits.dashboards.views import FeatureView, PromptView
from sae_circuits.errors import FileFormatError
from sae_circuits.io.atomic import write_whole
from sae_circuits.io.files import bytes_of, strict_json

SCHEMA = 1
FORMATS = {FeatureView: "sae-circuits features view", PromptView: "sae-circuits prompt view"}

AnyView = TypeVar("AnyView", FeatureView, PromptView)

_HALVES = re.compile("[\ud800-\udfff]")  # no text file may hold them as they are


def save_view(view: FeatureView | PromptView, path: str | Path) -> Path:
    """Write a view to a file.

    Raises:
        OutputError: the place cannot be written.
    """
    return write_whole(path, text_of(view) + "\n")


def text_of(view: FeatureView | PromptView) -> str:
    """What a view's file says."""
    header = {"format": FORMATS[type(view)], "schema": SCHEMA, "written_by": __version__}
    return dumped({**header, **plain_view(view)})


def load_view(path: str | Path, kind: type[AnyView] = FeatureView) -> AnyView:
    """Read what `save_view` wrote.

    Args:
        kind: of view.

    Raises:
        FileFormatError: no such file, a damaged one, one of another kind, or of a newer version.
    """
    path = Path(path)
    said = strict_json(path, bytes_of(path))
    if not isinstance(said, dict) or said.get("format") != FORMATS[kind]:
        raise FileFormatError(
            f"{str(path)!r} is no {kind.__name__}: {kind.__name__}.save writes one"
        )
    schema = said.get("schema")
    if not isinstance(schema, int) or schema > SCHEMA:
        raise FileFormatError(
            f"{str(path)!r} is in schema {schema}, written by sae-circuits "
            f"{said.get('written_by')}; this version ({__version__}) reads up to {SCHEMA}: "
            "upgrade with 'pip install --upgrade sae-circuits'"
        )
    content = {k: v for k, v in said.items() if k not in ("format", "schema", "written_by")}
    try:
        return made_of(kind, content)
    except (TypeError, KeyError, ValueError, IndexError, AttributeError) as error:
        raise FileFormatError(
            f"{str(path)!r} does not hold what a view holds: {error}; save it again"
        ) from error


def dumped(value: Any) -> str:
    """JSON without white space, and without NaN; halves of characters are escaped."""
    said = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return _HALVES.sub(lambda found: f"\\u{ord(found[0]):04x}", said)


def plain_view(view: FeatureView | PromptView) -> dict[str, Any]:
    """A view in plain values, by the names of its fields."""
    return plain(view)


# -- out -------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """Plain values of what a view holds; fields with their defaults are left out."""
    if isinstance(value, Group):
        found = {f.name: getattr(value, f.name) for f in fields(value)}
        return {**found, "windows": _columns(value.windows)}
    if isinstance(value, Profile):
        found = _fields(value)
        if "effects" in found:
            found["effects"] = list(value.effects.values)
        return found
    if is_dataclass(value):
        return _fields(value)
    if isinstance(value, tuple):
        return [plain(one) for one in value] if value and is_dataclass(value[0]) else list(value)
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    return value


def _fields(value: Any) -> dict[str, Any]:
    every = {f: getattr(value, f.name) for f in fields(value)}
    return {f.name: plain(own) for f, own in every.items() if own != f.default}


def _columns(windows: tuple[Window, ...]) -> dict[str, Any]:
    """Windows as columns; of the activations, those that are not 0, at `active`."""
    active = [[i for i, a in enumerate(one.activations) if a] for one in windows]
    found: dict[str, Any] = {
        name: [getattr(one, name) for one in windows]
        for name in ("prompt", "position", "first", "times")
    }
    found["tokens"] = [list(one.tokens) for one in windows]
    found["active"] = active
    pairs = zip(windows, active, strict=True)
    found["activations"] = [[one.activations[i] for i in own] for one, own in pairs]
    for name in ("quantiles", "ablation", "sources"):
        column = [getattr(one, name) for one in windows]
        if any(one is not None for one in column):
            found[name] = [plain(one) for one in column]
    effects = [one.effects for one in windows]
    if windows and all(one is not None for one in effects):
        found["effects"] = _effects(effects)
    return found


def _effects(effects: list[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: [list(getattr(one, name)) for one in effects]
        for name in ("at", "direct", "before", "without")
    }
    for name in ("helped", "hurt"):
        column = [getattr(one, name) for one in effects]
        found[name] = {
            "ids": [[list(each.ids) for each in own] for own in column],
            "values": [[list(each.values) for each in own] for own in column],
        }
    return found


# -- in --------------------------------------------------------------------------------------------


def made_of(kind: Any, said: Any) -> Any:
    """What plain values stand for.

    Raises:
        TypeError, KeyError, ValueError: they stand for nothing of this kind.
    """
    origin = get_origin(kind)
    if kind is Any:
        return said
    if origin in (Union, UnionType):
        return _of_union(get_args(kind), said)
    if origin is tuple:
        inner = get_args(kind)[0]
        if not isinstance(said, list):
            raise TypeError(f"a list is needed, not {said!r:.40}")
        kinds = set(map(type, said))
        if inner in (int, float, str) and kinds <= {inner}:  # most of a file are these
            return tuple(said)
        return tuple([made_of(inner, one) for one in said])
    if origin is Mapping or (isinstance(origin, type) and issubclass(origin, Mapping)):
        keys, values = get_args(kind)
        return {keys(key): made_of(values, one) for key, one in said.items()}
    if is_dataclass(kind):
        return _of_fields(kind, said)
    return _of_number(kind, said)


def _of_number(kind: Any, said: Any) -> Any:
    if kind is float and type(said) in (int, float):
        return float(said)
    if type(said) is not kind:
        raise TypeError(f"{kind.__name__} is needed, not {said!r:.40}")
    return said


def _of_union(kinds: tuple[Any, ...], said: Any) -> Any:
    if said is None and NoneType in kinds:
        return None
    for kind in kinds:  # exactly, so that whole numbers stay whole
        if type(said) is kind:
            return said
    for kind in kinds:
        if kind is not NoneType:
            return made_of(kind, said)
    raise TypeError(f"{said!r:.40} is needed nowhere")


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _of_fields(kind: Any, said: Any) -> Any:
    if not isinstance(said, dict):
        raise TypeError(f"a {kind.__name__} is needed, not {said!r:.40}")
    if extra := said.keys() - {f.name for f in fields(kind)}:
        raise ValueError(f"a {kind.__name__} has no {sorted(extra)}")
    if kind is Group:
        said = {**said, "windows": None}, said["windows"]
        found = {n: made_of(h, said[0][n]) for n, h in _hints(kind).items() if n != "windows"}
        return Group(**found, windows=_windows(said[1]))
    values = said.get("effects") if kind is Profile else None
    if values is not None:
        said = {name: one for name, one in said.items() if name != "effects"}
    found = {name: made_of(_hints(kind)[name], one) for name, one in said.items()}
    made = kind(**found)
    if values is None:
        return made
    shown = {t for group in made.groups for one in group.windows for t in one.tokens}
    effects = made_of(Values, {"ids": sorted(shown), "values": values})
    if len(effects.ids) != len(effects.values):
        raise ValueError(f"{len(effects.values)} effects on {len(effects.ids)} tokens")
    return replace(made, effects=effects)


def _windows(said: dict[str, Any]) -> tuple[Window, ...]:
    """Windows of columns."""
    said = dict(said)
    active, activations = said.pop("active"), said.pop("activations")
    effects = said.pop("effects", None)
    n = len(said["tokens"])
    every = zip(said["tokens"], active, activations, strict=True)
    columns = {**said, "activations": [_spread(len(t), at, own) for t, at, own in every]}
    columns.setdefault("quantiles", [None] * n)
    if effects is not None:
        columns["effects"] = _effects_of(effects)
    hints = _hints(Window)
    return tuple(
        Window(**{name: made_of(hints[name], one) for name, one in zip(columns, row, strict=True)})
        for row in zip(*columns.values(), strict=True)
    )


def _effects_of(said: dict[str, Any]) -> list[dict[str, Any]]:
    """Effects of each window, of columns."""
    said = dict(said)
    for name in ("helped", "hurt"):
        ids, values = said[name]["ids"], said[name]["values"]
        said[name] = [
            [{"ids": i, "values": v} for i, v in zip(*own, strict=True)]
            for own in zip(ids, values, strict=True)
        ]
    names = [f.name for f in fields(Effects)]
    return [
        dict(zip(names, row, strict=True))
        for row in zip(*(said[name] for name in names), strict=True)
    ]


def _spread(n: int, active: list[int], values: list[float]) -> list[float]:
    found = [0.0] * n
    for i, value in zip(active, values, strict=True):
        found[i] = value
    return found
