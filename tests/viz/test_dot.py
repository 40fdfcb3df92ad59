from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from sae_circuits.errors import MissingProgram, OutputError
from sae_circuits.viz import picture, render
from sae_circuits.viz.dot import dot_text, has_dot
from sae_circuits.viz.layout import place
from small_circuits import by_hand, random_circuit

GOLDEN = Path(__file__).parent / "golden"
needs_dot = pytest.mark.skipif(shutil.which("dot") is None, reason="no dot on this machine")


def test_dot_text_is_golden() -> None:
    """To accept a change, look at the picture, then write `dot_text` to the golden file."""
    assert dot_text(picture(by_hand())) == (GOLDEN / "by_hand.dot").read_text(encoding="utf-8")


def test_names_from_data_are_escaped() -> None:
    text = dot_text(picture(by_hand(), title='<script>alert("x")</script> & \\N'))
    assert "<script>" not in text
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp;" in text


@needs_dot
@pytest.mark.parametrize(
    ("suffix", "start"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")]
)
def test_images_are_what_their_suffix_says(tmp_path: Path, suffix: str, start: bytes) -> None:
    path = render(random_circuit(2, 2, 20), tmp_path / f"circuit.{suffix}")
    assert path.read_bytes().startswith(start)


@needs_dot
def test_the_svg_shows_every_node_and_every_edge(tmp_path: Path) -> None:
    text = render(by_hand(), tmp_path / "circuit.svg").read_text(encoding="utf-8")
    for name in ("input", "a0.h1", "m0", "a1.h0", "logits", "layer 0", "layer 1"):
        assert f">{name}</text>" in text
    assert text.count('class="edge"') == 5
    assert text.count("stroke-dasharray") > 0
    assert "corrupting the edge lowers the metric, so the edge helps" in text


@needs_dot
def test_the_svg_is_as_large_as_its_layout(tmp_path: Path) -> None:
    """A bitmap has more dots to the inch, a drawing is no larger for it."""
    text = render(by_hand(), tmp_path / "circuit.svg").read_text(encoding="utf-8")
    width, height = map(float, re.findall(r'(?:width|height)="([\d.]+)pt"', text)[:2])
    layout = place(picture(by_hand()))
    assert layout.height < height < layout.height + 150  # and the legend
    assert width < 600


@needs_dot
def test_graphviz_has_nothing_to_complain_of(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    render(random_circuit(2, 4, 60, n_kv_heads=2), tmp_path / "circuit.svg")
    assert capfd.readouterr().err == ""


def test_without_dot_the_message_names_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not has_dot()
    with pytest.raises(MissingProgram, match=r"apt install graphviz.*\.html"):
        render(by_hand(), tmp_path / "circuit.svg")
    assert list(tmp_path.iterdir()) == []
    render(by_hand(), tmp_path / "circuit.dot")
    render(by_hand(), tmp_path / "circuit.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["circuit.dot", "circuit.html"]


@pytest.mark.parametrize("name", ["circuit.jpeg", "circuit", "circuit."])
def test_an_unknown_suffix_is_refused_before_anything_is_drawn(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"end it in one of \.svg, \.png, \.pdf, \.dot, \.html"):
        render(by_hand(), tmp_path / name)


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"'.*nowhere' does not exist"):
        render(by_hand(), tmp_path / "nowhere" / "circuit.dot")


def test_a_circuit_renders_itself(tmp_path: Path) -> None:
    assert by_hand().render(tmp_path / "circuit.dot", title="mine").read_text().count("mine") == 1
