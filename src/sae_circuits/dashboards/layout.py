"""`Layout`: which panels a page shows, in which columns, with which options."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sae_circuits.errors import FileFormatError, OptionError, UnknownName, unknown
from sae_circuits.io.files import bytes_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]  # only there

Option = bool | int | float | str

_LISTED = {"title": str, "n": int}
PANELS: Mapping[str, Mapping[str, type]] = {
    "statistics": {"title": str},
    "labels": {"title": str},
    "activations": {"title": str},
    "logits": {"title": str},
    "density": {"title": str},
    "tokens": _LISTED,
    "firing": _LISTED,
    "neurons": _LISTED,
    "neighbours": _LISTED,
    "probes": _LISTED,
    "heads": {"title": str},
    "connections": _LISTED,
    "examples": {"title": str, "group": str, "examples": int, "context": int, "address": str},
}
READY = ("feature", "prompt", "compact")
GROUPS = ("all", "top", "interval", "quantile", "random")


@dataclass(frozen=True)
class Panel:
    """A part of a feature's page.

    Args:
        panel: its name, one of `PANELS`.
        options: `title` of any; `n`, how many rows of a list; of "examples" the `group` that is
            shown first ("all", a kind such as "top", or one group such as "interval-2"), and how
            many `examples` of each and tokens of `context` on each side; and an `address` of
            where the prompts can be read, with "{prompt}" for a prompt's number in the corpus and,
            if wanted, "{position}", to which each example then links.

    Raises:
        UnknownName: no such panel.
        OptionError: an option that the panel does not have, or a value that it does not take.

    >>> Panel("examples", {"group": "top", "examples": 8}).options["examples"]
    8
    >>> Panel("tokens", {"n": 0})
    Traceback (most recent call last):
        ...
    sae_circuits.errors.OptionError: panel 'tokens': n must be a whole number from 1, not 0
    """

    panel: str
    options: Mapping[str, Option] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.panel not in PANELS:
            raise unknown("panel", self.panel, PANELS)
        for name, value in self.options.items():
            self._check(name, value)

    def _check(self, name: str, value: Option) -> None:
        known = PANELS[self.panel]
        if name not in known:
            raise OptionError(
                f"panel {self.panel!r} has no option {name!r}; it has {', '.join(known)}"
            )
        if known[name] is int and (type(value) is not int or value < 1):
            raise OptionError(
                f"panel {self.panel!r}: {name} must be a whole number from 1, not {value!r}"
            )
        if known[name] is str and not isinstance(value, str):
            raise OptionError(f"panel {self.panel!r}: {name} must be a text, not {value!r}")
        if name == "address" and not _is_address(str(value)):
            raise OptionError(
                f"panel 'examples': address must be of http, https or a file beside the page, with "
                f"{{prompt}} where a prompt's number goes, not {value!r}"
            )
        if name == "group" and str(value).partition("-")[0] not in GROUPS:
            raise OptionError(
                f"panel 'examples': group must be one of {', '.join(GROUPS)}, or one group such "
                f"as 'interval-2', not {value!r}"
            )


@dataclass(frozen=True)
class Column:
    """Panels under each other.

    Args:
        panels: from the top.
        width: in proportion to the other columns'.

    Raises:
        OptionError: a width that is not above 0.
    """

    panels: tuple[Panel, ...]
    width: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.width, bool) or not isinstance(self.width, int | float):
            raise OptionError(f"a column's width must be a number, not {self.width!r}")
        if not 0 < self.width < float("inf"):
            raise OptionError(f"a column's width must be above 0, not {self.width!r}")


@dataclass(frozen=True)
class Layout:
    """Columns of panels. On a narrow screen and on paper they stand under each other.

    Args:
        columns: from the left.

    Raises:
        OptionError: there is no column.

    >>> layout = Layout.of(["activations", "tokens"], [("examples", {"group": "top"})])
    >>> [panel.panel for column in layout.columns for panel in column.panels]
    ['activations', 'tokens', 'examples']
    """

    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        if not self.columns:
            raise OptionError("a layout needs a column: name at least one panel")

    @classmethod
    def of(cls, *columns: Sequence[str | tuple[str, Mapping[str, Option]] | Panel]) -> Layout:
        """Columns of equal width: each panel by its name, or by its name and options."""
        return cls(tuple(Column(tuple(map(_panel, column))) for column in columns))

    @classmethod
    def ready(cls, name: str) -> Layout:
        """One of those that come with the library: "feature", "prompt" or "compact".

        Raises:
            UnknownName: no such layout.

        >>> [column.width for column in Layout.ready("compact").columns]
        [1.0]
        """
        if name not in READY:
            raise unknown("layout", name, READY)
        return cls.load(Path(__file__).parent / "layouts" / f"{name}.toml")

    @classmethod
    def load(cls, path: str | Path) -> Layout:
        """Read a layout from a TOML file: see docs/dashboards.md.

        Raises:
            FileFormatError: no such file, or no layout; the message says where it is wrong.
        """
        path = Path(path)
        try:
            return cls._of_said(tomllib.loads(bytes_of(path).decode()))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise FileFormatError(f"{str(path)!r} is not TOML: {error}") from error
        except (OptionError, UnknownName) as error:
            raise FileFormatError(f"{str(path)!r}: {error}") from error

    @classmethod
    def _of_said(cls, said: Mapping[str, Any]) -> Layout:
        _only(said, {"columns"}, "a layout")
        columns = said.get("columns", [])
        return cls(tuple(_column(one) for one in _tables(columns, "columns")))


def as_layout(layout: Layout | str | None, usual: str = "feature") -> Layout:
    """A layout, one by the name of a ready one, or the usual one."""
    return layout if isinstance(layout, Layout) else Layout.ready(layout or usual)


def _is_address(said: str) -> bool:
    try:
        return urlsplit(said).scheme in ("", "http", "https") and "{prompt}" in said
    except ValueError:
        return False


def _panel(said: str | tuple[str, Mapping[str, Option]] | Panel) -> Panel:
    if isinstance(said, Panel):
        return said
    return Panel(said) if isinstance(said, str) else Panel(*said)


def _column(said: Mapping[str, Any]) -> Column:
    _only(said, {"width", "panels"}, "a column")
    panels = []
    for one in _tables(said.get("panels", []), "columns.panels"):
        options = dict(one)
        if not isinstance(options.get("panel"), str):
            raise OptionError(
                f"columns.panels needs its panel by name, such as panel = 'tokens': {one}"
            )
        panels.append(Panel(options.pop("panel"), options))
    width = said.get("width", 1.0)
    return Column(tuple(panels), float(width) if type(width) is int else width)


def _tables(said: Any, name: str) -> list[Mapping[str, Any]]:
    if not isinstance(said, list) or not all(isinstance(one, dict) for one in said):
        raise OptionError(f"[[{name}]] must be tables, not {said!r:.60}")
    return said


def _only(said: Mapping[str, Any], known: set[str], what: str) -> None:
    if extra := sorted(said.keys() - known):
        raise OptionError(f"{what} has no {extra[0]!r}; it has {', '.join(sorted(known))}")
