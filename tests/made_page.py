"""A view written down by hand: features as they are, odd ones, and tokens from hell."""

from __future__ import annotations

import math
import random
from dataclasses import replace

from sae_circuits.dashboards.profile import (
    Aligned,
    Counts,
    Firing,
    Group,
    Neighbours,
    Probed,
    Profile,
    Said,
)
from sae_circuits.dashboards.views import About, FeatureView
from sae_circuits.dashboards.window import Effects, Values, Window, Windows

WORDS = [
    *(f" {word}" for word in "the Mary and John went to store gave a drink".split()),
    "When", ",", ".", "\n",
    *(f" {word}" for word in "she said that he was not sure of it but would try again in".split()),
    *(f" {word}" for word in "morning because rain had fallen all night".split()),
]  # fmt: skip

HELL = {
    100: "<|endoftext|>", 101: "</script>", 102: "<!--", 103: "<img src=x onerror=alert(1)>",
    104: "&amp;", 105: '"', 106: "'", 107: "\\", 108: "`", 109: "${x}", 110: "|", 111: "\n",
    112: "\t", 113: "\u2028", 114: "\u200b", 115: "שלום", 116: "<0xF0>", 117: "", 118: " ",
    119: "\u202e", 120: "👩\u200d🚀", 121: "-->", 122: "]]>", 123: "{{ 7 * 7 }}", 124: "\x00",
    125: "\ud83d",
}  # fmt: skip

TEXTS = {**dict(enumerate(WORDS)), **HELL}


def seen(text: str) -> str:
    """What the page shows of a token."""
    known = {"": "empty", "\n": "↵", "\t": "⇥", "\x00": "U+0000", "\u2028": "U+2028",
             "\u200b": "U+200B", "\u202e": "U+202E", "\ud83d": "U+D83D"}  # fmt: skip
    return known.get(text, text)


def view(*profiles: Profile, title: str = "A made view", **about: object) -> FeatureView:
    """A view of some profiles; of those below where none is given."""
    said = About(
        title=title, dictionary="blocks.1.hook_mlp_out", model="made", corpus="made up",
        features=64, tokens=12_000, dead=9, gap="",
        densities=Counts((-4.0, -3.5, -3.0, -2.5, -2.0, -1.5, -1.0, -0.5), (1, 3, 9, 17, 15, 7, 3)),
        provenance={"version": "made", "corpus": "0" * 16}, place="m1",
    )  # fmt: skip
    return FeatureView(replace(said, **about), TEXTS, profiles or usual())


def usual() -> tuple[Profile, ...]:
    """A feature with all that there is, neighbours of it, one of hell, and a dead one."""
    return (
        full(3, "gives or hands over"), full(17, "weather, at night"), full(42, None),
        of_hell(50), dead(60),
    )  # fmt: skip


def full(feature: int, label: str | None) -> Profile:
    """A feature with something in every panel."""
    dice = random.Random(feature)
    tokens = list(range(len(WORDS)))
    windows = [window(dice, tokens) for _ in range(30)]
    return Profile(
        feature=feature,
        name=None,
        labels=(Said(label, "logits", 0.71), Said("another: " + label, "tokens")) if label else (),
        statistics=statistics(0.0312 * (1 + feature / 20), type="moderate"),
        activations=Counts(
            tuple(i * 0.25 for i in range(41)),
            tuple(round(380 * math.exp(-i / 9) * dice.uniform(0.8, 1.2)) for i in range(40)),
        ),
        logits=Counts(
            tuple(-1.2 + i * 0.06 for i in range(41)),
            tuple(round(400 * math.exp(-(((i - 20) / 6) ** 2))) for i in range(40)),
        ),
        top=Values(tuple(tokens[:12]), tuple(1.23 - 0.05 * i for i in range(12))),
        bottom=Values(tuple(tokens[12:24]), tuple(-0.98 + 0.04 * i for i in range(12))),
        effects=Values(tuple(tokens), tuple(math.sin(i) for i in tokens)),
        firing=Firing(
            (7, 3, 1), (120, 33, 4), (0.6, 0.165, 0.02), (0.9, 0.25, 0.011)
        ),
        neurons=Aligned((7, 2, 31), (0.51, -0.33, 0.1), (0.2, 0.13, 0.04)),
        heads=(0.55, 0.25, 0.15, 0.05),
        neighbours=(
            Neighbours("features", "pearson", (17, 3, 999), (0.8, -0.4, 0.3), (None, None, "off")),
            Neighbours("features", "decoder", (42, 50), (0.31, 0.22), (None, None)),
            Neighbours("neurons", "cosine", (5, 6), (0.61, 0.5), (None, None)),
            Neighbours("resid_post.1", "jaccard", (88, 3), (0.4, 0.1), ("verbs of giving", None)),
        ),
        probes=(Probed("part of speech", ("verb", "noun", "other"), (0.8, 0.0, -0.6)),),
        groups=(
            Group("top", 0, 0.0, 10.0, 3000, Windows.from_rows(windows[:12])),
            Group("interval", 0, 0.0, 5.0, 2900, Windows.from_rows(windows[12:16])),
            Group("interval", 1, 5.0, 10.0, 100, Windows.from_rows(windows[16:20])),
            Group("quantile", 0, 0.01, 0.4, 1500, Windows.from_rows(windows[20:24])),
            Group("random", 0, 0.0, 10.0, 3000, Windows.from_rows(windows[24:])),
        ),
    )  # fmt: skip


def window(dice: random.Random, tokens: list[int], n: int = 24) -> Window:
    """Tokens of which a few are active, with effects at those that follow."""
    ids = tuple(dice.choice(tokens) for _ in range(n))
    active = sorted({n // 2, *dice.sample(range(1, n - 1), 4)})
    values = {i: round(dice.uniform(0.2, 8.0), 3) for i in active} | {n // 2: 9.5}
    at = tuple(i + 1 for i in active)
    top = Values((3, 5, 9), (0.9, 0.4, 0.2))
    low = Values((8, 10, 12), (-0.7, -0.3, -0.1))
    first = dice.randrange(40)
    return Window(
        prompt=dice.randrange(500), position=first + n // 2, first=first,
        times=dice.choice((1, 1, 1, 4)), tokens=ids,
        activations=tuple(values.get(i, 0.0) for i in range(n)),
        quantiles=tuple(round(values[i] / 10, 3) for i in active),
        effects=Effects(
            at, tuple(round(dice.uniform(-0.6, 1.2), 4) for _ in at),
            tuple(round(dice.uniform(0.2, 0.9), 4) for _ in at),
            tuple(round(dice.uniform(0.05, 0.5), 4) for _ in at),
            (top,) * len(at), (low,) * len(at),
        ),
        ablation=(None, *(round(dice.uniform(-0.5, 1.0), 4) for _ in range(n - 1))),
        sources=Values((first + 2, first + 5), (0.81, -0.13)),
    )  # fmt: skip


def statistics(density: float | None, **others: float | int | str | None) -> dict:
    """The store's numbers."""
    n_active = None if density is None else round(12_000 * density)
    usual = {
        "type": "sparse", "n_active": n_active, "density": density, "mean": 0.05, "std": 0.4,
        "max": 9.5, "min": 0.0, "mean_active": 2.5, "std_active": 1.1, "max_active": 9.5,
        "min_active": 0.01, "importance": 0.02, "token_entropy": 1.918296, "decoder_norm": 1.0,
        "logit_std": 0.4, "logit_skew": 0.1, "logit_kurtosis": 3.2,
    }  # fmt: skip
    return {**usual, **others}


def dead(feature: int) -> Profile:
    """A feature that is never active: nearly all is undefined."""
    undefined = dict.fromkeys(statistics(None))
    return Profile(
        feature=feature, name=None, labels=(),
        statistics={**undefined, "type": "dead", "n_active": 0, "density": 0.0},
    )  # fmt: skip


def of_hell(feature: int) -> Profile:
    """A feature whose tokens, label and name try to break out."""
    ids = tuple(sorted(HELL))
    n = len(ids)
    one = Window(
        prompt=0, position=n // 2, first=0, times=1, tokens=ids,
        activations=tuple(float(i % 3) for i in range(n)),
        quantiles=tuple(0.5 for i in range(n) if i % 3),
    )  # fmt: skip
    label = "</script><script>window.broken = 1</script><img src=x onerror='window.broken = 1'>"
    return Profile(
        feature=feature, name="</title><b>&amp;", labels=(Said(label, "written"),),
        statistics=statistics(0.01),
        activations=Counts((0.0, 1.0, 2.0), (5, 7)),
        top=Values(ids, tuple(2.0 - 0.05 * i for i in range(n))),
        effects=Values(ids, tuple(0.1 * i for i in range(n))),
        firing=Firing(ids, (1,) * n, (1 / n,) * n, (0.5,) * n),
        neighbours=(Neighbours("</script>", "<b>", (1,), (0.5,), ("<i>&lt;",)),),
        groups=(Group("top", 0, 0.0, 2.0, 12, Windows.from_rows([one])),),
    )  # fmt: skip


def many(n: int) -> FeatureView:
    """Thousands of small features."""
    return view(*(small(i) for i in range(n)), title=f"{n} features")


def small(feature: int, values: tuple[float, ...] = (0.0, 1.0, 2.0), **others: object) -> Profile:
    """A feature with one example, whose activations are these."""
    active = tuple(0.5 for value in values if value)
    ids = tuple((feature + i) % len(WORDS) for i in range(len(values)))
    one = Window(0, len(values) - 1, 0, 1, ids, values, active)
    density = (1 + feature % 97) / 1000
    return Profile(
        feature=feature, name=None, labels=(Said(f"label {feature}", "made"),),
        statistics=statistics(density, max=float(feature % 89)),
        top=Values(ids, tuple(1.0 - 0.1 * i for i in range(len(ids)))),
        effects=Values(tuple(sorted(set(ids))), tuple(0.1 for _ in set(ids))),
        groups=(Group("top", 0, min(values), max(values), 5, Windows.from_rows([one])),),
        **{"activations": Counts((0.0, 1.0, 2.0), (5, 7)), **others},
    )  # fmt: skip
