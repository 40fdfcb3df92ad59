from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from sae_circuits.viz import circuit_html, picture, render
from sae_circuits.viz.pages import circuit_fragment, circuit_page
from small_circuits import by_hand, random_circuit


def dom(chromium: str, page: Path) -> str:
    """The page as a browser understands it."""
    done = subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout


def test_the_fragment_draws_each_edge_once_with_its_score_to_hover() -> None:
    html = circuit_html(by_hand())
    titles = re.findall(r'<g class="edge (\w+) ([qkv]?)"><title>(.*?)</title>', html)
    assert sorted(titles) == [
        ("helps", "", "a1.h0-&gt;logits: -4"),
        ("helps", "k", "a0.h1-&gt;a1.h0&lt;k&gt;: -1"),
        ("helps", "v", "input-&gt;a0.h1&lt;v&gt;: -2"),
        ("hurts", "", "input-&gt;m0: +0.5"),
        ("unknown", "q", "m0-&gt;a1.h0&lt;q&gt;: +0"),
    ]


def test_the_legend_says_what_colours_lines_and_widths_mean() -> None:
    html = circuit_html(by_hand())
    assert "negative score: corrupting the edge lowers the metric, so the edge helps" in html
    assert "positive score: corrupting the edge raises the metric, so the edge hurts" in html
    assert "a score of size 4 of logit_diff; width is linear in size" in html
    assert "into k" in html


def test_the_page_needs_nothing_from_outside() -> None:
    html = circuit_page(picture(random_circuit(2, 2, 30)))
    assert not re.findall(r"(?:src|href|url)\s*[=(]", html)
    assert "<script" not in html
    links = set(re.findall(r"https?://[^\s\"']+", html))
    assert links == {"http://www.w3.org/2000/svg"}  # the name of a namespace, not an address


def test_what_comes_from_data_is_escaped() -> None:
    evil = '"><script>alert(1)</script>'
    html = str(circuit_fragment(picture(by_hand(), title=evil)))
    assert "<script" not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 2


def test_a_notebook_shows_the_circuit() -> None:
    assert by_hand()._repr_html_() == circuit_html(by_hand())


@pytest.mark.browser
def test_a_browser_shows_all_parts(tmp_path: Path, chromium: str) -> None:
    page = render(random_circuit(4, 4, 200), tmp_path / "circuit.html")
    seen = dom(chromium, page)
    assert seen.count('class="edge ') == 200
    assert seen.count('class="grip"') == 200
    assert 'class="node logits"' in seen
