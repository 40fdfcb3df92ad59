"""Tokens of a window as texts that can be put together."""

from __future__ import annotations

from sae_circuits.dashboards.views import FeatureView
from sae_circuits.dashboards.window import Window


def token_texts(view: FeatureView, window: Window) -> list[str]:
    """Texts that read right one after the other: what stands between two tokens is in the second.

    The other programs put tokens together with nothing between them.
    """
    first, *others = (view.texts[token] for token in window.tokens)
    return [first, *(view.about.gap + text for text in others)]
