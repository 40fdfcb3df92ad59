"""Views: what they hold is what the store holds, and a file gives them back."""

from __future__ import annotations

import json

import numpy as np
import pytest

import sae_circuits as sc
from sae_circuits.dashboards.page import feature_page
from sae_circuits.errors import FileFormatError, UnknownName
from small_stores import planted, store


@pytest.fixture(scope="module")
def features():
    return store()


def test_a_view_is_the_same_from_its_file_and_its_file_from_it(features, tmp_path):
    view = sc.FeatureView.build(features)
    path = view.save(tmp_path / "view.json")
    again = sc.FeatureView.load(path)
    assert again == view
    assert again.save(tmp_path / "again.json").read_bytes() == path.read_bytes()
    assert feature_page(again) == feature_page(view)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"schema": 3}, "reads up to 2"),
        ({"schema": None}, "schema None"),
        ({"format": "other"}, "no FeatureView"),
        ({"more": 1}, "has no"),
        ({"texts": {"x": "a"}}, "invalid literal"),
        ({"profiles": [{"feature": 0.5}]}, "int is needed"),
        ({"profiles": {}}, "a list is needed"),
    ],
)
def test_files_that_are_not_as_written_are_refused(features, tmp_path, change, match):
    path = sc.FeatureView.build(features, [3]).save(tmp_path / "view.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(FileFormatError, match=match):
        sc.FeatureView.load(path)


def test_features_are_asked_for_by_id_and_name_in_any_order(features):
    named = planted()
    assert [p.feature for p in sc.FeatureView.build(features, [5, 2]).profiles] == [5, 2]
    assert [p.name for p in sc.FeatureView.build(named, ["tags", 0]).profiles] == ["tags", "truth"]
    assert "silent" not in {p.name for p in sc.FeatureView.build(named).profiles}
    with pytest.raises(UnknownName, match="no feature 99"):
        sc.FeatureView.build(features, [99])


def test_a_dead_feature_has_nothing_to_show():
    (dead,) = sc.FeatureView.build(planted(), ["silent"]).profiles
    assert dead.statistics["type"] == "dead"
    assert dead.statistics["mean_active"] is None
    assert (dead.activations, dead.groups, dead.firing.ids) == (None, (), ())


def test_windows_hold_the_tokens_and_activations_of_the_store(features):
    view, held, f = sc.FeatureView.build(features, [2]), features.feature(2), 2
    active = np.sort(features.activations.columns([f]).values)
    shown = {(g.kind, g.index): g for g in view.profiles[0].groups}
    assert held.examples
    for kind, group in {(e.kind, e.group) for e in held.examples}:
        own = [e for e in held.examples if (e.kind, e.group) == (kind, group)]
        for example, window in zip(own, shown[kind, group].windows, strict=True):
            for name in ("prompt", "position", "first", "times"):
                assert getattr(example, name) == getattr(window, name)
            assert tuple(view.texts[t] for t in window.tokens) == example.tokens
            assert np.float32(window.activations).tolist() == list(example.activations)
            values = [a for a in example.activations if a]
            shares = [(active <= np.float32(v)).mean() for v in values]
            assert window.quantiles == pytest.approx(shares, rel=1e-4)
