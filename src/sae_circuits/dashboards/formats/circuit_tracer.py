"""Features as circuit-tracer's viewer of attribution graphs reads them.

Two forms of one object, of which the viewer takes the first where a graph's `scan` begins with
"./", and the second where it is a repository of a hub or, in versions newer than 0.5.0, an absolute
path. A `scan` that begins with "./features/" is asked of its authors' server, whatever is at hand.

    {pair}.json                     pair: layer and feature, paired by Cantor
    features/index.json.gz          {"3": {"filename": "layer_3.bin", "offsets": [0, 812, ...]}}
    features/layer_3.bin            for each feature, the length of what follows and gzipped JSON

    {"index", "top_logits", "bottom_logits", "act_min", "act_max", "activation_frequency",
     "examples_quantiles": [{"quantile_name", "examples": [
         {"tokens", "tokens_acts_list", "train_token_ind", "is_repeated_datapoint"}]}]}

Written to circuit-tracer's `frontend/assets/feature_examples/init-feature-examples.js` (commit
196e2ce), and opened in the viewer of version 0.5.0. The label stands under `label`, and each
example's place in the corpus under `prompt` and `position`, which the viewer passes over: it shows
the label that the graph gives a node.
"""

from __future__ import annotations

import gzip
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sae_circuits.dashboards.formats.tokens import token_texts
from sae_circuits.dashboards.profile import Group, Profile
from sae_circuits.dashboards.view_file import dumped
from sae_circuits.dashboards.views import FeatureView
from sae_circuits.dashboards.window import Values, Window
from sae_circuits.errors import FileFormatError, OptionError

NAME = "circuit-tracer"


def files(
    view: FeatureView, folder: Path, *, layer: int | None = None
) -> Iterator[tuple[str, bytes]]:
    """The name and the content of each file; those of layers that are there already stay.

    Args:
        folder: where they will be.
        layer: of the features; by default what the view's provenance says.

    Raises:
        OptionError: no layer is given or known.
        FileFormatError: the folder has an index that cannot be read.
    """
    path = folder / "features" / "index.json.gz"
    return _files(view, layer_of(view) if layer is None else layer, _index(path))


def _files(view: FeatureView, layer: int, others: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    offsets, chunks, place = [], [], 0
    by_id = {profile.feature: profile for profile in view.profiles}
    for feature in range(view.about.features):
        offsets.append(place)
        if feature in by_id:
            content = feature_file(view, by_id[feature], layer)
            yield f"{paired(layer, feature)}.json", _bytes(content)
            packed = _packed(content)
            chunks += [struct.pack("<I", len(packed)), packed]
            place += 4 + len(packed)
    own = {"filename": f"layer_{layer}.bin", "offsets": [*offsets, place]}
    yield f"features/layer_{layer}.bin", b"".join(chunks)
    yield "features/index.json.gz", _packed({**others, str(layer): own})


def paired(layer: int, feature: int) -> int:
    """One number for both (Cantor).

    >>> paired(0, 0), paired(1, 0), paired(0, 1), paired(3, 4)
    (0, 1, 2, 32)
    """
    both = layer + feature
    return both * (both + 1) // 2 + feature


def layer_of(view: FeatureView) -> int:
    """The layer that the view's features are of.

    Raises:
        OptionError: the view does not say.
    """
    source = view.about.provenance.get("source", {})
    said = str(source.get("site", "")) if isinstance(source, dict) else ""
    for text in (said, view.about.dictionary):
        if found := re.search(r"\d+", text):
            return int(found[0])
    raise OptionError(
        f"features of {view.about.dictionary!r} have no known layer, which circuit-tracer's files "
        "are named by: give layer="
    )


def feature_file(view: FeatureView, profile: Profile, layer: int) -> dict[str, Any]:
    """A feature as the viewer reads it."""
    said = profile.statistics
    return {
        "index": paired(layer, profile.feature),
        "label": profile.label,
        "top_logits": _texts(view, profile.top),
        "bottom_logits": _texts(view, profile.bottom),
        "act_min": min(said.get("min_active") or 0.0, 0.0),
        "act_max": said.get("max_active") or 0.0,
        "activation_frequency": said.get("density") or 0.0,
        "examples_quantiles": [
            {
                "quantile_name": _title(group, profile),
                "examples": [_example(view, window) for window in group.windows],
            }
            for group in profile.groups
        ]
        or [{"quantile_name": "Never active", "examples": []}],
    }


def _bytes(content: Any) -> bytes:
    return dumped(content).encode() + b"\n"


def _packed(content: Any) -> bytes:
    return gzip.compress(_bytes(content), mtime=0)


def _texts(view: FeatureView, values: Values) -> list[str]:
    return [view.texts[token] for token in values.ids]


def _example(view: FeatureView, window: Window) -> dict[str, Any]:
    return {
        "tokens": token_texts(view, window),
        "tokens_acts_list": list(window.activations),
        "train_token_ind": window.position - window.first,
        "is_repeated_datapoint": False,
        "prompt": window.prompt,
        "position": window.position,
    }


def _title(group: Group, profile: Profile) -> str:
    n = profile.statistics.get("n_active")
    share = f"{group.count / n:.1%} of activations" if isinstance(n, int) and n else ""
    if group.kind == "interval":
        return f"Interval {group.index}: {group.low:.4g} to {group.high:.4g}, {share}"
    if group.kind == "quantile":
        return f"Quantile group {group.index}: {group.low:.4g} to {group.high:.4g}, {share}"
    return {"top": "Top activations", "random": "Random"}[group.kind]


def _index(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        found = json.loads(gzip.decompress(path.read_bytes()))
        if not isinstance(found, dict):
            raise TypeError("it is no object")
    except (OSError, EOFError, ValueError, TypeError) as error:
        raise FileFormatError(
            f"{str(path)!r} is no index of circuit-tracer's: {error}; remove it, or choose another "
            "folder"
        ) from error
    return found
