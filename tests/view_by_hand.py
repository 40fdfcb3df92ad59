"""A view that is written out by hand, so that each number of a file can be told from the others."""

from __future__ import annotations

from sae_circuits.dashboards.profile import (
    Aligned,
    Counts,
    Firing,
    Group,
    Neighbours,
    Profile,
    Said,
)
from sae_circuits.dashboards.views import About, FeatureView
from sae_circuits.dashboards.window import Effects, Values, Window, Windows

TEXTS = {0: "<|endoftext|>", 1: "John", 2: "</script>", 3: "é\u2028", 4: ""}


def window(prompt: int = 7, position: int = 12, **more: object) -> Window:
    """Three tokens; the feature is active on the first and, most, on the second, the chosen one."""
    return Window(
        prompt, position, position - 1, 1, (1, 2, 3), (0.5, 2.0, 0.0), (0.25, 1.0), **more
    )


def effects() -> Effects:
    """On the second and third token, which follow an activation."""
    none = Values()
    return Effects((1, 2), (0.125, -0.25), (0.1, 0.2), (0.05, 0.3), (none, none), (none, none))


def alive(feature: int = 3) -> Profile:
    """A feature with something in every place."""
    top = Group("top", 0, 0.0, 2.0, 5, Windows.from_rows([window(effects=effects())]))
    weak = Group("interval", 0, 0.0, 1.0, 4, Windows.from_rows([window(8, effects=effects())]))
    strong = Group("interval", 1, 1.0, 2.0, 1, Windows.from_rows([window(effects=effects())]))
    half = Group("quantile", 0, 0.5, 1.5, 2, Windows.from_rows([window(9)]))
    drawn = Group(
        "random",
        0,
        0.5,
        2.0,
        5,
        Windows.from_rows([window(10, sources=Values((10, 11), (0.75, 0.5)))]),
    )
    return Profile(
        feature,
        "names",
        (Said("names of people", "tokens", 0.9), Said("John", "manual")),
        {"type": "sparse", "density": 0.01, "n_active": 5, "max_active": 2.0, "min_active": 0.5},
        activations=Counts((0.5, 1.0, 2.0), (4, 1)),
        logits=Counts((-1.0, 0.0, 3.0), (2, 3)),
        top=Values((1, 2), (3.0, 1.5)),
        bottom=Values((3,), (-1.0,)),
        effects=Values((1, 2, 3), (3.0, 1.5, -1.0)),
        firing=Firing((1,), (4,), (0.8,), (0.5,)),
        neurons=Aligned((9, 4), (-0.5, 0.25), (0.6, 0.3)),
        heads=(0.75, 0.25),
        neighbours=(
            Neighbours("features", "pearson", (5, 6), (0.8, 0.7), ("x", None)),
            Neighbours("features", "cosine", (5, 6), (0.9, 0.6), ("x", None)),
            Neighbours("neurons", "pearson", (1, 2, 3), (0.5, 0.4, 0.3), (None, None, None)),
            Neighbours("neurons", "cosine", (3, 1), (0.35, 0.55), (None, None)),
            Neighbours("features", "decoder", (8,), (0.2,), (None,)),
        ),
        groups=(top, weak, strong, half, drawn),
    )


def dead(feature: int = 4) -> Profile:
    """A feature that is never active and writes nothing."""
    said = {"type": "dead", "density": 0.0, "n_active": 0, "max_active": None, "min_active": None}
    return Profile(feature, None, (), said)


def view(*profiles: Profile, gap: str = " ") -> FeatureView:
    """A view of these, or of both of the above."""
    provenance = {"source": {"site": "blocks.2.hook_mlp_out"}}
    about = About("A title", "mlp_out.2", "demo", "stories", 6, 500, None, 1, gap, provenance)
    return FeatureView(about, TEXTS, profiles or (alive(), dead()))
