"""`sae-circuits explore`: the page of a saved circuit, and what is refused before any work."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import command_line
import sae_circuits as sc
from command_line import refused
from sae_circuits.graph import Circuit
from sae_circuits.io import export_eap_ig, save, to_neuronpedia
from small_circuits import by_hand, small_curve, small_report
from small_explorer import curve_of, smooth
from small_graphs import traced

call, done = (partial(run, "explore") for run in (command_line.call, command_line.done))


def data_of(page: Path, name: str = "view") -> Any:
    """The page's own JSON of a name."""
    _, _, after = page.read_text(encoding="utf-8").partition(f'data-name="{name}">')
    return json.loads(after.partition("</script>")[0])


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder with a circuit, its curve, another circuit, and a graph."""
    scores = smooth()
    save(sc.prune.top_n(scores, 12), tmp_path / "circuit.json")
    save(sc.prune.top_n(smooth(seed=1), 9), tmp_path / "other.json")
    save(curve_of(scores), tmp_path / "curve.json")
    save(traced(), tmp_path / "graph.json")
    return tmp_path


def test_the_page_is_that_of_the_circuit(saved: Path) -> None:
    out = saved / "page.html"
    said = done(saved / "circuit.json", "--curve", saved / "curve.json", "--top", 20, "--title",
                "Mine", "--out", out)  # fmt: skip
    assert said == f"{out}\n"
    circuit = sc.prune.top_n(smooth(), 12)
    view = circuit.explore(curve=curve_of(smooth()), max_edges=20, title="Mine")
    assert out.read_text() == view.render(saved / "same.html").read_text()
    assert data_of(out, "about")["title"] == "Mine"
    assert (len(data_of(out)["lines"]["src"]), data_of(out)["size"]) == (20, 12)


def test_a_report_has_the_curve_too(saved: Path) -> None:
    report = small_report(small_curve())
    save(report, saved / "report.json")
    save(sc.prune.top_n(report.of.scores, 4), saved / "its.json")
    done(saved / "its.json", "--curve", saved / "report.json", "--out", saved / "page.html")
    assert data_of(saved / "page.html")["curve"]["n_edges"] == list(small_curve().n_edges)
    save(small_report(), saved / "bare.json")
    refused(
        call(saved / "circuit.json", "--curve", saved / "bare.json"), "holds a report without a cur"
    )
    refused(
        call(saved / "circuit.json", "--curve", saved / "other.json"), "holds circuit: give a rep"
    )


def test_two_circuits_are_compared(saved: Path) -> None:
    out = saved / "page.html"
    done(saved / "circuit.json", saved / "other.json", "--name", "one", "--name", "two",
         "--out", out)  # fmt: skip
    known = sc.overlap(sc.prune.top_n(smooth(), 12), sc.prune.top_n(smooth(seed=1), 9))
    found = data_of(out)["overlap"]
    assert (found["a"], found["b"], found["edges"]["both"]) == ("one", "two", known.edges.n_shared)
    assert found["nodes"]["jaccard"] == known.nodes.jaccard


def test_it_reads_what_render_reads(saved: Path) -> None:
    out = saved / "page.html"
    done(saved / "graph.json", "--out", out)
    assert data_of(out)["columns"] == ["Mary", " and", " John"]
    theirs = to_neuronpedia(traced(), saved / "theirs.json", slug="x")
    done(theirs, "--neuronpedia", "--out", out)
    assert len(data_of(out)["lines"]["src"]) == 9
    mib = export_eap_ig(by_hand(), saved / "mib.json")
    done(mib, "--eap-ig", "--out", out)
    assert data_of(out)["size"] == len(by_hand())
    spans = sc.SpanScores({"a": smooth(), "b": smooth(seed=1)}, {"a": 0, "b": 1})
    save(sc.prune.top_n(spans, 5), saved / "spans.json")
    done(saved / "spans.json", "--out", out)
    assert data_of(out)["columns"] == ["a", "b"]


def test_stores_links_and_arrangements_reach_the_page(tmp_path: Path) -> None:
    model, saes = sc.load_model("demo"), sc.load_saes("demo", ["mlp_out.1"])
    store = sc.FeatureDictionary.build(model, saes[0], sc.demo_corpus(2_000))
    graph = sc.TensorGraph.from_model(model, saes=saes).restrict(["m1.f3", "m1.f42"])
    circuit = Circuit.from_edges(graph, ["m1.f3->logits"])
    save(circuit, tmp_path / "circuit.json")
    state = {"groups": {"mine": {"members": ["m1.f3"], "label": "", "note": ""}}}
    kept = {"format": "sae-circuits", "kind": "arrangement", "schema": 1, "state": state}
    (tmp_path / "kept.json").write_text(json.dumps(kept))
    out = tmp_path / "page.html"
    done(tmp_path / "circuit.json", "--store", store.folder, "--link", "m1=features/index.html",
         "--arrangement", tmp_path / "kept.json", "--out", out)  # fmt: skip
    (detail,) = data_of(out)["details"]
    assert detail["name"] == "m1.f3"
    assert detail["link"] == "features/index.html#feature=3"
    assert detail["examples"]
    assert data_of(out)["arrangement"]["state"] == state


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "x.svg"], "the explorer is a page; end it in .html"),
        (["--link", "m3"], "--link is 'm3': write a place and an address"),
        (["--name", "a"], "1 names by --name: give two, of two circuits"),
        (["--eap-ig", "--neuronpedia"], "a file is of one kind"),
    ],
)
def test_bad_options_are_refused_before_a_file_is_read(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    refused(call(tmp_path / "none.json", *arguments), message)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_explored_is_refused_with_its_name(saved: Path) -> None:
    save(smooth(), saved / "scores.safetensors")
    refused(call(saved / "scores.safetensors"), "holds scores, and a circuit or an attribution")
    refused(call(saved / "none.json"), "none.json")
    refused(call(saved / "graph.json", saved / "circuit.json"), "cannot be compared")
    refused(call(saved / "circuit.json", saved / "graph.json"), "cannot be compared")
    save(sc.prune.top_n(smooth(3, 2), 5), saved / "larger.json")
    refused(call(saved / "circuit.json", saved / "larger.json"), "belongs to another graph")
    refused(
        call(saved / "circuit.json", "--link", "m1=javascript:alert(1)", "--out", saved / "x.html"),
        "javascript",
    )
    refused(call(saved / "circuit.json", "--arrangement", saved / "other.json"), "no arrangement")
    assert not (saved / "x.html").exists()
