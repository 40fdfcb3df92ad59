"""A view in a file of our own JSON, and back: see docs/dashboards.md.

Its fields are those of the dataclasses that make up a view, without those that are as by default.
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

import orjson

from sae_circuits._version import __version__
from sae_circuits.dashboards.connectome_view import ConnectomeView
from sae_circuits.dashboards.profile import Profile
from sae_circuits.dashboards.prompt_view import PromptView
from sae_circuits.dashboards.views import FeatureView
from sae_circuits.dashboards.window import Values
from sae_circuits.disk.atomic import write_whole
from sae_circuits.errors import FileFormatError
from sae_circuits.io.files import bytes_of, strict_json

SCHEMA = 2  # since which connections have directions and methods
FORMATS: Mapping[type, str] = {
    FeatureView: "sae-circuits features view",
    PromptView: "sae-circuits prompt view",
    ConnectomeView: "sae-circuits connectome view",
}

View = FeatureView | PromptView | ConnectomeView
AnyView = TypeVar("AnyView", FeatureView, PromptView, ConnectomeView)

_HALVES = re.compile("[\ud800-\udfff]")  # no text file may hold them as they are


def save_view(view: View, path: str | Path) -> Path:
    """Write a view to a file.

    Raises:
        OutputError: the place cannot be written.
    """
    return write_whole(path, text_of(view) + "\n")


def text_of(view: View) -> str:
    """What a view's file says."""
    header = {"format": FORMATS[type(view)], "schema": SCHEMA, "written_by": __version__}
    return dumped({**header, **plain_view(view)})


def load_view(path: str | Path, kind: type[AnyView] = FeatureView) -> AnyView:
    """Read what `save_view` wrote.

    Args:
        kind: of view.

    Raises:
        FileFormatError: no such file, a damaged one, one of another kind, or of a newer version;
            one of schema 1 that has connections.
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
    if schema < 2 and _has_connections(said):
        raise FileFormatError(
            f"{str(path)!r} is in schema {schema}, which kept connections without their directions "
            f"and methods; this version ({__version__}) writes schema {SCHEMA}: build the view "
            "again, and connect its features with FeatureView.connect"
        )
    content = {k: v for k, v in said.items() if k not in ("format", "schema", "written_by")}
    try:
        return made_of(kind, content)
    except (TypeError, KeyError, ValueError, IndexError, AttributeError) as error:
        raise FileFormatError(
            f"{str(path)!r} does not hold what a view holds: {error}; save it again"
        ) from error


def _has_connections(said: dict[str, Any]) -> bool:
    held = said.get("view", said)
    profiles = held.get("profiles") if isinstance(held, dict) else None
    every = profiles if isinstance(profiles, list) else []
    return any(isinstance(one, dict) and one.get("connections") for one in every)


def dumped(value: Any) -> str:
    """JSON without white space, and without NaN; halves of characters are escaped."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # of halves, among else
        said = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        return _HALVES.sub(lambda found: f"\\u{ord(found[0]):04x}", said)


def plain_view(view: View) -> dict[str, Any]:
    """A view in plain values, by the names of its fields."""
    return plain(view)


# -- out -------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """Plain values of what a view holds; fields with their defaults are left out."""
    kind = type(value)
    if kind in _ALREADY:
        return value
    if kind is tuple:
        return [plain(one) for one in value] if value and is_dataclass(value[0]) else value
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if not is_dataclass(kind):
        return value
    defaults = _defaults(kind)
    found = {name: plain(own) for name, own in vars(value).items() if own != defaults[name]}
    if kind is Profile and "effects" in found:  # on the tokens that windows show
        found["effects"] = value.effects.values
    return found


_ALREADY = {int, float, str, bool, NoneType}


@cache
def _defaults(kind: Any) -> dict[str, Any]:
    return {field.name: field.default for field in fields(kind)}


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
    values = said.get("effects") if kind is Profile else None
    if values is not None:
        said = {name: one for name, one in said.items() if name != "effects"}
    found = {name: made_of(_hints(kind)[name], one) for name, one in said.items()}
    made = kind(**found)
    if values is None:
        return made
    shown = {t for group in made.groups for one in group.windows.tokens for t in one}
    effects = made_of(Values, {"ids": sorted(shown), "values": values})
    if len(effects.ids) != len(effects.values):
        raise ValueError(f"{len(effects.values)} effects on {len(effects.ids)} tokens")
    return replace(made, effects=effects)
