from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from command_line import call, done, refused
from sae_circuits import __version__, tasks
from sae_circuits.attribution import attribute
from sae_circuits.cli.app import COMMANDS
from sae_circuits.errors import OutputError
from sae_circuits.evaluation import Curve, Report
from sae_circuits.explorer import folder as report_folder
from sae_circuits.graph import Circuit, Scores
from sae_circuits.io import Record, export_eap_ig, load, save
from small_circuits import by_hand

RUN = {
    "scores.safetensors", "circuit.json", "circuit.html", "circuit.dot", "report.json",
    "report.html", "explorer.html", "record.json",
}  # fmt: skip
CURVE = {"curve.json", "curve.svg", "curve.png"}


@pytest.fixture
def quick(model_folder: Path, tmp_path: Path) -> list[str]:
    """A short run of `discover` into tmp_path/run."""
    return ["discover", "--model", str(model_folder), "--n", "4", "--edges", "10", "--method",
            "eap", "--out", str(tmp_path / "run")]  # fmt: skip


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of a finished run of `quick`, without a curve."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


# -- help ----------------------------------------------------------------------------------------


def test_the_version_is_shown() -> None:
    assert call("--version").stdout == f"sae-circuits {__version__}\n"


@pytest.mark.parametrize("command", [None, *(command.__name__ for command in COMMANDS)])
def test_each_help_ends_in_an_example(command: str | None) -> None:
    result = call(*([command] if command else []), "--help")
    assert result.exit_code == 0
    *_, heading, example = result.stdout.rstrip().splitlines()
    assert heading.strip() == "Example:"
    assert example.strip().startswith(f"sae-circuits {command or 'demo'}")


@pytest.mark.parametrize("example", COMMANDS.values())
def test_the_examples_parse(example: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every option in an example exists: what fails is only what the example runs on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sae_circuits.cli.pipeline.run", _stop)
    monkeypatch.setattr("sae_circuits.cli.options.open_model", _stop)
    result = call(*shlex.split(example)[1:])
    assert result.exit_code in (0, 2, 77), result.output
    assert "Usage" not in result.output


def _stop(*_: object, **__: object) -> None:
    raise SystemExit(77)


# -- the main job --------------------------------------------------------------------------------


def test_discover_leaves_all_files(quick: list[str], model_folder: Path, tmp_path: Path) -> None:
    result = call(*quick)
    assert result.exit_code == 0, result.output
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names - {"circuit.svg"} == RUN | CURVE
    report = load(tmp_path / "run" / "report.json", Report)
    assert (report.n_edges, report.of.graph.n_edges) == (10, 46)
    assert report.of == load(tmp_path / "run" / "circuit.json", Circuit)
    assert report.curve is not None
    assert report.curve.values == load(tmp_path / "run" / "curve.json", Curve).values
    scores = load(tmp_path / "run" / "scores.safetensors", Scores)
    assert scores.provenance.method == "eap"
    assert (report.provenance.task, report.provenance.model) == ("ioi", model_folder.name)
    assert str(model_folder) not in (tmp_path / "run" / "circuit.html").read_text()
    record = Record.load(tmp_path / "run" / "record.json")
    assert record.finished is not None
    assert (record.settings["edges"], record.settings["seed"]) == (10, 0)
    assert f"{100 * report.faithfulness:.3g}".replace("-", "−") in result.stdout
    assert str(tmp_path / "run" / "report.html") in result.stdout
    assert "gave" in (tmp_path / "run" / "report.html").read_text()  # the prompts are shown
    # No bar where nobody watches; the model is random and does no task.
    assert result.stderr.startswith("sae-circuits: warning: task 'ioi': ")
    assert result.stderr.count("\n") == 1


def test_the_curve_is_left_out_when_asked(run: Path) -> None:
    assert not CURVE & {path.name for path in run.iterdir()}


def test_best_first_keeps_what_reaches_the_logits(quick: list[str], tmp_path: Path) -> None:
    assert call(*quick, "--no-curve", "--pruner", "best-first", "--by", "help").exit_code == 0
    circuit = load(tmp_path / "run" / "circuit.json", Circuit)
    assert len(circuit) == 10
    assert any(edge.dest.kind == "logits" for edge in circuit.edges)


def test_a_task_of_ones_own(quick: list[str], tmp_path: Path) -> None:
    prompts = [
        {"clean": "Mary and John", "corrupt": "John and John", "answer": "Mary", "wrong": "John"},
        {"clean": "John and Mary", "corrupt": "Mary and Mary", "answer": "John", "wrong": "Mary"},
    ]
    (tmp_path / "mine.json").write_text(json.dumps(prompts))
    result = call(*quick, "--no-curve", "--task-file", tmp_path / "mine.json")
    assert result.exit_code == 0, result.output
    assert load(tmp_path / "run" / "report.json", Report).provenance.task == "mine"
    (tmp_path / "mine.json").write_text(json.dumps(prompts[:1]))  # the content decides
    refused(call(*quick, "--no-curve", "--task-file", tmp_path / "mine.json"), "task_file_sha256: ")


# -- resuming ------------------------------------------------------------------------------------


def test_an_interrupted_run_goes_on(
    quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sae_circuits.cli.pipeline.Job.report", interrupted)
        result = call(*quick)
    assert result.exit_code == 130
    assert result.stderr.endswith("\nsae-circuits: interrupted; finished files are kept\n")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"record.json", "scores.safetensors", "circuit.json"}
    before = (tmp_path / "run" / "scores.safetensors").stat().st_mtime_ns
    monkeypatch.setattr("sae_circuits.cli.pipeline.Job.scores", _stop)  # must not run again
    assert call(*quick).exit_code == 0
    assert (tmp_path / "run" / "scores.safetensors").stat().st_mtime_ns == before
    assert Record.load(tmp_path / "run" / "record.json").finished is not None


def test_other_settings_are_named_and_overwrite_starts_anew(quick: list[str], run: Path) -> None:
    refused(call(*quick, "--no-curve", "--seed", "7"), "(seed: 0, now 7): choose another folder")
    assert call(*quick, "--no-curve", "--batch-size", "2").exit_code == 0  # decides nothing
    assert call(*quick, "--no-curve", "--seed", "7", "--overwrite").exit_code == 0
    assert load(run / "scores.safetensors", Scores).provenance.seed == 7


def test_a_damaged_stage_is_made_anew(quick: list[str], run: Path) -> None:
    path = run / "scores.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    result = call(*quick, "--no-curve")
    assert result.exit_code == 0
    assert "is damaged or truncated" in result.stderr
    assert path.read_bytes() == whole


def test_a_folder_of_other_things_is_left_alone(quick: list[str], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("x")
    for arguments in (quick, [*quick, "--overwrite"]):
        refused(call(*arguments), "has 'thesis.tex', which no run writes")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.tex"]


def test_files_without_a_record_are_left_alone(quick: list[str], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    save(by_hand(), tmp_path / "run" / "circuit.json")
    refused(call(*quick), "has 'circuit.json' but no record.json")


# -- what is refused before the model runs -------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "iio"], "unknown task 'iio': did you mean 'ioi'?"),
        (["--method", "eap-gi"], "unknown method 'eap-gi': did you mean 'eap-ig'"),
        (["--metric", "logitdiff"], "unknown metric 'logitdiff': did you mean 'logit_diff'?"),
        (["--intervention", "zeros"], "unknown intervention 'zeros': did you mean 'zero'?"),
        (["--pruner", "topn"], "unknown pruner 'topn': did you mean 'top-n'?"),
        (["--by", "absolute"], "unknown order 'absolute'"),
        (["--dtype", "float23"], "unknown dtype 'float23': did you mean 'float32'"),
        (["--task-file", "none.csv"], "cannot read 'none.csv': no such file"),
        (["--method", "clean-corrupted", "--intervention", "zero"], "not defined for"),
        (["--edges", "47"], "47 edges are asked for, and"),
        (["--device", "abacus"], "cannot use the device 'abacus'"),
        (["--model", "gpt22"], "unknown model 'gpt22': did you mean"),
    ],
)
def test_bad_options_are_refused_before_the_model_runs(
    quick: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str],
    message: str,
) -> None:  # fmt: skip
    monkeypatch.setattr("sae_circuits.cli.pipeline.Job.scores", _stop)
    refused(call(*quick, *arguments), message)
    assert list((tmp_path / "run").glob("*")) == []


def test_a_place_that_cannot_be_written_is_refused_first(
    quick: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sae_circuits.cli.pipeline.open_model", _stop)
    (tmp_path / "run").write_text("a file")
    refused(call(*quick), "a file stands where a folder is needed")


def test_debug_shows_the_traceback(quick: list[str]) -> None:
    result = call("--debug", *quick, "--task", "iio")
    assert type(result.exception).__name__ == "UnknownName"


def test_an_unknown_option_is_a_usage_error(quick: list[str]) -> None:
    result = call(*quick, "--egdes", "3")
    assert result.exit_code == 2
    assert "No such option: --egdes" in result.stderr


# -- the other commands --------------------------------------------------------------------------


def test_evaluate_prints_measures_and_writes_a_report(
    run: Path, model_folder: Path, tmp_path: Path
) -> None:
    what = ["evaluate", run / "circuit.json", "--model", model_folder, "--n", 4]
    result = call(*what, "--out", tmp_path / "again")
    assert result.exit_code == 0, result.output
    report = load(run / "report.json", Report)
    row = next(line for line in result.stdout.splitlines() if line.startswith("faithfulness"))
    assert float(row.split()[1]) == pytest.approx(report.faithfulness, abs=1e-4)
    again = load(tmp_path / "again" / "report.json", Report)
    assert again.faithfulness == pytest.approx(report.faithfulness)
    refused(call(*what, "--out", tmp_path / "again"), "is not empty")
    refused(call(*what, "--direction", "denoise"), "did you mean 'denoising'")


def test_evaluate_goes_on_after_a_stop_among_its_files(
    run: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    what = ["evaluate", run / "circuit.json", "--model", model_folder, "--n", 4, "--out"]
    done(*what, tmp_path / "whole")
    write = report_folder.write_pictures

    def stop(*_: object, **__: object) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr(report_folder, "write_pictures", stop)
    refused(call(*what, tmp_path / "stopped"), "the disk is full")
    monkeypatch.setattr(report_folder, "write_pictures", write)
    assert (tmp_path / "stopped" / "report.json").exists()
    done(*what, tmp_path / "stopped")
    whole, stopped = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("whole", "stopped")
    )
    assert whole == stopped


def test_evaluate_refuses_another_models_circuit(model_folder: Path, tmp_path: Path) -> None:
    from small_circuits import graph_of

    save(Circuit.full(graph_of(3, 2)), tmp_path / "circuit.json")
    result = call("evaluate", tmp_path / "circuit.json", "--model", model_folder, "--n", 4)
    assert result.exit_code == 2
    assert "is not of this model" in result.stderr


def test_render_draws_a_circuit(tmp_path: Path) -> None:
    save(by_hand(), tmp_path / "circuit.json")
    result = call("render", tmp_path / "circuit.json", tmp_path / "c.dot", "--top", 2)
    assert result.stdout == f"{tmp_path / 'c.dot'}\n"
    text = (tmp_path / "c.dot").read_text()
    assert text.count("->") == 2 * 2  # each edge as such and in its tooltip
    assert "the 2 strongest drawn" in text
    export_eap_ig(by_hand(), tmp_path / "eap.json")
    assert call(
        "render", tmp_path / "eap.json", tmp_path / "e.html", "--eap-ig"
    ).exit_code == 0  # fmt: skip
    refused(call("render", tmp_path / "eap.json", tmp_path / "e.dot"), "import_eap_ig")
    refused(call("render", tmp_path / "none.json", tmp_path / "e.dot"), "cannot read")
    refused(call("render", tmp_path / "circuit.json", tmp_path / "c.gif"), "end it in one of")


def test_tasks_are_listed_with_examples(model_folder: Path) -> None:
    result = call("tasks", "--model", model_folder)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == list(tasks.names())
    for name in tasks.names():
        assert lines[lines.index(name) + 1].startswith("  clean:   ")
    listed = call("tasks").stdout.splitlines()  # for the bundled model
    assert listed[listed.index("gender_bias") + 1].startswith(
        "  task 'gender_bias' cannot be written with this tokenizer: the list 'professions' keeps "
        "0 of 55 entries and needs 2"
    )
    refused(call("tasks", "addition"), "task 'addition' cannot be written with this tokenizer")
    assert call("tasks", "ioi", "--model", model_folder, "--n", 3).stdout.count("clean:") == 3
    refused(call("tasks", "oi", "--model", model_folder), "did you mean 'ioi'")


def test_pairs_that_do_not_fit_are_left_out_when_asked(
    quick: list[str], run: Path, tmp_path: Path
) -> None:
    """From EAP-IG's columns, with ids; and `evaluate` in the same way."""
    tokens = {"Mary": 2, "John": 3}
    rows = [
        ("Mary and John", "John and John"),
        ("Mary and", "John"),
        ("John and Mary", "Tom and Mary"),
    ]
    path = tmp_path / "mine.csv"
    ids = f"{tokens['Mary']},{tokens['John']}"
    lines = ["clean,corrupted,correct_idx,incorrect_idx", *(f"{a},{b},{ids}" for a, b in rows)]
    path.write_text("\n".join(lines))
    how = "--no-curve", "--overwrite", "--task-file", path
    refused(call(*quick, *how), "1 of 3 pairs do not fit this tokenizer: line 3: ")
    result = call(*quick, *how, "--skip")
    assert result.exit_code == 0, result.output
    assert "warning: " + str(path) + ": left out 1 of 3 pairs: line 3: " in result.stderr
    assert Record.load(tmp_path / "run" / "record.json").settings["skip"] is True
    model = quick[quick.index("--model") + 1]
    circuit = tmp_path / "run" / "circuit.json"
    refused(call("evaluate", circuit, "--model", model, "--task-file", path), "1 of 3 pairs")
    result = call("evaluate", circuit, "--model", model, "--task-file", path, "--skip")
    assert result.exit_code == 0, result.output


def test_a_folder_is_a_task_file_too(quick: list[str], tmp_path: Path) -> None:
    import datasets

    row = {"clean": "Mary and John", "corrupt": "John and John", "answer": "Mary", "wrong": "John"}
    datasets.Dataset.from_list([row]).save_to_disk(tmp_path / "mine")
    how = "--no-curve", "--task-file", tmp_path / "mine"
    result = call(*quick, *how)
    assert result.exit_code == 0, result.output
    first = Record.load(tmp_path / "run" / "record.json").settings
    assert (first["task_file"], len(first["task_file_sha256"])) == ("mine", 64)
    datasets.Dataset.from_list([row, row]).save_to_disk(tmp_path / "other")
    refused(call(*quick, *how[:-1], tmp_path / "other"), "task_file_sha256: ")


def test_models_are_listed() -> None:
    assert call("models").stdout.startswith("demo: ")


# -- as a process --------------------------------------------------------------------------------


def started(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sae_circuits.cli", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_leaves_whole_files_and_one_line(quick: list[str], tmp_path: Path) -> None:
    def hearing() -> None:
        """Heed Ctrl-C, which what runs in the background of a script is started to ignore."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    endless = "--method", "eap-ig", "--steps", 1_000_000
    process = started(*quick, *endless, preexec_fn=hearing)
    record = tmp_path / "run" / "record.json"
    for _ in range(600):
        if any(record.parent.rglob("manifest.json")):  # scoring has begun
            break
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    try:
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert stderr.splitlines()[1:] == ["sae-circuits: interrupted; finished files are kept"]
    assert stderr.startswith("sae-circuits: warning: task 'ioi': ")  # the model is random
    assert {path.name for path in record.parent.iterdir()} == {"record.json", "shards"}
    (held,) = (path for path in (record.parent / "shards").rglob("*") if path.is_file())
    assert held.name == "manifest.json"  # no shard was done, and none is there in part
    loaded = Record.load(record)
    assert loaded.finished is None
    assert loaded.command[:2] == ("sae-circuits", "discover")
    assert "--method eap-ig --steps 1000000" in loaded.shell


def test_errors_go_to_stderr_with_exit_code_2(quick: list[str]) -> None:
    process = started(*quick, "--task", "iio")
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stdout) == (2, "")
    assert stderr.startswith("sae-circuits: unknown task 'iio'")


def test_the_pipeline_is_the_librarys(run: Path, model_folder: Path) -> None:
    """What the command line writes is what the functions return."""
    import sae_circuits as sc

    model = sc.load_model(str(model_folder))
    task = sc.tasks.ioi(model, n=4, seed=0)
    scores = attribute(model, sc.TensorGraph.from_model(model), task, method="eap")
    saved = load(run / "scores.safetensors", Scores)
    assert saved.values.tolist() == pytest.approx(scores.values.tolist(), rel=1e-5, abs=1e-7)
    assert saved.provenance == scores.provenance
