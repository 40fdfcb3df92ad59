"""Layouts: from Python, from TOML, ready ones, and what is refused."""

from __future__ import annotations

import pytest

import sae_circuits as sc
from sae_circuits.dashboards.layout import PANELS, READY, Column, Layout, Panel
from sae_circuits.errors import FileFormatError, OptionError, UnknownName


def test_a_file_says_columns_panels_and_options(tmp_path):
    path = tmp_path / "layout.toml"
    path.write_text(
        """
        [[columns]]
        width = 2
        panels = [{ panel = "activations" }, { panel = "tokens", n = 3, title = "Its tokens" }]

        [[columns]]
        [[columns.panels]]
        panel = "examples"
        group = "interval-2"
        context = 4
        """
    )
    assert sc.Layout.load(path) == Layout(
        (
            Column((Panel("activations"), Panel("tokens", {"n": 3, "title": "Its tokens"})), 2.0),
            Column((Panel("examples", {"group": "interval-2", "context": 4}),)),
        )
    )


def test_python_says_the_same():
    said = Layout.of(["labels", ("firing", {"n": 2})], [Panel("examples")])
    assert [[one.panel for one in column.panels] for column in said.columns] == [
        ["labels", "firing"],
        ["examples"],
    ]
    assert said.columns[0].panels[1].options == {"n": 2}


def test_ready_layouts_are_whole():
    feature = {one.panel for column in Layout.ready("feature").columns for one in column.panels}
    assert feature == set(PANELS) - {"density"}
    assert [len(Layout.ready(name).columns) for name in READY] == [2, 3, 1]
    with pytest.raises(UnknownName, match="unknown layout 'featur': did you mean 'feature'"):
        Layout.ready("featur")


WRONG = {
    'columns = "x"': r"\[\[columns\]\] must be tables, not 'x'",
    "": "a layout needs a column: name at least one panel",
    "[[columns]]\nwide = 2": "a column has no 'wide'; it has panels, width",
    "[[columns]]\nwidth = 0": "a column's width must be above 0, not 0",
    "[[columns]]\nwidth = nan": "a column's width must be above 0, not nan",
    "[[columns]]\nwidth = true": "a column's width must be a number, not True",
    "[[columns]]\npanels = [{ n = 2 }]": "needs its panel by name",
    "[[columns]]\npanels = [{ panel = 'token' }]": "unknown panel 'token': did you mean 'tokens'",
    "[[columns]]\npanels = [{ panel = 'tokens', m = 2 }]": "no option 'm'; it has title, n",
    "[[columns]]\npanels = [{ panel = 'tokens', n = 2.5 }]": "whole number from 1, not 2.5",
    "[[columns]]\npanels = [{ panel = 'tokens', n = true }]": "whole number from 1, not True",
    "[[columns]]\npanels = [{ panel = 'tokens', title = 1 }]": "title must be a text, not 1",
    "[[columns]]\npanels = [{ panel = 'examples', group = 'tops' }]": "not 'tops'",
    "[[columns]]\npanels = [{ panel = 'examples', address = 'https://x.org' }]": "with {prompt}",
    "[[columns]]\npanels = [{ panel = 'examples', address = 'javascript:{prompt}' }]": "of http",
    "[[columns]": "is not TOML",
    "title = 'x'": "a layout has no 'title'; it has columns",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_layout_is_refused_with_the_reason(tmp_path, text):
    path = tmp_path / "layout.toml"
    path.write_text(text)
    with pytest.raises(FileFormatError, match=WRONG[text]) as refused:
        Layout.load(path)
    assert str(path) in str(refused.value)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(FileFormatError, match=r"cannot read .*none\.toml"):
        Layout.load(tmp_path / "none.toml")


def test_a_wrong_option_in_python_is_refused():
    with pytest.raises(OptionError, match="panel 'tokens': n must be a whole number from 1, not 0"):
        Panel("tokens", {"n": 0})
