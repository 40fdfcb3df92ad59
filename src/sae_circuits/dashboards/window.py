"""`Windows`: examples of a feature, kept as columns, since a page holds thousands of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, overload


@dataclass(frozen=True)
class Values:
    """Some things, by id, with a number each: tokens, neurons, features or positions."""

    ids: tuple[int, ...] = ()
    values: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Effects:
    """What the feature does to some tokens of a window, through its activation one token before.

    Columns have an entry for each of `at`; all other tokens follow an activation of 0, and their
    direct effects are 0.

    Args:
        at: which tokens of the window, from 0.
        direct: direct loss effects, in nats; above 0 the feature helps.
        before: the token's probability as it is.
        without: its probability without the feature's direct write.
        helped: the tokens of the vocabulary whose log probability the feature raises most, and by
            how much.
        hurt: those that it lowers most.
    """

    at: tuple[int, ...]
    direct: tuple[float, ...]
    before: tuple[float, ...]
    without: tuple[float, ...]
    helped: tuple[Values, ...]
    hurt: tuple[Values, ...]


@dataclass(frozen=True)
class Window:
    """A token on which the feature is active, with the tokens around it.

    Args:
        prompt: of the corpus.
        position: of the token in the prompt.
        first: the position of the window's first token.
        times: how often the feature is active where the same tokens stand around.
        tokens: ids of all tokens of the window.
        activations: of the feature, on each of them.
        quantiles: for each activation that is not 0, in order, the share of the feature's active
            tokens with an activation no larger; None where the store does not hold activations.
        effects: direct effects, where they were asked for.
        ablation: ablation loss effects on every token of the window (None at a prompt's first
            token), where they were asked for.
        sources: for SAEs on z, the positions from which attention brought what the feature reads at
            the token, and what each gives to its pre-activation, the largest first.
    """

    prompt: int
    position: int
    first: int
    times: int
    tokens: tuple[int, ...]
    activations: tuple[float, ...]
    quantiles: tuple[float, ...] | None
    effects: Effects | None = None
    ablation: tuple[float | None, ...] | None = None
    sources: Values | None = None


@dataclass(frozen=True)
class EachToken:
    """The `Values` of each token of each window."""

    ids: tuple[tuple[tuple[int, ...], ...], ...]
    values: tuple[tuple[tuple[float, ...], ...], ...]

    def of(self, i: int) -> tuple[Values, ...]:
        """Of the tokens of one window."""
        return tuple(map(Values, self.ids[i], self.values[i]))

    @classmethod
    def from_rows(cls, rows: Iterable[Sequence[Values]]) -> EachToken:
        """From those of each window."""
        rows = tuple(rows)
        ids = tuple(tuple(each.ids for each in row) for row in rows)
        return cls(ids, tuple(tuple(each.values for each in row) for row in rows))


@dataclass(frozen=True)
class EachEffects:
    """The `Effects` of each window."""

    at: tuple[tuple[int, ...], ...]
    direct: tuple[tuple[float, ...], ...]
    before: tuple[tuple[float, ...], ...]
    without: tuple[tuple[float, ...], ...]
    helped: EachToken
    hurt: EachToken

    def of(self, i: int) -> Effects:
        """Of one window."""
        flat = {name: getattr(self, name)[i] for name in _FLAT}
        return Effects(**flat, helped=self.helped.of(i), hurt=self.hurt.of(i))

    @classmethod
    def from_rows(cls, rows: Sequence[Effects]) -> EachEffects:
        """From those of each window."""
        flat = {name: _column(rows, name) for name in _FLAT}
        lists = (EachToken.from_rows(_column(rows, name)) for name in ("helped", "hurt"))
        return cls(**flat, helped=next(lists), hurt=next(lists))


_FLAT = ("at", "direct", "before", "without")


def _column(rows: Sequence[Any], name: str) -> tuple[Any, ...]:
    """A field of some values."""
    return tuple(getattr(one, name) for one in rows)


@dataclass(frozen=True)
class Windows(Sequence[Window]):
    """Some windows, as a sequence of `Window`, whose fields are the columns.

    Args:
        active: of each window, which of its tokens the feature is active on, rising.
        activations: of these tokens alone.
        quantiles, effects, ablation, sources: of all windows, or None.

    Raises:
        ValueError: columns of unlike lengths.
    """

    prompt: tuple[int, ...]
    position: tuple[int, ...]
    first: tuple[int, ...]
    times: tuple[int, ...]
    tokens: tuple[tuple[int, ...], ...]
    active: tuple[tuple[int, ...], ...]
    activations: tuple[tuple[float, ...], ...]
    quantiles: tuple[tuple[float, ...], ...] | None = None
    effects: EachEffects | None = None
    ablation: tuple[tuple[float | None, ...], ...] | None = None
    sources: tuple[Values, ...] | None = None

    def __post_init__(self) -> None:
        known = (getattr(self, field.name) for field in fields(self))
        columns = [c for c in known if isinstance(c, tuple)]
        columns += [getattr(self.effects, name) for name in _FLAT if self.effects]
        columns += [getattr(each, name) for each in self._lists for name in ("ids", "values")]
        if any(len(column) != len(self.prompt) for column in columns):
            raise ValueError(f"columns of {sorted({len(c) for c in columns})} windows")
        each = zip(self.tokens, self.active, self.activations, strict=True)
        if any(len(a) != len(v) or (a and not 0 <= a[0] <= a[-1] < len(t)) for t, a, v in each):
            raise ValueError("activations of other tokens than a window has")

    @property
    def _lists(self) -> tuple[EachToken, ...]:
        return (self.effects.helped, self.effects.hurt) if self.effects else ()

    # -- as a sequence ---------------------------------------------------------------------------

    @classmethod
    def from_rows(cls, rows: Iterable[Window]) -> Windows:
        """Of windows of which all have effects, ablations and sources, or none.

        >>> Windows.from_rows([Window(0, 1, 0, 1, (5, 7), (0.0, 2.5), None)]).active
        ((1,),)
        """
        rows = tuple(rows)
        active = tuple(tuple(i for i, a in enumerate(one.activations) if a) for one in rows)
        pairs = zip(rows, active, strict=True)
        found: dict[str, Any] = {name: _column(rows, name) for name in (*_PLAIN, *_MORE)}
        found["activations"] = tuple(tuple(one.activations[i] for i in at) for one, at in pairs)
        if rows and rows[0].effects is not None:
            found["effects"] = EachEffects.from_rows(_column(rows, "effects"))
        for name in _MORE:
            if not rows or found[name][0] is None:
                found[name] = None
        return cls(**found, active=active)

    def __len__(self) -> int:
        return len(self.prompt)

    @overload
    def __getitem__(self, i: int) -> Window: ...
    @overload
    def __getitem__(self, i: slice) -> Windows: ...
    def __getitem__(self, i: int | slice) -> Window | Windows:
        return _cut(self, i) if isinstance(i, slice) else self._at(range(len(self))[i])

    def __iter__(self) -> Iterator[Window]:
        return map(self._at, range(len(self)))

    def _at(self, i: int) -> Window:
        activations = [0.0] * len(self.tokens[i])
        for at, value in zip(self.active[i], self.activations[i], strict=True):
            activations[at] = value
        plain = (getattr(self, name)[i] for name in _PLAIN)
        more = ((name, getattr(self, name)) for name in _MORE)
        found = {name: column and column[i] for name, column in more}
        effects = None if self.effects is None else self.effects.of(i)
        return Window(*plain, activations=tuple(activations), effects=effects, **found)

    @property
    def shown(self) -> set[int]:
        """Ids of all tokens that stand in the windows, or are helped or hurt there."""
        lists = (ids for each in self._lists for row in each.ids for ids in row)
        return set().union(*self.tokens, *lists)


def _cut(column: Any, some: slice) -> Any:
    """Some rows of a column, or of all columns of a value that holds them."""
    if column is None or isinstance(column, tuple):
        return column and column[some]
    return type(column)(*(_cut(each, some) for each in vars(column).values()))


_PLAIN = ("prompt", "position", "first", "times", "tokens")
_MORE = ("quantiles", "ablation", "sources")  # that may be None
