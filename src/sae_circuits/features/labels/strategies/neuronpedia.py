"""Explanations that Neuronpedia has of a dictionary's features."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from sae_circuits.errors import OptionError
from sae_circuits.features.columns import Columns
from sae_circuits.features.labels.strategy import Proposal, Propose, Setting, Strategy
from sae_circuits.io.neuronpedia.explanations import Explanation, read_explanations

Paths = str | Path | Sequence[str | Path]


def make(setting: Setting, *, path: Paths | None, source: str | None) -> Propose:
    """The texts of files of explanations; there is nothing to test in a text, and they are shown.

    Args:
        path: a file of `read_explanations`, or several.
        source: of which dictionary, by Neuronpedia's name, where files hold more than one.

    Raises:
        OptionError: no file, none for the source, several sources and none chosen, or a feature
            that this dictionary does not have.
        FileFormatError: a file of another kind.
    """
    if path is None:
        raise OptionError("strategy 'neuronpedia' needs neuronpedia={'path': 'batch-0.jsonl.gz'}")
    paths = [path] if isinstance(path, str | Path) else list(path)
    every = [one for some in paths for one in read_explanations(some)]
    by_feature: defaultdict[int, list[Explanation]] = defaultdict(list)
    for one in _of_one_source(every, source):
        if one.feature >= setting.n_features:
            raise OptionError(
                f"{one.model}/{one.source} explains feature {one.feature}, and this dictionary has "
                f"0 to {setting.n_features - 1}: take the explanations of this dictionary"
            )
        if one not in by_feature[one.feature]:
            by_feature[one.feature].append(one)

    def propose(columns: Columns) -> Iterator[Proposal]:
        for feature in columns.features.tolist():
            for one in by_feature.get(feature, ()):
                made = {"model": one.model, "source": one.source, "by": one.by, "kind": one.kind}
                yield Proposal(feature, one.text, provenance=made, vouched=True)

    return propose


def _of_one_source(every: Sequence[Explanation], source: str | None) -> list[Explanation]:
    known = sorted({f"{one.model}/{one.source}" for one in every})
    found = [o for o in every if source in (None, o.source, f"{o.model}/{o.source}")]
    if not found:
        raise OptionError(
            f"no explanation of {source or 'any dictionary'} in these files: they have "
            f"{', '.join(known) or 'none'}"
        )
    if len({(one.model, one.source) for one in found}) > 1:
        raise OptionError(
            f"these files explain several dictionaries: give source=, one of {', '.join(known)}"
        )
    return found


STRATEGY = Strategy(
    name="neuronpedia", make=make, options={"path": None, "source": None}, reads=("path",)
)
