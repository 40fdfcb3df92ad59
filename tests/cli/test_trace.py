from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from command_line import call, refused
from sae_circuits.cli.folder import stamp
from sae_circuits.cli.trace import slug_of, table
from sae_circuits.graph import AttributionGraph
from sae_circuits.io import Record, from_neuronpedia, load, save, to_neuronpedia
from small_circuits import by_hand
from small_graphs import assert_same_graph, traced

PROMPT = "Mary and John went to the park, and Mary gave a pen to"
FILES = {"graph.json", "graph.html", "graph.neuronpedia.json", "record.json"}


# -- what needs no model -------------------------------------------------------------------------


def test_the_table_lists_the_most_influential_nodes_and_the_scores() -> None:
    assert table(traced()).splitlines() == [
        "Says: ' gave' 75.0%, ' said' 12.5%",
        "node        at token        activation  influence",
        "m1.f17@2    ' John'                  3     1.0000",
        "m0.f3@0     'Mary'                 2.5     0.7500",
        "m0.f7@2     ' John'                0.5     0.2500",
        "m0.error@1  ' and'                         0.1250",
        "m1.error@2  ' John'                        0.1250",
        "10 of 40 nodes, 9 edges; replacement 0.625, completeness 0.875",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--node-share", "0"], "--node-share is 0.0: a share is above 0 and at most 1"),
        (["--edge-share", "1.5"], "--edge-share is 1.5: a share is above 0 and at most 1"),
        (["--dtype", "float23"], "unknown dtype 'float23': did you mean 'float32'"),
        (["--prompt", " "], "the prompt is empty"),
        (["--memory", "much"], "memory='much' is no size"),
        (["--gpus-per-worker", "1"], "--gpus-per-worker is of Ray's workers: give --ray too"),
        (["--ray", "local", "--workers", "0"], "0 workers: give one or more"),
    ],
)
def test_bad_options_are_refused_before_the_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], message: str
) -> None:
    def stop(*_: object) -> None:
        raise SystemExit(77)

    monkeypatch.setattr("sae_circuits.cli.options.open_model", stop)
    refused(call("trace", "--prompt", PROMPT, "--out", tmp_path / "run", *arguments), message)
    assert list((tmp_path / "run").glob("*")) == []
    assert call("trace", "--out", tmp_path / "run").exit_code == 2  # no prompt


def test_a_folder_of_transcoders_that_is_none_is_refused(tmp_path: Path) -> None:
    what = ["trace", "--prompt", PROMPT, "--out", tmp_path / "run", "--transcoders"]
    (tmp_path / "empty").mkdir()
    refused(call(*what, tmp_path / "empty"), "no dictionary in ")
    refused(call(*what, tmp_path / "none"), "none' is no folder")
    assert list((tmp_path / "run").glob("*")) == []


def test_render_draws_a_graph_of_ours_and_of_others(tmp_path: Path) -> None:
    save(traced(), tmp_path / "graph.json")
    result = call("render", tmp_path / "graph.json", tmp_path / "g.dot", "--top", 4)
    assert result.stdout == f"{tmp_path / 'g.dot'}\n"
    assert "the 4 strongest drawn" in (tmp_path / "g.dot").read_text()
    theirs = to_neuronpedia(traced(), tmp_path / "theirs.json", slug="x")
    assert call("render", theirs, tmp_path / "g.html", "--neuronpedia").exit_code == 0
    assert "m1.f17@2" in (tmp_path / "g.html").read_text()
    refused(call("render", theirs, tmp_path / "g.dot"), "from_neuronpedia")
    refused(
        call("render", theirs, tmp_path / "g.dot", "--neuronpedia", "--eap-ig"), "is of one kind"
    )
    save(by_hand().scores, tmp_path / "s.safetensors")
    refused(call("render", tmp_path / "s.safetensors", tmp_path / "g.dot"), "holds scores, and a")


def test_other_files_in_a_folder_change_its_stamp(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "cfg.json").write_text("{}")
    before = stamp(tmp_path)
    (tmp_path / "a" / "notes.txt").write_text("x")
    assert stamp(tmp_path) == before
    (tmp_path / "a" / "cfg.json").write_text("{ }")
    assert stamp(tmp_path) != before


def test_a_graphs_name_on_neuronpedia_has_plain_letters() -> None:
    assert [slug_of(Path(name)) for name in ("run/", "a/Mary & John", "/")] == [
        "run", "mary-john", "graph",
    ]  # fmt: skip


# -- end to end ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a run on the bundled model, and what it printed."""
    pytest.importorskip("sae_circuits.tracing")
    out = tmp_path_factory.mktemp("traced") / "run"
    result = call("trace", "--prompt", PROMPT, "--out", out, "--n-logits", 3, "--ray", "none")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return out, result.stdout


def test_trace_leaves_all_files(finished: tuple[Path, str]) -> None:
    out, said = finished
    assert {path.name for path in out.iterdir()} - {"graph.svg"} == FILES
    graph = load(out / "graph.json", AttributionGraph)
    assert graph.text[-1].strip() == "to"
    assert sum(node.kind == "logits" for node in graph.nodes) <= 3
    assert_same_graph(from_neuronpedia(out / "graph.neuronpedia.json"), graph)
    metadata = json.loads((out / "graph.neuronpedia.json").read_text())["metadata"]
    assert (metadata["slug"], metadata["scan"]) == ("run", "demo")
    ids = [
        one["node_id"]
        for one in json.loads((out / "graph.neuronpedia.json").read_text())["nodes"]
        if one["feature_type"] == "logit"
    ]
    assert all(name.startswith("5_") for name in ids)  # the demo model has four layers
    assert table(graph) in said
    assert str(out / "graph.html") in said
    record = Record.load(out / "record.json")
    assert record.finished is not None
    assert (record.settings["prompt"], record.settings["n_logits"]) == (PROMPT, 3)


def test_a_finished_run_is_taken_up_and_other_settings_are_named(
    finished: tuple[Path, str], tmp_path: Path
) -> None:
    out = Path(shutil.copytree(finished[0], tmp_path / "run"))
    (out / "graph.html").unlink()
    before = (out / "graph.json").stat().st_mtime_ns
    same = ["trace", "--prompt", PROMPT, "--out", out, "--n-logits", 3]
    assert call(*same).exit_code == 0
    assert (out / "graph.json").stat().st_mtime_ns == before
    assert (out / "graph.html").exists()
    refused(call(*same, "--node-share", "0.5"), "(node_share: 0.8, now 0.5): choose another folder")
    few = call(*same, "--node-share", "0.5", "--overwrite")
    assert few.exit_code == 0
    graph, whole = (load(d / "graph.json", AttributionGraph) for d in (out, finished[0]))
    assert len(graph.nodes) < len(whole.nodes)
    refused(call("discover", "--out", out), "holds a run with other settings")
