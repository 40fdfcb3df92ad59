"""Features as Neuronpedia shows them: one JSON object each, in a file by the feature's number.

    {"modelId", "layer", "index", "maxActApprox", "frac_nonzero",
     "pos_str", "pos_values", "neg_str", "neg_values",
     "freq_hist_data_bar_values", "freq_hist_data_bar_heights", "logits_hist_data_bar_...",
     "neuron_alignment_indices", "neuron_alignment_values", "neuron_alignment_l1",
     "correlated_neurons_indices", "correlated_neurons_pearson", "correlated_neurons_l1",
     "correlated_features_...", "decoder_weights_dist",
     "activations": [{"tokens", "values", "maxValue", "maxValueTokenIndex", "minValue",
                      "lossValues", "binMin", "binMax", "binContains", "qualifyingTokenIndex",
                      "dfaValues", "dfaTargetIndex", "dfaMaxValue", "dataSource", "dataIndex"}],
     "explanations": [{"modelId", "layer", "index", "description", "typeName"}]}

A bar's value is the middle of its bin. The columns called `l1` of correlated neurons and features
hold cosines, as they do there; a neighbour stands in both columns or is left out. The bins of
examples are -1, the largest activation and -1 for the top ones, and 0, 0 and 0 for random ones.

Written to the models `Neuron`, `Activation` and `Explanation` of Neuronpedia's `schema.prisma`
(commit 008d504) and to how SAEDashboard fills them (`neuronpedia_converter.py`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sae_circuits.dashboards.formats.tokens import token_texts
from sae_circuits.dashboards.profile import Counts, Group, Profile
from sae_circuits.dashboards.view_file import dumped
from sae_circuits.dashboards.views import FeatureView
from sae_circuits.dashboards.window import Effects, Values, Window
from sae_circuits.errors import OptionError

NAME = "neuronpedia"


def files(
    view: FeatureView, folder: Path, *, model: str | None = None, source: str | None = None
) -> Iterator[tuple[str, bytes]]:
    """The name and the content of each file.

    Args:
        folder: where they will be.
        model: Neuronpedia's name of the model, such as "gemma-2-2b"; by default the view's.
        source: its name of the dictionary, such as "20-gemmascope-res-16k"; by default the view's.

    Raises:
        OptionError: a name that can be none.
    """
    for name, said in {"model": model, "source": source}.items():
        if said is not None and (not said or "/" in said):
            raise OptionError(f"{name}={said!r} is no name of Neuronpedia's: it has no '/'")
    return _files(
        view, {"modelId": model or view.about.model, "layer": source or view.about.dictionary}
    )


def _files(view: FeatureView, whose: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    for profile in view.profiles:
        yield f"{profile.feature}.json", dumped(neuron(view, profile, whose)).encode() + b"\n"


def neuron(view: FeatureView, profile: Profile, whose: dict[str, str]) -> dict[str, Any]:
    """A feature with its examples and explanations."""
    own = {**whose, "index": str(profile.feature)}
    said = profile.statistics
    return {
        **own,
        "sourceSetName": whose["layer"].partition("-")[2] or None,
        "maxActApprox": said.get("max_active") or 0.0,
        "frac_nonzero": said.get("density") or 0.0,
        **_tokens(view, "pos", profile.top),
        **_tokens(view, "neg", profile.bottom),
        **_bars("freq", profile.activations),
        **_bars("logits", profile.logits),
        "neuron_alignment_indices": list(profile.neurons.ids),
        "neuron_alignment_values": list(profile.neurons.values),
        "neuron_alignment_l1": list(profile.neurons.shares),
        **_correlated("neurons", profile, most=len(profile.neurons.ids)),
        **_correlated("features", profile),
        "decoder_weights_dist": list(profile.heads or ()),
        "activations": [
            {**own, **_activation(view, group, window, profile)}
            for group in _groups(profile)
            for window in group.windows
        ],
        "explanations": [
            {**own, "description": label.text, "typeName": label.strategy}
            for label in profile.labels
        ],
    }


def _tokens(view: FeatureView, sign: str, values: Values) -> dict[str, Any]:
    texts = [view.texts[token] for token in values.ids]
    return {f"{sign}_str": texts, f"{sign}_values": list(values.values)}


def _bars(name: str, counts: Counts | None) -> dict[str, Any]:
    edges, heights = (counts.edges, counts.counts) if counts else ((), ())
    middles = [(a + b) / 2 for a, b in itertools.pairwise(edges)]
    return {
        f"{name}_hist_data_bar_values": middles,
        f"{name}_hist_data_bar_heights": list(heights),
    }


def _correlated(among: str, profile: Profile, most: int | None = None) -> dict[str, Any]:
    """Neighbours by correlation, with their cosines.

    Args:
        most: how many at most: the viewer reads a row of neuron alignment for each neuron.
    """
    by = {one.measure: one for one in profile.neighbours if one.among == among}
    pearson, cosine = (
        dict(zip(by[name].ids, by[name].values, strict=True)) if name in by else {}
        for name in ("pearson", "cosine")
    )
    both = [i for i in pearson if i in cosine][:most]
    return {
        f"correlated_{among}_indices": both,
        f"correlated_{among}_pearson": [pearson[i] for i in both],
        f"correlated_{among}_l1": [cosine[i] for i in both],
    }


def _groups(profile: Profile) -> list[Group]:
    """Those whose bins the viewer can tell apart: intervals, or else quantiles."""
    kinds = {group.kind for group in profile.groups}
    left_out = "quantile" if "interval" in kinds else None
    return [group for group in profile.groups if group.kind != left_out]


def _activation(
    view: FeatureView, group: Group, window: Window, profile: Profile
) -> dict[str, Any]:
    values = list(window.activations)
    chosen = window.position - window.first
    largest = max(values)
    return {
        "tokens": token_texts(view, window),
        "values": values,
        "maxValue": largest,
        "maxValueTokenIndex": values.index(largest),
        "minValue": min(values),
        "lossValues": _losses(window.effects, len(values)),
        **_bin(group, profile),
        "qualifyingTokenIndex": chosen,
        **_sources(window, chosen),
        "logitContributions": None,
        "dataSource": view.about.corpus,
        "dataIndex": f"{window.prompt}:{window.position}",
    }


def _losses(effects: Effects | None, n: int) -> list[float]:
    """The direct effect on each token; none where it was not asked for."""
    if effects is None:
        return []
    found = dict(zip(effects.at, effects.direct, strict=True))
    return [found.get(i, 0.0) for i in range(n)]


def _bin(group: Group, profile: Profile) -> dict[str, float]:
    low, high, share = 0.0, 0.0, 0.0
    if group.kind == "top":
        low, high, share = -1.0, group.high, -1.0
    elif group.kind in ("interval", "quantile"):
        n_active = profile.statistics.get("n_active")
        share = group.count / n_active if isinstance(n_active, int) and n_active else 0.0
        low, high = group.low, group.high
    return {"binMin": low, "binMax": high, "binContains": share}


def _sources(window: Window, chosen: int) -> dict[str, Any]:
    """What attention brought to the chosen token, from the tokens of the window."""
    if window.sources is None:
        return {"dfaValues": [], "dfaTargetIndex": None, "dfaMaxValue": None}
    given = dict(zip(window.sources.ids, window.sources.values, strict=True))
    values = [given.get(window.first + i, 0.0) for i in range(len(window.tokens))]
    return {"dfaValues": values, "dfaTargetIndex": chosen, "dfaMaxValue": max(values)}
