"""The tokens on which a feature fires more than their share."""

from __future__ import annotations

from collections.abc import Iterator

from sae_circuits.features.columns import Columns
from sae_circuits.features.labels.strategy import Proposal, Propose, Setting, Strategy
from sae_circuits.features.labels.variants import WordContrast


def make(setting: Setting, *, most: int, least: int) -> Propose:
    """Labels such as `"the" or "a"`: the token is one of a few words.

    Args:
        most: words in a label.
        least: tokens of a word on which the feature has to fire.
    """
    words = WordContrast.of(setting.part, least=least, most=most)

    def propose(columns: Columns) -> Iterator[Proposal]:
        yield from words.propose(columns, "{}")

    return propose


STRATEGY = Strategy(name="tokens", make=make, options={"most": 5, "least": 2})
