"""Labels are the same for one process, for workers, and for a run that was stopped and went on."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sae_circuits as sc
from explaining import Server, serving
from made_corpus import ANIMALS, activity_of, firing, sentences
from sae_circuits.errors import LabelsLeftOut, OptionError, OutputError, ShardError
from sae_circuits.features.columns import Columns
from sae_circuits.features.labels import LeftOut, Proposal, Strategy, job, label
from sae_circuits.features.labels.job import LabelsJob
from sae_circuits.features.labels.ready import Ready
from sae_circuits.features.labels.run import labels_job
from sae_circuits.features.sources import HeldSource
from sae_circuits.shards.shipping import pack, unpack

TESTS = Path(__file__).parent.parent
CORPUS = sentences(n_prompts=60)


def on(*words: str) -> np.ndarray:
    return firing(CORPUS, lambda texts, i: texts[i] in words)


ACTIVITY = activity_of(
    CORPUS, *(on(word) for word in ANIMALS), on(*ANIMALS), on(" York"), on(" of")
)
N = ACTIVITY.n_features


@pytest.fixture
def server() -> Iterator[Server]:
    yield from serving()


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "TOGETHER", 2)


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.safetensors"))


# -- the same labels -------------------------------------------------------------------------------


def test_a_folder_is_gone_on_with_and_what_is_done_is_not_made_again(tmp_path, monkeypatch):
    whole = label(ACTIVITY, folder=tmp_path)
    assert whole == label(ACTIVITY)
    assert {one.strategy for one in whole} > {"tokens", "ngrams"}
    assert len(files_in(tmp_path)) == 4
    (tmp_path / "00002.safetensors").unlink()
    made, make = list[list[int]](), Ready.made
    monkeypatch.setattr(
        Ready, "made", lambda self, some: made.append(some.features.tolist()) or make(self, some)
    )
    again = label(ACTIVITY, folder=tmp_path)
    assert made == [[4, 5]]
    assert again == whole
    kept = [[one.time for one in some if one.feature not in (4, 5)] for some in (whole, again)]
    assert kept[0] == kept[1]


def test_two_workers_give_the_same_labels_and_the_same_folder(tmp_path):
    alone = label(ACTIVITY, folder=tmp_path / "one")
    with sc.workers(["cpu", "cpu"]) as two:
        assert label(ACTIVITY, workers=two) == alone
        assert label(ACTIVITY, folder=tmp_path / "two", workers=two) == alone
    manifests = [(tmp_path / name / "manifest.json").read_bytes() for name in ("one", "two")]
    assert manifests[0] == manifests[1]


def test_strategies_that_draw_and_that_are_given_arrays_are_the_same(tmp_path):
    embeddings = np.random.default_rng(0).standard_normal((len(CORPUS.vocabulary), 3))
    embeddings[[CORPUS.vocabulary.texts.index(word) for word in ANIMALS]] += 5
    how: dict[str, Any] = {"clusters": {"embeddings": embeddings}, "seed": 3}
    with sc.workers(["cpu", "cpu"]) as two:
        found = label(ACTIVITY, ["clusters", "tokens"], folder=tmp_path, workers=two, **how)
    assert found == label(ACTIVITY, ["clusters", "tokens"], **how)
    assert "clusters" in {one.strategy for one in found}


def test_a_worker_is_sent_the_corpus_once_and_with_a_shard_its_activations():
    own = labels_job(ACTIVITY, "tokens", None, 0, {})
    there: LabelsJob = unpack(pack(own, "cpu"), "cpu")
    assert not hasattr(there.activity, "columns")
    assert there.ready is None
    shard = unpack(pack(own.shards()[1], "cpu"), "cpu")
    assert shard.given.activity is None
    assert shard.given.columns().features.tolist() == [2, 3]
    np.testing.assert_array_equal(shard.given.columns().places, ACTIVITY.columns([2, 3]).places)
    (found,), (here,) = (one.open()(shard).values() for one in (there, own))
    times = re.compile(rb'"time": "[^"]*"')
    assert times.sub(b"", found.numpy().tobytes()) == times.sub(b"", here.numpy().tobytes())


def test_other_labels_in_the_folder_are_refused_with_what_differs(tmp_path):
    label(ACTIVITY, "tokens", folder=tmp_path)
    for how, what in (
        ({"seed": 1}, "seed: 0, now 1"),
        ({"features": [1, 2]}, "features: "),
        ({"strategies": "ngrams"}, "strategies: "),
        ({"tokens": {"most": 2}}, r"strategies: .*"),
        ({"activity": activity_of(CORPUS, *[on(" of")] * N)}, "activations: "),
    ):
        given = {"activity": ACTIVITY, "strategies": "tokens", "folder": tmp_path, **how}
        with pytest.raises(OutputError, match=rf"another run \(.*{what}.*choose another folder"):
            label(**given)


def test_a_file_that_an_option_names_counts_by_its_content(tmp_path):
    path = tmp_path / "batch-0.jsonl"
    row = {"modelId": "m", "layer": "0", "index": "3", "description": "one", "typeName": "t"}
    how: dict[str, Any] = {"folder": tmp_path / "kept", "neuronpedia": {"path": path}}
    path.write_text(json.dumps(row))
    assert [one.text for one in label(ACTIVITY, "neuronpedia", **how)] == ["one"]
    path.rename(tmp_path / "other.jsonl")
    path.write_text(json.dumps({**row, "description": "two"}))
    with pytest.raises(OutputError, match=r"another run \(strategies: "):
        label(ACTIVITY, "neuronpedia", **how)


# -- what is bad -----------------------------------------------------------------------------------


def test_a_feature_that_fails_is_told_of_by_name_the_rest_is_kept_and_goes_on(tmp_path):
    mark = tmp_path / "bad"
    mark.touch()

    def make(setting, *, at):
        def propose(columns: Columns):
            for feature in columns.features.tolist():
                if feature == at and mark.exists():
                    raise ZeroDivisionError("of all things")
                yield Proposal(feature, f"the {feature}th", vouched=True)

        return propose

    mine = Strategy("mine", make, options={"at": 3})
    alone = replace(mine, alone=True)
    named = replace_names(ACTIVITY, [f"f{i}" for i in range(N)])
    with pytest.raises(ZeroDivisionError):  # as it is, where nothing is kept
        label(ACTIVITY, mine)
    with sc.workers(["cpu", "cpu"]) as two:
        for one, which, n, workers in (
            (mine, r"features 2 to 3 \(2 of them\)", 3, None),
            (mine, r"features 2 to 3 \(2 of them\)", 3, two),
            (alone, "feature 3", N - 1, None),
        ):
            folder = tmp_path / f"{which[:8]}{workers is None}"
            said = f"1 of {n + 1} shards of labels failed; the others are kept.*\n  {which}: "
            with pytest.raises(ShardError, match=said + "ZeroDivisionError: of all things"):
                label(ACTIVITY, one, folder=folder, workers=workers)
            assert len(files_in(folder)) == n
    with pytest.raises(ShardError, match=r"feature 3 \('f3'\): "):
        label(named, alone, folder=tmp_path / "named")
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}
    mark.unlink()
    found = label(ACTIVITY, alone, folder=folder)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert [one.text for one in found] == [f"the {i}th" for i in range(N)]


def replace_names(activity: Any, names: list[str]) -> Any:
    object.__setattr__(named := replace(activity), "names", tuple(names))
    return named


def test_a_provenance_that_json_does_not_know_is_refused():
    def make(setting):
        return lambda columns: iter([Proposal(0, "x", provenance={"n": np.int64(3)}, vouched=True)])

    with pytest.raises(OptionError, match=r"'odd' gives feature 0 the provenance .* plain values"):
        label(ACTIVITY, Strategy("odd", make))


# -- a language model ------------------------------------------------------------------------------


def explained(server: Server, **more: Any):
    quick = {"base_url": server.url, "model": "small", "backoff": 0.0, "retries": 0}
    how = {key: more.pop(key) for key in ("folder", "workers") if key in more}
    return label(ACTIVITY, "explainer", **how, explainer={**quick, **more})


def test_features_that_are_done_are_not_asked_for_again(server, tmp_path):
    alone = explained(server)
    asked = list(server.prompts)
    assert len(asked) == 2 * N
    server.prompts.clear()
    server.answer = lambda prompt, n: (401, {}, "") if n >= 7 else server.honest(prompt)
    with pytest.raises(ShardError, match=r"4 of 7 shards of labels .*\n  feature 3: .*401"):
        explained(server, folder=tmp_path)
    server.prompts.clear()
    server.answer = lambda prompt, n: server.honest(prompt)
    assert explained(server, folder=tmp_path) == alone
    assert server.prompts == asked[6:]  # the first three are done
    server.prompts.clear()
    how = {"max_calls": 5000, "timeout": 9.0, "key": "OTHER", "base_url": "http://127.0.0.1:9"}
    assert explained(server, folder=tmp_path, **how) == alone  # they have no say in the labels
    with pytest.raises(OutputError, match="another run"):
        explained(server, folder=tmp_path, model="large")
    assert server.prompts == []


def test_two_workers_ask_for_each_feature_once(server):
    alone = explained(server)
    asked = sorted(server.prompts)
    server.prompts.clear()
    with sc.workers(["cpu", "cpu"]) as two:
        assert explained(server, workers=two) == alone
    assert sorted(server.prompts) == asked


def test_a_feature_that_got_no_answer_is_asked_for_again_by_the_same_call(server, tmp_path):
    whole = explained(server)
    n_fifth = 2 * 4
    server.prompts.clear()
    server.answer = lambda prompt, n: (500, {}, "") if n == n_fifth else server.honest(prompt)
    with pytest.warns(LabelsLeftOut, match="feature 4: .*answered 500"):
        found = explained(server, folder=tmp_path)
    assert found == [one for one in whole if one.feature != 4]
    server.prompts.clear()
    server.answer = lambda prompt, n: server.honest(prompt) if n == 0 else (500, {}, "")
    (untested,) = [one for one in explained(server, folder=tmp_path) if one.feature == 4]
    assert "answered 500" in untested.provenance["untested"]
    server.answer = lambda prompt, n: server.honest(prompt)
    assert explained(server, folder=tmp_path) == whole
    assert len(server.prompts) == 2 + 2


def test_the_budget_is_one_of_all_runs_and_all_workers(server, tmp_path):
    whole = explained(server)
    server.prompts.clear()
    with pytest.warns(LabelsLeftOut, match="features 3, 4, 5, 6: .*6 of 6 calls"):
        some = explained(server, folder=tmp_path / "a", max_calls=6)
    assert some == whole[:3]
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "00002.safetensors").unlink()
    server.prompts.clear()
    with pytest.warns(LabelsLeftOut, match="features 3, 4, 5, 6: .*6 of 6 calls"):
        assert explained(server, folder=tmp_path / "b", max_calls=6) == some  # 4 were used
    assert len(server.prompts) == 2
    assert explained(server, folder=tmp_path / "b", max_calls=14) == whole
    server.prompts.clear()
    with sc.workers(["cpu", "cpu"]) as two, pytest.warns(LabelsLeftOut, match="budget"):
        explained(server, workers=two, max_calls=8)
    assert len(server.prompts) <= 8


def test_a_strategy_of_ones_own_says_what_it_leaves_out():
    def make(setting):
        return lambda columns: (LeftOut(i, "nobody there") for i in columns.features.tolist())

    many = activity_of(CORPUS, *[on(" of")] * 25)
    with pytest.warns(LabelsLeftOut, match="features 0, 1, .*, 19 and 5 more: nobody there"):
        assert label(many, Strategy("none", make)) == []


# -- stores ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = HeldSource(
        torch.from_numpy(ACTIVITY.dense) * torch.from_numpy(ACTIVITY.counted)[:, None]
    )
    out = tmp_path_factory.mktemp("built")
    return sc.FeatureDictionary.build(None, source, CORPUS, out).folder


@pytest.fixture
def found(built: Path, tmp_path: Path) -> sc.FeatureDictionary:
    return sc.FeatureDictionary.load(copied(built, tmp_path / "store"))


def copied(built: Path, out: Path) -> Path:
    return Path(shutil.copytree(built, out))


def rows_of(features: sc.FeatureDictionary) -> list[dict[str, Any]]:
    """All labels, but for their times."""
    rows = features.database.rows('FROM "labels" ORDER BY feature, strategy, text')
    return [{key: repr(value) for key, value in row.items() if key != "time"} for row in rows]


def test_a_store_keeps_what_is_made_until_it_has_all(found, built, tmp_path, monkeypatch):
    whole = sc.FeatureDictionary.load(copied(built, tmp_path / "whole"))
    whole.label()
    assert not (whole.folder / "labels").exists()

    def busy(*_: object) -> None:
        raise OutputError("somebody else has it open")

    with monkeypatch.context() as patch:
        patch.setattr("sae_circuits.features.store.database.Database.change", busy)
        with pytest.raises(OutputError, match="somebody else"):
            found.label()
        with pytest.raises(OutputError, match="somebody else"):
            found.label("previous")
    first, second = sorted(found.folder.glob("labels/*"))
    found.label("manual", manual={"texts": {3: "mine"}})  # nothing is in its way
    assert {first, second} == set(found.folder.glob("labels/*"))
    with monkeypatch.context() as patch:
        patch.setattr(Ready, "made", None)  # nothing is made again
        found.label()
        assert len(list(found.folder.glob("labels/*"))) == 1
        found.label("previous")
    assert not (found.folder / "labels").exists()
    whole.label("manual", manual={"texts": {3: "mine"}})
    whole.label("previous")
    assert rows_of(found) == rows_of(whole)


def test_a_store_keeps_what_a_language_model_said_while_something_is_left_out(found, server):
    answer = server.honest
    server.answer = lambda prompt, n: (500, {}, "") if n == 2 else answer(prompt)
    how = {"base_url": server.url, "model": "small", "backoff": 0.0, "retries": 0, "tests": 0}
    some = [0, 1, 2, 4, 6]
    ask = partial(found.label, "explainer", some)
    with pytest.warns(LabelsLeftOut, match=f"feature {some[2]}: "):
        assert ask(explainer=how).feature.tolist() == [*some[:2], *some[3:]]
    server.answer = lambda prompt, n: answer(prompt)
    assert len(list(found.folder.glob("labels/*"))) == 1
    assert ask(explainer=how).feature.tolist() == some
    assert len(server.prompts) == 5 + 1  # without tests a label is one question
    assert not (found.folder / "labels").exists()


# -- Ray, and kills --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_two_workers_of_ray_give_the_same_labels(server, found, built, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed")
    alone, asked = (label(ACTIVITY), explained(server)), sorted(server.prompts)
    server.prompts.clear()
    whole = sc.FeatureDictionary.load(copied(built, tmp_path / "whole"))
    whole.label()
    with sc.workers("local", 2) as two:
        assert label(ACTIVITY, workers=two) == alone[0]
        assert explained(server, workers=two, folder=tmp_path / "asked") == alone[1]
        assert label(ACTIVITY, folder=tmp_path / "kept", workers=two) == alone[0]
        found.label(workers=two)
        server.answer = lambda prompt, n: (401, {}, "")
        with pytest.raises(ShardError, match=r"(?s)7 of 7 shards of labels .*feature 6: .*401"):
            explained(server, workers=two, folder=tmp_path / "refused")
    assert rows_of(found) == rows_of(whole)
    assert sorted(server.prompts[: len(asked)]) == asked
    (tmp_path / "kept" / "00001.safetensors").unlink()
    assert label(ACTIVITY, folder=tmp_path / "kept") == alone[0]


RUNS = """
import os, sys
import duckdb, pandas, pyarrow  # so that a run is its work
import sae_circuits as sc
from sae_circuits.features.labels import job, label
from test_label_shards import ACTIVITY, asked
for line in sys.stdin:  # a run for each line, in a process of its own; loaded once
    child = os.fork()
    what, n, out = line.rstrip("\\n").split(" ", 2)
    if not child:
        job.TOGETHER = 16 if what == "store" else 2
        workers = sc.workers(["cpu"] * int(n)) if int(n) else None
        if what == "store":
            sc.FeatureDictionary.load(out).label(workers=workers)
        else:
            asked(what, folder=out)
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


def asked(url: str, **how: Any):
    """The labels of the language model at an address."""
    quick = {"base_url": url, "model": "small", "backoff": 0.0, "retries": 0}
    return label(ACTIVITY, "explainer", **how, explainer=quick)


@pytest.fixture(scope="module")
def parent() -> Iterator[subprocess.Popen[str]]:
    if not hasattr(os, "fork"):
        pytest.skip("processes are not forked here")
    paths = [str(TESTS.parent / "src"), str(TESTS), str(TESTS / "features")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", RUNS], env=env, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as made:  # fmt: skip
        yield made
        made.stdin.close()


def run(parent: subprocess.Popen[str], what: str, out: Path, n: int = 0) -> Any:
    """The process of a run, and what waits for how it ends."""
    assert parent.stdin is not None
    assert parent.stdout is not None
    parent.stdin.write(f"{what} {n} {out}\n")
    parent.stdin.flush()
    return int(parent.stdout.readline()), lambda: int(parent.stdout.readline())


def killing(server: Server, number: list[int], at: int, prompt: str, n: int) -> object:
    """An answer, but at one question the end of who asked it."""
    while n == at and not number:
        time.sleep(0.01)
    if n == at:
        os.kill(number[0], signal.SIGKILL)
    return server.honest(prompt)


@pytest.mark.slow
def test_killed_while_it_asks_it_asks_no_more_for_what_is_done(parent, server, tmp_path):
    whole, each = explained(server), list(server.prompts)
    server.prompts.clear()
    rng, folder = np.random.default_rng(0), tmp_path / "asked"
    kept, asked_before = list[int](), list[list[str]]()
    for _ in range(4):
        known, number = len(server.prompts), list[int]()
        server.answer = partial(killing, server, number, known + int(rng.integers(1, 5)))
        child, end = run(parent, server.url, folder)
        number.append(child)
        assert end() in (0, signal.SIGKILL)
        asked_before.append(server.prompts[known:])
        kept.append(len(files_in(folder)))
    assert kept == sorted(kept)
    assert kept[-1] > 1
    server.answer = lambda prompt, n: server.honest(prompt)
    for i, some in enumerate(asked_before[1:]):
        assert not set(some) & set(each[: 2 * kept[i]])
    known = len(server.prompts)
    assert asked(server.url, folder=folder) == whole
    assert server.prompts[known:] == each[2 * kept[-1] :]


@pytest.mark.slow
def test_a_store_that_was_killed_ends_with_the_same_labels(parent, tmp_path):
    model, (sae,) = sc.load_model("demo"), sc.load_saes("demo", ["mlp_out.1"])
    built = tmp_path / "built"
    sc.FeatureDictionary.build(model, sae, sc.demo_corpus(1500, model=model), built)
    for name in ("undisturbed", "killed"):
        copied(built, tmp_path / name)
    assert run(parent, "store", tmp_path / "undisturbed")[1]() == 0
    rng, out = np.random.default_rng(0), tmp_path / "killed"
    left = [0]
    for k in range(3):
        child, end = run(parent, "store", out, 2 * (k % 2))
        at, until = left[-1] + int(rng.integers(1, 3)), time.monotonic() + 60
        while kept(out) < at and time.monotonic() < until:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.01))
        os.kill(child, signal.SIGKILL)
        assert end() == signal.SIGKILL
        left.append(kept(out))
    assert left == sorted(left)  # what is done stays done
    assert 0 < left[1] < 16
    assert run(parent, "store", out)[1]() == 0
    whole, found = (
        sc.FeatureDictionary.load(tmp_path / name) for name in ("undisturbed", "killed")
    )
    assert rows_of(found) == rows_of(whole) != []
    assert not (out / "labels").exists()


def kept(store: Path) -> int:
    """How many shards of labels a store keeps."""
    return len(list(store.glob("labels/*/*.safetensors")))
