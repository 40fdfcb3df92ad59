"""Connections of a feature as pages show them, and where methods disagree about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from sae_circuits.errors import OptionError

STRONG = 10  # of each method, how many connections are compared with the other's
WEAK = 0.1  # of a method's largest value: below this it does not have a connection

DIRECTIONS = ("up", "down")


@dataclass(frozen=True)
class Connected:
    """What a feature is connected with in one direction, by one method, the largest by size first.

    Args:
        direction: "up" for what drives the feature, "down" for what it drives.
        method: "direct", "total", "patching" or "virtual"; or what else says so, such as "in the
            circuit of IOI".
        names: of what is at the other ends, such as "m0.f17".
        values: how strong each connection is, with its sign.
        reference: what upstream ends were set to, where a value is what that changes, such as
            "zero"; "" where a value above 0 means that the upstream end drives the other.

    Raises:
        OptionError: another direction; names and values of different number.

    >>> Connected("up", "total", ("m0.f17", "m0.f3"), (-0.5, 0.1), "zero").title
    'total (zero)'
    """

    direction: str
    method: str
    names: tuple[str, ...]
    values: tuple[float, ...]
    reference: str = ""

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            raise OptionError(f"direction={self.direction!r}: give 'up' or 'down'")
        if len(self.names) != len(self.values):
            raise OptionError(
                f"{len(self.names)} names and {len(self.values)} values: give one value for each"
            )

    @property
    def title(self) -> str:
        """The method, and what upstream ends were set to."""
        return f"{self.method} ({self.reference})" if self.reference else self.method

    @property
    def shares(self) -> dict[str, float]:
        """By name, the part of this method's largest value; above 0 where it drives.

        Where upstream ends were set to zero, what lowers the other end by that drives it.
        """
        largest = max(map(abs, self.values), default=0.0)
        drives = -1 if self.reference == "zero" else 1
        each = zip(self.names, self.values, strict=True)
        return {name: drives * value / largest if largest else 0.0 for name, value in each}


@dataclass(frozen=True)
class Differing:
    """A connection about which two methods disagree.

    Args:
        direction: "up" or "down".
        name: of its other end.
        kind: "sign" or "size".
        methods: the titles of the two.
        values: what each says.
    """

    direction: str
    name: str
    kind: str
    methods: tuple[str, ...]
    values: tuple[float, ...]


def differing(
    connected: Sequence[Connected], k: int = STRONG, weak: float = WEAK
) -> tuple[Differing, ...]:
    """Where methods disagree, two at a time, about what both of them know.

    Two methods are compared where upstream ends were set to the same; where they were set to zero,
    also with those without a reference, as virtual weights. With each value as a part of its
    method's own largest, in one direction, two methods disagree about a connection that is among
    the k largest of one of them

        in sign   where both parts are at least `weak` and their signs are opposite
        in size   where its part is at least `weak`, and the other's is below it

    >>> one = Connected("up", "direct", ("m0.f1", "m0.f2"), (1.0, 0.5))
    >>> other = Connected("up", "total", ("m0.f1", "m0.f2"), (-2.0, 0.1))
    >>> [(found.name, found.kind) for found in differing([one, other])]
    [('m0.f1', 'sign'), ('m0.f2', 'size')]
    """
    return tuple(
        found
        for direction in DIRECTIONS
        for one, other in combinations([c for c in connected if c.direction == direction], 2)
        if _comparable(one, other)
        for found in _of_two(one, other, k, weak)
    )


def _comparable(one: Connected, other: Connected) -> bool:
    kinds = {one.reference, other.reference}
    return len(kinds) == 1 or kinds == {"", "zero"}


def _of_two(one: Connected, other: Connected, k: int, weak: float) -> Iterator[Differing]:
    shares, ways = (one.shares, other.shares), (one.title, other.title)
    strongest = [sorted(own, key=lambda name: -abs(own[name]))[:k] for own in shares]
    values = [dict(zip(c.names, c.values, strict=True)) for c in (one, other)]
    for name in dict.fromkeys([*strongest[0], *strongest[1]]):
        if not all(name in own for own in shares):
            continue  # one of them does not know
        a, b = (own[name] for own in shares)
        has = [abs(a) >= weak, abs(b) >= weak]
        said = one.direction, name
        both = ways, (values[0][name], values[1][name])
        if all(has) and a * b < 0:
            yield Differing(*said, "sign", *both)
        elif any(has) and not all(has) and name in strongest[has.index(True)]:
            yield Differing(*said, "size", *both)
