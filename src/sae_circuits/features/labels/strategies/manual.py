"""What a person says of a feature."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sae_circuits.errors import OptionError
from sae_circuits.features.asked import feature_ids
from sae_circuits.features.columns import Columns
from sae_circuits.features.labels.strategy import Proposal, Propose, Setting, Strategy


def make(setting: Setting, *, texts: Mapping[int, str], author: str) -> Propose:
    """A person's texts as they stand; there is nothing to test, and they are shown.

    Args:
        texts: by feature.
        author: for the provenance.

    Raises:
        OptionError: no text, or an empty one.
        UnknownName: a feature that is not there.
    """
    if not texts:
        raise OptionError("strategy 'manual' needs texts: manual={'texts': {42: 'names'}}")
    feature_ids(list(texts), setting.n_features)
    for feature, text in texts.items():
        if not text.strip():
            raise OptionError(f"the text for feature {feature} is empty: leave it out")

    def propose(columns: Columns) -> Iterator[Proposal]:
        for feature in columns.features.tolist():
            if feature in texts:
                text = texts[feature].strip()
                yield Proposal(feature, text, provenance={"author": author}, vouched=True)

    return propose


STRATEGY = Strategy(name="manual", make=make, options={"texts": {}, "author": ""})
