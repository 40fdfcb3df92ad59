"""What a strategy is: from the activations of features to labels that foretell them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from sae_circuits.errors import unknown
from sae_circuits.features.columns import Columns
from sae_circuits.features.labels.parts import Part, Places

Predicate = Callable[[Part], Places]


class Untested(Exception):  # noqa: N818  it is caught, and becomes a label without numbers
    """What a predicate raises to say why it foretells nothing: a language model does not answer."""


@dataclass(frozen=True)
class Proposal:
    """A label before its test.

    Args:
        feature: its id.
        text: what people read.
        predicts: of a part of a corpus, the places at which the label says that the feature fires;
            those outside the part do not count. None where a label says nothing of the kind.
        provenance: what it was made from, as plain values that JSON knows.
        vouched: whether it is shown though there is nothing to test, since somebody wrote it.
        sample: of the held-out part and the feature's places in it, a smaller part to test on,
            where `predicts` costs too much.
    """

    feature: int
    text: str
    predicts: Predicate | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    vouched: bool = False
    sample: Callable[[Part, Places], Part] | None = None


@dataclass(frozen=True)
class LeftOut:
    """A feature that should have a label and has none, since who was asked for it did not answer.

    Args:
        feature: its id.
        reason: why; the same text for features that have it in common.
    """

    feature: int
    reason: str


@dataclass(frozen=True, eq=False)
class Setting:
    """What all strategies get.

    Args:
        part: the half of the prompts that labels are made from.
        n_features: of the dictionary.
        seed: for what is drawn.
        workers: how many share what may be used, such as calls.
        used: how much of it went into features that are done, by the names of `Counting`.
    """

    part: Part
    n_features: int
    seed: int = 0
    workers: int = 1
    used: Mapping[str, int] = field(default_factory=dict)


Propose = Callable[[Columns], Iterator[Proposal | LeftOut]]


@runtime_checkable
class Counting(Protocol):
    """A function that proposes, and counts what it uses of something that is limited."""

    @property
    def used(self) -> Mapping[str, int]:
        """How much so far, by name."""
        ...


@dataclass(frozen=True)
class Strategy:
    """A way of making labels.

    Args:
        name: what users call it.
        make: from a `Setting` and the options to a function that gets the activations of some
            features, on the prompts that labels are made from, and gives their proposals. What is
            needed once, and what can be wrong with options, belongs into `make`.
        options: those it takes, with their defaults.
        reference: where it was published.
        means: of the options those that have no say in what a label is, such as a timeout.
        reads: of the options those that are files, whose content decides.
        alone: whether each feature is labelled, and kept, by itself, since to ask again is dear.
    """

    name: str
    make: Callable[..., Propose]
    options: Mapping[str, Any] = field(default_factory=dict)
    reference: str = ""
    means: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    alone: bool = False

    def __call__(self, setting: Setting, options: Mapping[str, Any]) -> Propose:
        """The function that proposes, with some options other than by default.

        Raises:
            UnknownName: an option that it does not have.
        """
        for name in options:
            if name not in self.options:
                raise unknown(f"option of strategy {self.name!r}", name, self.options)
        return self.make(setting, **{**self.options, **options})
