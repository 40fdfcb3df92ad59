"""Workers on devices and on a real local Ray cluster: the same results, and what may go wrong."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import sae_circuits as sc
from faults import Faulty, Squares, assert_same_files
from sae_circuits.errors import (
    MissingProgram,
    ModelError,
    NumericalError,
    OptionError,
    OutputError,
    ShardError,
    WorkerError,
)
from sae_circuits.shards import InProcess, Means, Workers, run_shards, shards_of

pytestmark = pytest.mark.xdist_group("ray")  # one cluster, not one for each process

TESTS = Path(__file__).parents[1]
Made = tuple[Any, Any, Any]


@pytest.fixture(scope="module", params=["bridge", "hooked"])
def made(request: pytest.FixtureRequest) -> Made:
    model = sc.load_model("demo", kind=request.param)
    return model, sc.TensorGraph.from_model(model), sc.tasks.ioi(model, n=12, seed=0)


@pytest.fixture(scope="module")
def bridge() -> Made:
    model = sc.load_model("demo")
    return model, sc.TensorGraph.from_model(model), sc.tasks.ioi(model, n=12, seed=0)


@pytest.fixture(scope="module")
def on_ray() -> Iterator[Workers]:
    pytest.importorskip("ray", reason="Ray is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(TESTS), prepend=os.pathsep)  # where workers find `faults`
        with sc.workers("local", 2) as found:
            yield found


@pytest.fixture(params=["devices", "ray"])
def two(request: pytest.FixtureRequest) -> Workers:
    if request.param == "ray":
        return request.getfixturevalue("on_ray")
    return sc.workers(["cpu", "cpu"])


def scored(made: Made, **more: Any) -> torch.Tensor:
    return sc.attribute(*made, **{"method": "eap", "batch_size": 2, **more}).values


# -- the same results ------------------------------------------------------------------------------


def test_scores_are_equal_bit_for_bit(made: Made, two: Workers) -> None:
    assert two.n == 2
    for how in ({"method": "eap"}, {"method": "eap-ig", "steps": 2}, {"intervention": "zero"}):
        assert torch.equal(scored(made, **how, workers=two), scored(made, **how))


def test_scores_of_a_float64_model_and_of_means_are_equal(two: Workers) -> None:
    model = sc.load_model("demo", dtype=torch.float64)
    made = model, sc.TensorGraph.from_model(model), sc.tasks.ioi(model, n=12, seed=0)
    how = {"intervention": "mean-positional"}
    found = scored(made, **how, workers=two)
    assert found.dtype == torch.float64
    assert torch.equal(found, scored(made, **how))


def test_curves_and_reports_are_equal(bridge: Made, two: Workers) -> None:
    model, _, task = bridge
    scores = sc.attribute(*bridge, method="eap")
    circuit = sc.prune.top_n(scores, 60)
    for intervention in ("corrupt", "mean"):
        how: dict[str, Any] = {"batch_size": 5, "intervention": intervention}
        a, b = (sc.evaluate(model, circuit, task, **how, **w) for w in ({}, {"workers": two}))
        assert a.measures == b.measures
        assert all(torch.equal(a.examples[name], b.examples[name]) for name in a.examples)
    a, b = (
        sc.curve(model, scores, task, fractions=(0.1, 0.5), batch_size=5, **w)
        for w in ({}, {"workers": two})
    )
    assert a.values == b.values
    assert a.random_values == b.random_values


def test_features_travel_with_their_dictionaries(bridge: Made, two: Workers) -> None:
    model, _, task = bridge
    graph = sc.TensorGraph.from_model(model, saes=sc.load_saes("demo", ["mlp_out.0"]))
    a, b = (
        sc.attribute_nodes(model, graph, task, method="eap", batch_size=4, **w)
        for w in ({}, {"workers": two})
    )
    assert torch.equal(a.values, b.values)
    few = graph.restrict(a.features(20))
    assert torch.equal(
        scored((model, few, task), workers=two), scored((model, few, task))
    )  # fmt: skip


def test_a_metric_made_in_a_function_travels(bridge: Made, two: Workers) -> None:
    factor = 3.0

    def metric(logits: torch.Tensor, targets: Any) -> torch.Tensor:
        return factor * sc.metrics.logit_diff(logits, targets)

    found = scored(bridge, metric=metric, workers=two)
    assert torch.allclose(found, 3 * scored(bridge), atol=1e-6)


def test_a_method_that_looks_at_all_examples_is_one_shard(bridge: Made, two: Workers) -> None:
    how = {"method": "acdc", "threshold": 0.5}
    assert torch.equal(scored(bridge, **how, workers=two), scored(bridge, **how))


def test_the_models_own_state_is_as_it_was(bridge: Made, two: Workers) -> None:
    model = bridge[0]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    scored(bridge, workers=two)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_a_folder_of_one_process_is_gone_on_with_by_two(
    bridge: Made, two: Workers, tmp_path: Path
) -> None:
    whole = scored(bridge, folder=tmp_path / "one")
    scored(bridge, folder=tmp_path / "both", workers=two)
    for file in (tmp_path / "one").iterdir():
        assert (tmp_path / "both" / file.name).read_bytes() == file.read_bytes()
    for i in (1, 4):
        (tmp_path / "one" / f"{i:05}.safetensors").unlink()
    assert torch.equal(scored(bridge, folder=tmp_path / "one", workers=two), whole)


def test_connections_and_virtual_weights_are_equal(bridge: Made, two: Workers) -> None:
    model, _, task = bridge
    saes = sc.load_saes("demo", ["mlp_out.0", "resid_post.1"])
    for method in ("direct", "patching"):
        a, b = (
            sc.pair_connections(model, ["post1.f228", "post1.f5"], saes, task, method=method,
                                batch_size=2, **w)
            for w in ({}, {"workers": two})
        )  # fmt: skip
        assert len(a.scores("m0"))
        assert torch.equal(a.scores("m0").ids, b.scores("m0").ids)
        assert torch.equal(a.scores("m0").values, b.scores("m0").values)
    a, b = (
        sc.connections(model, "post1.f228", saes, task, components="all", batch_size=2, **w)
        for w in ({}, {"workers": two})
    )
    assert torch.equal(a.values["m0"], b.values["m0"])
    assert a.errors == b.errors
    assert a.components == b.components
    for heads in (None, [(1, 0)]):
        a, b = (sc.virtual_weights(model, *saes, heads=heads, **w) for w in ({}, {"workers": two}))
        a, b = (one if heads is None else one[1, 0] for one in (a, b))
        assert torch.equal(a.into_values, b.into_values)
        assert torch.equal(a.of_ids, b.of_ids)


@pytest.mark.parametrize("memory", ["512MiB", "2MiB"])  # all rows are held, or few of them
def test_attribution_graphs_are_equal(
    made: Made, two: Workers, tmp_path: Path, memory: str
) -> None:
    transcoders = sc.load_saes("demo", kind="transcoder")

    def traced(**more: Any) -> sc.AttributionGraph:
        prompt = made[2].clean_text[0]
        return sc.trace(made[0], prompt, transcoders=transcoders, memory=memory, **more)

    alone = traced(folder=tmp_path / "one")
    for file in [*(tmp_path / "one").rglob("00001.*"), *(tmp_path / "one").rglob("00004.*")]:
        file.unlink()
    for other in (
        traced(workers=two),
        traced(workers=two, folder=tmp_path / "both"),
        traced(workers=two, folder=tmp_path / "one"),
    ):
        assert other.nodes == alone.nodes
        for name in ("activation", "influence", "src", "dest", "weight"):
            assert torch.equal(getattr(other, name), getattr(alone, name)), name
    assert_same_files(tmp_path / "one", tmp_path / "both")


def test_steering_is_equal(made: Made, two: Workers, tmp_path: Path) -> None:
    model, _, task = made
    (sae,) = sc.load_saes("demo", ["z.1"])
    asked: dict[str, Any] = {"prompts": list(task.clean_text[:2]), "n_tokens": 3, "task": task}
    asked |= {"batch_size": 5, "strengths": [0, 1]}
    for changes, more in (
        ({228: ("add", 4.0), 5: "remove"}, {"temperature": 2.0}),
        ({228: "project"}, {"positions": [3, 4]}),
    ):
        how = {**asked, **more}
        a, b = (sc.steer(model, sae, changes, **how, **w) for w in ({}, {"workers": two}))
        assert (a.before, a.texts) == (b.before, b.texts)
        assert torch.equal(a.values, b.values)
        assert torch.equal(a.clean, b.clean)
    for name, w in (("one", {}), ("both", {"workers": two})):
        sc.steer(model, sae, {228: "project"}, **asked, **w, folder=tmp_path / name)
    assert_same_files(tmp_path / "one", tmp_path / "both")


def test_pairs_of_features_and_heads_are_equal_and_gone_on_with(
    bridge: Made, two: Workers, tmp_path: Path
) -> None:
    model, _, task = bridge
    saes = sc.load_saes("demo", ["resid_post.0", "resid_post.1"])
    graph = sc.TensorGraph.from_model(model, saes=saes)

    def pairs(**more: Any) -> sc.PairScores:
        return sc.attribute_pairs(
            model, graph, task, method="eap-ig", steps=2, batch_size=2, **more
        )

    strongest = sc.attribute_pairs(model, graph, task[:1]).top(1)[0][0]
    source, target = strongest.split("->")

    def heads(source: str = source, **more: Any) -> torch.Tensor:
        how: dict[str, Any] = {"through": "a1", "reference": "corrupt", **more}
        return sc.head_connections(model, source, target, saes, task[:1], **how)

    whole, by_head = pairs(), heads()
    assert len(whole)
    assert bool(by_head.any())
    folder = tmp_path / "pairs"
    for found in (pairs(workers=two), pairs(folder=folder)):
        assert torch.equal(found.ids, whole.ids)
        assert torch.equal(found.values, whole.values)
    (folder / "00002.safetensors").unlink()
    again = pairs(folder=folder, workers=two)
    assert torch.equal(again.values, whole.values)
    for more in ({"workers": two}, {"folder": tmp_path / "heads"}, {"folder": tmp_path / "heads"}):
        assert torch.equal(heads(**more), by_head)
    other = "post0.f0" if source != "post0.f0" else "post0.f1"
    with pytest.raises(OutputError, match=r"feature: \d+, now [01]\b"):
        heads(other, folder=tmp_path / "heads")


# -- faults ----------------------------------------------------------------------------------------


def poisoned(made: Made, what: str, marks: Path, times: int = 1) -> tuple[Faulty, set[int]]:
    """A metric that fails at an answer, and the shards of two that have it."""
    answers = made[2].answer[:, 0]
    token = int(answers[5])
    return Faulty(what, token, marks, times), {int(i) // 2 for i in (answers == token).nonzero()}


def test_a_bad_shard_is_reported_and_made_alone_later(
    bridge: Made, two: Workers, tmp_path: Path
) -> None:
    metric, own = poisoned(bridge, "nan", tmp_path)
    (tmp_path / "bad").touch()
    folder = tmp_path / "s"
    with pytest.raises(ShardError, match=rf"{len(own)} of 6 shards .* give the same call") as e:
        scored(bridge, metric=metric, workers=two, folder=folder)
    assert {bad.shard.index for bad in e.value.bad} == own
    assert all(type(bad.error) is NumericalError for bad in e.value.bad)
    assert {int(f.stem) for f in folder.glob("*.safetensors")} == set(range(6)) - own
    kept = {f.name: f.stat().st_mtime_ns for f in folder.glob("*.safetensors")}
    (tmp_path / "bad").unlink()
    found = scored(bridge, metric=metric, workers=two, folder=folder)
    assert torch.equal(found, scored(bridge))
    assert all((folder / name).stat().st_mtime_ns == at for name, at in kept.items())


def test_memory_that_runs_out_is_told_of_as_such(
    bridge: Made, two: Workers, tmp_path: Path
) -> None:
    metric, own = poisoned(bridge, "memory", tmp_path)
    (tmp_path / "bad").touch()
    with pytest.raises(ShardError, match=r"no folder was given to keep them") as e:
        scored(bridge, metric=metric, workers=two)
    assert {bad.shard.index for bad in e.value.bad} == own
    assert "memory" in str(e.value)
    assert torch.equal(scored(bridge, workers=two), scored(bridge))  # they live on


def test_a_worker_that_is_killed_is_replaced_and_nothing_counts_twice(
    bridge: Made, on_ray: Workers, tmp_path: Path
) -> None:
    metric, own = poisoned(bridge, "die", tmp_path)
    assert torch.equal(scored(bridge, metric=metric, workers=on_ray), scored(bridge))
    assert [file.name for file in tmp_path.iterdir()] == ["died0"]
    assert own
    for file in tmp_path.iterdir():
        file.unlink()
    found = scored(bridge, metric=metric, workers=on_ray, folder=tmp_path / "s")
    assert torch.equal(found, scored(bridge))


def test_a_shard_that_kills_every_worker_is_given_up_and_the_rest_is_kept(
    bridge: Made, on_ray: Workers, tmp_path: Path
) -> None:
    metric, own = poisoned(bridge, "die", tmp_path, times=3 * 6)
    folder = tmp_path / "s"
    with pytest.raises(ShardError, match="its worker died 3 times, as one does whose memory") as e:
        scored(bridge, metric=metric, workers=on_ray, folder=folder)
    assert {bad.shard.index for bad in e.value.bad} == own
    assert {int(f.stem) for f in folder.glob("*.safetensors")} == set(range(6)) - own
    for i in range(18):
        (tmp_path / f"died{i}").touch()
    found = scored(bridge, metric=metric, workers=on_ray, folder=folder)
    assert torch.equal(found, scored(bridge))


DRIVER = """
import sys
from pathlib import Path
import torch
import sae_circuits as sc
from faults import Faulty, Squares
torch.set_num_threads(1)
model = sc.load_model("demo")
made = model, sc.TensorGraph.from_model(model), sc.tasks.ioi(model, n=12, seed=0)
metric = Faulty("wait", -1, Path(sys.argv[1]))
with sc.workers("local", 2) as two:
    sc.attribute(*made, metric=metric, method="eap", batch_size=2, workers=two,
                 folder=sys.argv[1] + "/s")
"""


def test_the_driver_killed_and_started_again_goes_on(bridge: Made, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path)], env=environment)
    held: set[str] = set()
    started = time.monotonic()
    while len(held) < 2:  # two shards are done: in the middle of the work
        time.sleep(0.02)
        held = {file.name for file in (tmp_path / "s").glob("0*.safetensors")}
        assert time.monotonic() - started < 120
        assert driver.poll() is None
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    kept = {f: f.stat().st_mtime_ns for f in (tmp_path / "s").glob("0*.safetensors")}
    metric = Faulty("wait", -1, tmp_path)
    found = scored(bridge, metric=metric, folder=tmp_path / "s")
    assert torch.equal(found, scored(bridge))
    assert all(f.stat().st_mtime_ns == at for f, at in kept.items())


ON_ADDRESS = """
import sys
import torch
import sae_circuits as sc
torch.set_num_threads(1)
model = sc.load_model("demo")
made = model, sc.TensorGraph.from_model(model), sc.tasks.ioi(model, n=12, seed=0)
with sc.workers(sys.argv[1], 2, load=lambda: sc.load_model("demo")) as two:
    assert not two.owns_cluster
    print(two.n, file=sys.stderr)
    sc.attribute(*made, method="eap", batch_size=2, workers=two, folder=sys.argv[2])
"""


@pytest.mark.slow
def test_a_cluster_that_runs_is_found_by_its_address_and_left_running(
    bridge: Made, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    ray, port = [str(Path(sys.executable).parent / "ray")], free_port()
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": "/tmp"}
    environment["RAY_USAGE_STATS_ENABLED"] = "0"
    quiet: dict[str, Any] = {"env": environment, "capture_output": True, "text": True}
    head = ["start", "--head", f"--port={port}", "--num-cpus=2", "--include-dashboard=false"]
    cluster = subprocess.Popen(
        [*ray, *head, "--block"], env=environment, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        address = f"127.0.0.1:{port}"
        status = [*ray, "status", f"--address={address}"]
        started = time.monotonic()
        while subprocess.run(status, **quiet).returncode:
            assert time.monotonic() - started < 120
        command = [sys.executable, "-c", ON_ADDRESS, address, str(tmp_path / "s")]
        done = subprocess.run(command, **quiet)
        assert done.returncode == 0, done.stderr
        assert torch.equal(scored(bridge, folder=tmp_path / "s"), scored(bridge))
        assert subprocess.run(status, **quiet).returncode == 0
    finally:
        os.killpg(cluster.pid, signal.SIGTERM)
        cluster.wait()


# -- what is refused -------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_an_address_that_does_not_answer_is_said_at_once() -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    started = time.monotonic()
    for address in (f"127.0.0.1:{free_port()}", f"ray://127.0.0.1:{free_port()}"):
        code = f"import sae_circuits as sc; sc.workers({address!r})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert f"WorkerError: no Ray cluster answers at {address!r}" in done.stderr
        assert "ray start --head" in done.stderr
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"n": 0}, "0 workers: give one or more"),
        ({"n": -1}, "-1 workers: give one or more"),
        ({"threads": 0}, "threads=0: give one or more"),
        ({"gpus_per_worker": -1}, "gpus_per_worker=-1: give 0 or more"),
        ({"retries": -1}, "retries=-1: give 0 or more"),
        ({"where": []}, "no devices: give one or more"),
    ],
)
def test_workers_that_cannot_be_are_refused(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        sc.workers(**asked)


def test_devices_that_are_not_there_are_refused() -> None:
    with pytest.raises(WorkerError, match="cannot work on the device 'cuda:63'"):
        sc.workers(["cpu", "cuda:63"])


def test_another_model_in_the_workers_is_refused(bridge: Made) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    with (
        sc.workers("local", 1, load=lambda: sc.load_model("demo", dtype=torch.bfloat16)) as other,
        pytest.raises(ModelError, match="has other weights than the one that it works for"),
    ):
        scored(bridge, workers=other)


def test_a_loader_that_fails_is_told_of(bridge: Made) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    with (
        sc.workers("local", 1, load=lambda: sc.load_model("no-such-model")) as other,
        pytest.raises(sc.errors.CircuitsError, match="no-such-model"),
    ):
        scored(bridge, workers=other)


def test_none_is_this_process_and_so_is_auto_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(sc.workers("none"), InProcess)
    module = sys.modules["sae_circuits.distributed.workers"]  # its function has the same name
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    assert isinstance(sc.workers("auto"), InProcess)
    with pytest.raises(MissingProgram, match=r"pip install 'sae-circuits\[ray\]'"):
        sc.workers("local")


def test_a_manifest_of_another_run_is_refused_by_workers(
    bridge: Made, two: Workers, tmp_path: Path
) -> None:
    scored(bridge, folder=tmp_path)
    with pytest.raises(OutputError, match="method: eap, now clean-corrupted"):
        scored(bridge, method="clean-corrupted", folder=tmp_path, workers=two)


def never_loaded() -> Any:
    raise AssertionError("a model is loaded for a job that has none")


def test_a_job_without_a_model_loads_none(on_ray: Workers) -> None:
    shards = shards_of(10, 3)
    with sc.workers("local", 1, load=never_loaded) as one:
        found = [part["squares"] for part in run_shards(Squares(), shards, Means(one))]
    assert torch.cat(found).tolist() == [i * i for i in range(10)]
