"""Connections written down by hand: of a view of features, and a connectome of two targets."""

from __future__ import annotations

import math
import random

import made_page
from made_page import HELL
from sae_circuits.dashboards.connected import Connected, differing
from sae_circuits.dashboards.connectome_view import ConnectomeView, Drawn, Target
from sae_circuits.dashboards.listed import Listed
from sae_circuits.dashboards.places import Hosted
from sae_circuits.dashboards.profile import Counts
from sae_circuits.dashboards.views import FeatureView

LABELS = ("names of people", "verbs of giving", None, "the end of a sentence", "weather, at night")
HELL_LABEL = "</script><img src=x onerror='window.broken = 1'>"
LINKS = {"m0": "../m0/index.html"}


def values(seed: int, n: int) -> tuple[float, ...]:
    """Sizes that fall, with signs, the largest first."""
    dice = random.Random(seed)
    return tuple(
        round(0.8 * math.exp(-i / 7) * dice.choice((-1, -1, 1)) * dice.uniform(0.9, 1), 4)
        for i in range(n)
    )


def counts(seed: int) -> Counts:
    """A histogram with a tail."""
    dice = random.Random(seed)
    falls = [200 * math.exp(-i / (2 + seed % 5)) for i in range(20)]
    bars = tuple(round(x * dice.uniform(0.7, 1)) for x in falls)
    return Counts(tuple(i * 0.4 for i in range(21)), bars)


def upstream(n: int) -> tuple[str, ...]:
    """Names of features of two dictionaries, one after the other."""
    return tuple(f"{('m0', 'a0')[i % 3 == 2]}.f{3 + 7 * i}" for i in range(n))


def connected() -> tuple[Connected, ...]:
    """By three methods up, and by one down: what `differing` finds in it stands in tests."""
    names, total = upstream(18), values(1, 18)
    direct = (*total[:2], -total[2], *(0.6 * x for x in total[3:16]), 0.0, 0.0)
    down = tuple(f"post1.f{5 + i}" for i in range(5))
    return (
        Connected("up", "total", names, total, "zero"),
        Connected("up", "direct", names, tuple(round(x, 4) for x in direct), "zero"),
        Connected("up", "patching", names[:4], tuple(round(1.1 * x, 4) for x in total[:4]), "zero"),
        Connected("up", "virtual", names[:6], (-0.9, 0.8, 0.7, 0.5, 0.05, -0.4)),
        Connected("down", "total", (*down, "m1.f17"), (0.7, -0.5, 0.3, 0.1, -0.08, 0.05), "zero"),
    )


def listed() -> tuple[Listed, ...]:
    """What is known of most of them, in short."""
    names = (*upstream(16), "post1.f5", "post1.f6", "m1.f3")
    known = tuple(
        Listed(name, LABELS[i % 5], counts(i), (" Mary", " gave"))
        for i, name in enumerate(names)
    )  # fmt: skip
    return (*known, Listed("post1.f9", None, None, (" weather",)))


LISTED = {one.name: one for one in listed()}
COUNTS = {one.name: one.activations.counts for one in listed() if one.activations}


def view() -> FeatureView:
    """The made view of features, one of which has connections."""
    made = made_page.view()
    found = made.connect({3: connected()})
    return FeatureView(
        found.about, found.texts, found.profiles, listed(), (Hosted("post1", "demo/1-res"),)
    )


def connectome() -> ConnectomeView:
    """Two targets, of which one is upstream of the other."""
    first = connected()
    second = (
        Connected("up", "total", ("m1.f3", "m0.f10"), (-0.05, 0.02), "zero"),
        Connected("down", "virtual", ("post1.f5",), (0.4,)),
    )
    targets = (Target("m1.f3", first, differing(first)), Target("m1.f17", second))
    return ConnectomeView(
        about("A made connectome"), targets, listed(), (Hosted("post1", "demo/1-res"),)
    )


def of_hell() -> ConnectomeView:
    """Names, labels, tokens and methods that try to break out."""
    tokens = tuple(HELL[i] for i in sorted(HELL))
    names = ("m0.f1", "<b>", "</script>", "__proto__", "constructor")
    ways = (
        Connected("up", "</script><i>", names, (0.5, -0.4, 0.3, 0.2, 0.1), "<!--"),
        Connected("up", "two", names[:2], (-0.5, -0.4), "<!--"),
    )
    known = (
        Listed("m0.f1", HELL_LABEL, counts(1), tokens),
        Listed("m1.f50", HELL_LABEL, None, tokens),
    )
    hosted = (Hosted("m0", "x/../y"), Hosted("m1", 'demo/"><script>'))
    targets = (Target("m1.f50", ways, differing(ways)),)
    return ConnectomeView(about("</title><script>"), targets, known, hosted)


def about(title: str) -> Drawn:
    """Of a made model."""
    return Drawn(title, "made", ("total (zero)", "direct (zero)"), {"version": "made"})
