"""Views of prompts written down by hand: one as it is, and one of tokens from hell."""

from __future__ import annotations

import random

import made_page
from made_page import HELL
from sae_circuits.dashboards.prompt_view import Active, PromptView, Ranked
from sae_circuits.dashboards.window import Values

FEATURES = (3, 17, 42, 50)
PROMPT = (100, 10, 1, 2, 3, 4, 5, 0, 6)  # <|endoftext|>When Mary and John went to the store
NAMES = ("activation", "quantile", "loss effect", "attribution")


def ends(values: dict[int, float], signs: bool) -> tuple[Values, Values]:
    """The largest first, and the smallest first of what has signs."""

    def by(sign: int) -> Values:
        order = sorted(values, key=lambda f: (sign * values[f], f))
        return Values(tuple(order), tuple(values[f] for f in order))

    return by(-1), by(1) if signs else Values()


def ranked(name: str, each: list[dict[int, float]], token: int | None = None) -> Ranked:
    """A score by what it is of each feature at each position."""
    signs = name in ("loss effect", "logit effect", "attribution")
    both = [ends(values, signs) for values in each]
    unit = {"loss effect": "nats", "logit effect": "logits"}.get(name, "")
    lowest = tuple(low for _, low in both) if signs else ()
    of = "" if token is None else f" on token {token}"
    return Ranked(
        name, unit, f"what {name}{of} means", tuple(top for top, _ in both), lowest, token
    )


def view(
    prompt: tuple[int, ...] = PROMPT, likely: tuple[int, ...] = (4, 5), title: str = "A prompt"
):
    """All features but the last are active at all positions but 2, where none is."""
    draw, n = random.Random(0), len(prompt)

    def values(name: str) -> list[dict[int, float]]:
        low = 0.01 if name in ("activation", "quantile") else -1.0
        return [
            {} if p == 2 or (p == n - 1 and name == "loss effect")
            else {f: round(draw.uniform(low, 1.0), 3) for f in FEATURES}
            for p in range(n)
        ]  # fmt: skip

    found = {name: values(name) for name in NAMES}
    targets = [None, *likely, *prompt[1:3]]
    effects = [ranked("logit effect", values("logit effect"), token) for token in targets]
    plain = {name: ranked(name, each) for name, each in found.items()}
    active = tuple(
        Active(
            FEATURES if found["activation"][p] else (),
            {name: tuple(each[p].get(f) for f in FEATURES if found["activation"][p])
             for name, each in found.items()},
        )
        for p in range(n)
    )  # fmt: skip
    return PromptView(
        made_page.view(title=title), prompt, (100,), (None, *(0.25 for _ in prompt[1:])),
        Values(likely, (0.5, 0.125)[: len(likely)]),
        (plain["activation"], plain["quantile"], plain["loss effect"], *effects,
         plain["attribution"]),
        active,
    )  # fmt: skip


def of_hell() -> PromptView:
    """Every token of hell, and targets among them."""
    return view(tuple(HELL), (101, 117), "</script><img src=x onerror=alert(1)>")
