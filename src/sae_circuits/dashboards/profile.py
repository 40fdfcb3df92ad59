"""`Profile`: all that a page says of one feature, in plain values that never change.

Lists with a number for each entry are kept as columns, since a page holds thousands of them. What
is undefined is None, and no number is NaN or infinite. Tokens are ids; their texts are kept once,
by the view that holds the profiles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sae_circuits.dashboards.connected import Connected, Differing
from sae_circuits.dashboards.window import Values, Windows

NOTHING = Values()


@dataclass(frozen=True)
class Counts:
    """A histogram.

    Args:
        edges: of the bins, one more than there are bins.
        counts: how many values each holds.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Said:
    """A label: its words, the strategy that made it, and its score if it was tested."""

    text: str
    strategy: str
    score: float | None = None


@dataclass(frozen=True)
class Firing:
    """Tokens on which the feature fires, most often first.

    Args:
        ids: of the tokens.
        counts: how often it fires on each.
        shares: of its firings, those on each.
        recalls: of a token's counted occurrences, those on which it fires.
    """

    ids: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()
    shares: tuple[float, ...] = ()
    recalls: tuple[float, ...] = ()


@dataclass(frozen=True)
class Aligned:
    """Entries of the decoder's row by size: see `neuron_alignment`.

    Args:
        ids: of the neurons, coordinates of where the dictionary writes.
        values: the entries, with their signs.
        shares: of the row's L1 norm.
    """

    ids: tuple[int, ...] = ()
    values: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()


@dataclass(frozen=True)
class Neighbours:
    """What goes with the feature by one measure, the nearest first.

    Args:
        among: "features" of the same dictionary, "neurons", or the name of a second dictionary.
        measure: as the store names it, such as "pearson" or "decoder".
        ids: of the neighbours.
        values: of the measure.
        labels: of the neighbours, where they have one.
    """

    among: str
    measure: str
    ids: tuple[int, ...]
    values: tuple[float, ...]
    labels: tuple[str | None, ...]


@dataclass(frozen=True)
class Probed:
    """What the feature does to the classes of a probe, per unit of activation.

    Args:
        name: of the probe.
        classes: their names, the most raised first.
        values: W_dec[f] carried to the stream, times the probe's direction of each class.
    """

    name: str
    classes: tuple[str, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Group:
    """Examples of one kind.

    Args:
        kind: "top", "interval", "quantile" or "random".
        index: among those of its kind, from 0, the lowest activations first.
        low, high: the activations that its windows are chosen from: (low, high] for an interval;
            all for "top" and "random".
        count: how many active tokens those are.
        windows: its examples.
    """

    kind: str
    index: int
    low: float
    high: float
    count: int
    windows: Windows


@dataclass(frozen=True)
class Profile:
    """One feature.

    Args:
        feature: its id.
        name: where features have names.
        labels: those that are shown, the best first.
        statistics: the store's numbers: see docs/store.md; undefined ones are None.
        activations: histogram of active values; None of a dead feature.
        logits: histogram of the effects on the logits; None where undefined.
        top, bottom: tokens that it makes more and less likely, with the effects.
        effects: the effect on the logit of each token that a window shows, by id, rising.
        firing: the tokens on which it fires.
        neurons: neuron alignment.
        heads: for SAEs on z, each head's share of the decoder's row.
        neighbours: by each measure.
        probes: of the user's.
        groups: examples.
        connections: from outside of the store: see `FeatureView.connect`.
        differing: those about which two methods disagree.
    """

    feature: int
    name: str | None
    labels: tuple[Said, ...]
    statistics: Mapping[str, float | int | str | None]
    activations: Counts | None = None
    logits: Counts | None = None
    top: Values = NOTHING
    bottom: Values = NOTHING
    effects: Values = NOTHING
    firing: Firing = Firing()
    neurons: Aligned = Aligned()
    heads: tuple[float, ...] | None = None
    neighbours: tuple[Neighbours, ...] = ()
    probes: tuple[Probed, ...] = ()
    groups: tuple[Group, ...] = field(default=())
    connections: tuple[Connected, ...] = ()
    differing: tuple[Differing, ...] = ()

    @property
    def label(self) -> str | None:
        """The best label, if there is one."""
        return self.labels[0].text if self.labels else None
