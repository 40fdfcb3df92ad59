"""`discover` and `evaluate` with dictionaries, from a folder as sae-lens writes it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from command_line import call, refused
from sae_circuits.evaluation import Report
from sae_circuits.graph import Circuit, Scores
from sae_circuits.io import Record, load
from small_saes import random_sae


@pytest.fixture(scope="module")
def sae_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random SAEs of 12 features on both MLPs, in folders of their own."""
    folder = tmp_path_factory.mktemp("saes")
    for layer in range(2):
        sae = random_sae("standard", f"blocks.{layer}.hook_mlp_out", 16, 12, seed=layer, size=0.3)
        sae.save_model(folder / f"mlp_out.{layer}")
    return folder


@pytest.fixture(scope="module")
def finished(
    model_folder: Path, sae_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("features") / "run"
    result = call(*arguments(model_folder, sae_folder, out))
    assert result.exit_code == 0, result.output
    (out.parent / "stdout").write_text(result.stdout)
    return out


def arguments(model_folder: Path, sae_folder: Path, out: Path) -> list[object]:
    return ["discover", "--model", model_folder, "--sae", sae_folder, "--features", 8, "--n", 4,
            "--edges", 20, "--method", "eap", "--no-curve", "--out", out]  # fmt: skip


@pytest.fixture
def quick(model_folder: Path, sae_folder: Path, tmp_path: Path) -> list[object]:
    return arguments(model_folder, sae_folder, tmp_path / "run")


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_discover_keeps_the_strongest_features_and_says_what_errors_do(finished: Path) -> None:
    report, circuit = (
        load(finished / "report.json", Report),
        load(finished / "circuit.json", Circuit),
    )
    features = [node for node in circuit.graph.src_nodes if node.kind == "feature"]
    assert len(features) == 8
    assert [r.name for r in circuit.graph.made_with] == ["mlp_out.0", "mlp_out.1"]
    assert load(finished / "scores.safetensors", Scores).graph == circuit.graph
    assert len(circuit) == 20
    said = (finished.parent / "stdout").read_text()
    assert f"faithfulness {report.faithfulness:.3f}, " in said
    assert f"{report.faithfulness_errors_removed:.3f} without error nodes" in said
    assert f"{sum(n.kind == 'feature' for n in circuit.nodes)} of 8 are in" in said
    picture, page = ((finished / name).read_text() for name in ("circuit.html", "report.html"))
    drawn = [n.name for n in circuit.nodes if n.kind == "feature"]
    assert drawn
    assert all(name in picture for name in drawn)
    assert "m features" in page  # a column of their own beside the heads
    settings = Record.load(finished / "record.json").settings
    assert settings["features"] == 8
    assert "sae_files" in settings


def test_a_finished_run_is_taken_up_and_other_dictionaries_are_noticed(
    quick: list[object], run: Path, sae_folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr("sae_circuits.cli.pipeline.Job.scores", lambda _: pytest.fail("again"))
        (run / "report.json").unlink()  # scores and circuit come from files, and run again
        assert call(*quick).exit_code == 0
    refused(call(*quick, "--features", 9), "features: 8, now 9")
    refused(call(*quick, "--sae-id", "mlp_out.0"), "sae_id: [], now ['mlp_out.0']")
    other = shutil.copytree(sae_folder, tmp_path / "saes")
    (other / "mlp_out.0" / "cfg.json").touch()
    where = quick.index("--sae") + 1
    refused(call(*quick[:where], other, *quick[where + 1 :]), "sae_files: ")


def test_all_features_or_some_dictionaries(quick: list[object], tmp_path: Path) -> None:
    result = call(*quick, "--features", 0, "--sae-id", "mlp_out.1")
    assert result.exit_code == 0, result.output
    graph = load(tmp_path / "run" / "circuit.json", Circuit).graph
    assert [n.layer for n in graph.src_nodes if n.kind == "feature"] == [1] * 12


def test_features_that_read_through_their_mlp(
    quick: list[object], run: Path, model_folder: Path, sae_folder: Path, tmp_path: Path
) -> None:
    refused(call(*quick, "--through"), "through: False, now True")
    out = tmp_path / "through"
    result = call(*arguments(model_folder, sae_folder, out), "--through")
    assert result.exit_code == 0, result.output
    circuit = load(out / "circuit.json", Circuit)
    assert circuit.graph.through
    assert all(node.kind != "mlp" for node in circuit.graph.dest_nodes)
    alone = ["discover", "--model", model_folder, "--out", tmp_path / "alone"]
    refused(call(*alone, "--through"), "give dictionaries with --sae")


def test_evaluate_takes_the_same_dictionaries(
    run: Path, model_folder: Path, sae_folder: Path, tmp_path: Path
) -> None:
    what = ["evaluate", run / "circuit.json", "--model", model_folder, "--n", 4]
    result = call(*what, "--sae", sae_folder)
    assert result.exit_code == 0, result.output
    report = load(run / "report.json", Report)
    rows = {line.split()[0]: line.split()[1] for line in result.stdout.splitlines()}
    for name in report.measures:
        assert float(rows[name]) == pytest.approx(getattr(report, name), abs=1e-3), name
    refused(call(*what), "say where they are with --sae, such as --sae demo --sae-id mlp_out.0")
    refused(call(*what, "--sae", sae_folder, "--sae-id", "mlp_out.0"), "made with 'mlp_out.1'")


def test_evaluate_refuses_dictionaries_where_there_are_no_features(
    finished_run: Path, model_folder: Path
) -> None:
    what = ["evaluate", finished_run / "circuit.json", "--model", model_folder]
    refused(call(*what, "--sae", "demo"), "has no features: leave out --sae")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--edges", 10_000], "10,000 edges are asked for"),
        (["--edges", 100], "with 8 features"),
        (["--method", "exact"], "scores edges only and cannot choose features: give --features 0"),
        (["--sae-kind", "saes"], "unknown kind of dictionary 'saes'"),
        (["--sae-kind", "transcoder"], "none of 2 dictionaries is of kind 'transcoder', but 'sae'"),
        (["--sae-id", "mlp_out.7"], "unknown dictionary in"),
        (["--sae", "gpt2-small-res-jb"], "say which of its dictionaries with --sae-id"),
        (["--sae", "demo"], "was trained on"),
    ],
)
def test_bad_options(quick: list[object], more: list[object], message: str, tmp_path: Path) -> None:
    refused(call(*quick, *more), message)
    assert not list((tmp_path / "run").glob("*.safetensors"))


def test_a_choice_among_no_dictionaries(model_folder: Path, tmp_path: Path) -> None:
    quick = ["discover", "--model", model_folder, "--out", tmp_path / "run"]
    refused(call(*quick, "--sae-id", "z.0"), "--sae-id chooses among dictionaries: say which")
    refused(call(*quick, "--sae-kind", "sae"), "--sae-kind chooses among dictionaries")


def test_discover_by_neuron_needs_no_dictionaries(model_folder: Path, tmp_path: Path) -> None:
    what = ["discover", "--model", model_folder, "--neurons", "mlp", "--features", 8, "--n", 4,
            "--edges", 20, "--method", "eap", "--no-curve", "--out", tmp_path / "run"]  # fmt: skip
    result = call(*what)
    assert result.exit_code == 0, result.output
    assert "of 8 are in; faithfulness" in result.stdout
    circuit = load(tmp_path / "run" / "circuit.json", Circuit)
    assert sum(node.kind == "neuron" for node in circuit.graph.src_nodes) == 8
    assert Record.load(tmp_path / "run" / "record.json").settings["neurons"] == "mlp"
    again = call(*what)
    assert again.exit_code == 0, again.output
    assert again.stdout == result.stdout
    tested = call("evaluate", tmp_path / "run" / "circuit.json", "--model", model_folder, "--n", 4)
    assert tested.exit_code == 0, tested.output
    refused(call(*what, "--neurons", "mlps"), "unknown kind of neuron 'mlps': did you mean 'mlp'")
