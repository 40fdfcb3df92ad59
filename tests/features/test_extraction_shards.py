"""A store is the same for one process, for workers, and for a run that was killed and went on."""

from __future__ import annotations

import copy
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import sae_circuits as sc
from sae_circuits.errors import NumericalError, OutputError, ShardError, StoreError
from sae_circuits.features import extraction_job, relations_job
from sae_circuits.features.extraction import LEAST, extract
from sae_circuits.features.extraction_job import ExtractionJob, ranges_of
from sae_circuits.features.masks import Masks
from sae_circuits.features.sources import DictionarySource, HeldSource, NeuronSource
from sae_circuits.shards.shipping import pack, unpack
from small_stores import CONTENTS, corpus, model, sae, store

TESTS = Path(__file__).parent.parent


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction_job, "FEWEST", 5)


def files_of(folder: Path) -> dict[str, bytes]:
    """All files but the database."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "features.duckdb"
    }


def tables_of(found: sc.FeatureDictionary) -> dict[str, list[dict[str, object]]]:
    """All rows of all tables, the record's too, in the order in which they stand."""
    names = found.query("SELECT table_name FROM information_schema.tables").table_name
    return {name: found.database.rows(f'FROM "{name}"') for name in sorted(names)}


def require_same(found: sc.FeatureDictionary, whole: sc.FeatureDictionary) -> None:
    assert files_of(found.folder) == files_of(whole.folder)
    assert repr(tables_of(found)) == repr(tables_of(whole))  # where NaN equals NaN


# -- how a corpus is divided -----------------------------------------------------------------------


def test_shards_hang_on_the_corpus_and_the_source_alone(small_shards):
    source, of = DictionarySource.of(model(), sae()), corpus()
    shards = ranges_of(source, of, np.ones(of.n_tokens, dtype=bool))
    assert [(shard.start, shard.stop) for shard in shards] == [(0, 1), (1, 2), (2, 3), (3, 4),
                                                                (4, 5), (5, 6)]  # fmt: skip
    for shard in shards:
        here = slice(*of.starts[[shard.start, shard.stop]])
        np.testing.assert_array_equal(shard.given.tokens, of.tokens[here])
        assert shard.given.starts.tolist() == [0, here.stop - here.start]
    few = corpus([2, 2, 2, 3, 9])
    shards = ranges_of(source, few, np.ones(few.n_tokens, dtype=bool))
    assert [(shard.start, shard.stop) for shard in shards] == [(0, 2), (2, 4), (4, 5)]


def test_a_dense_source_and_a_long_corpus_have_shards_that_fit(monkeypatch):
    of = corpus([16] * 4096)
    counted = np.ones(of.n_tokens, dtype=bool)
    sizes = [np.diff(of.starts[[s.start, s.stop]]).item() for s in ranges_of(
        DictionarySource.of(model(), sae()), of, counted)]  # fmt: skip
    assert sizes == [1 << 14] * 4
    monkeypatch.setattr(extraction_job, "AT_MOST", 1 << 16)
    dense = HeldSource(torch.zeros(of.n_tokens, 64))
    assert {s.stop - s.start for s in ranges_of(dense, of, counted)} == {(1 << 16) // 64 // 16}


def test_a_worker_is_sent_its_prompts_and_no_others():
    source, sizes = DictionarySource.of(model(), sae()), list[int]()
    for of in (corpus(), corpus([16] * 4096)):
        job = ExtractionJob.of(source, of, Masks(), batch_tokens=64, memory=LEAST)
        sizes.append(len(pack(job, "cpu", job.model)))
    assert abs(sizes[1] - sizes[0]) < 100  # one corpus takes 262 kB more than the other
    of = corpus([16] * 4096)
    held = HeldSource(torch.zeros(of.n_tokens, 3))
    job = ExtractionJob.of(held, of, Masks(), batch_tokens=64, memory=LEAST)
    assert len(pack(job, "cpu")) < 10_000
    for shard in ranges_of(held, of, np.ones(of.n_tokens, dtype=bool)):
        assert len(pickle.dumps(shard)) < (4 + 1 + 3 * 4) * (1 << 14) + 20_000


def test_a_source_that_was_used_finds_the_modules_of_the_model_that_it_comes_to():
    source, copied = DictionarySource.of(model(), sae()), copy.deepcopy(model())
    before = source.read(corpus(), 0, 2)
    _ = source.adapter.point("blocks.0.hook_mlp_out")
    with torch.no_grad():
        copied.blocks[0].mlp.b_out += 1
    there = unpack(pack(source, "cpu", model()), "cpu", copied)
    torch.testing.assert_close(there.read(corpus(), 0, 2), before + 1)
    assert there.adapter.point("blocks.0.hook_mlp_out") is copied.blocks[0].hook_mlp_out


def test_where_memory_is_short_a_shard_is_sorted_in_parts_and_is_the_same(tmp_path, monkeypatch):
    source = DictionarySource.of(model(), sae())
    extract(source, corpus(), out=tmp_path / "whole", batch_tokens=5)
    parts, join = [], extraction_job.joined
    monkeypatch.setattr(
        extraction_job, "joined", lambda some: parts.append(len(some)) or join(some)
    )
    monkeypatch.setattr(extraction_job, "HELD_BYTES", 1 << 40)
    extract(source, corpus(), out=tmp_path / "parts", batch_tokens=5)
    assert parts == [6]
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")


# -- workers ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo():
    model, (sae,) = sc.load_model("demo"), sc.load_saes("demo", ["mlp_out.1"])
    return model, sae, sc.demo_corpus(1500, model=model)


@pytest.fixture(scope="module")
def whole(demo, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extraction_job, "FEWEST", 200)
        patch.setattr(relations_job, "FEWEST", 2000)
        return sc.FeatureDictionary.build(*demo, tmp_path_factory.mktemp("whole"))


def test_devices_of_this_process_give_the_same_store(demo, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(extraction_job, "FEWEST", 200)
    monkeypatch.setattr(relations_job, "FEWEST", 2000)
    assert len(whole.activations.pieces[0].stretches) > 4
    assert len(relations_job.features_of(whole.activations.counts)) > 2
    with sc.workers(["cpu", "cpu"]) as two:
        require_same(sc.FeatureDictionary.build(*demo, tmp_path, workers=two), whole)


def test_neurons_and_what_is_held_go_to_workers_too(small_shards):
    held = torch.randn(corpus().n_tokens, 4, generator=torch.Generator().manual_seed(0)).relu()
    with sc.workers(["cpu", "cpu"]) as two:
        for source in (NeuronSource.of(model(), 0), HeldSource(held)):
            a, b = (extract(source, corpus(), workers=w) for w in (None, two))
            for x, y in zip(a.blocks(), b.blocks(), strict=True):
                np.testing.assert_array_equal(x.places, y.places)
                np.testing.assert_array_equal(x.values, y.values)
            assert a.n_active > 0


# -- what is bad -----------------------------------------------------------------------------------


def test_a_bad_prompt_is_told_of_the_rest_is_kept_and_the_run_goes_on(small_shards, tmp_path):
    held = torch.ones(corpus().n_tokens, 3)

    class Overflowing(HeldSource):
        """At one token, until it is mended."""

        mended = False

        def read(self, corpus, first, stop):
            found = super().read(corpus, first, stop).clone()
            if not self.mended and len(corpus.tokens) == 17:  # the third prompt
                found[3] = torch.inf
            return found

    source = Overflowing(held)
    with pytest.raises(NumericalError, match="prompt 2, position 3"):
        sc.FeatureDictionary.build(None, source, corpus(), contents=CONTENTS)
    said = (
        r"(?s)1 of 6 shards of extraction failed; the others are kept.*prompts 2 to 2 .*prompt 2, "
    )
    for workers in (None, sc.workers(["cpu", "cpu"])):
        with pytest.raises(ShardError, match=said + "position 3"):
            sc.FeatureDictionary.build(
                None, source, corpus(), tmp_path, contents=CONTENTS, workers=workers
            )
    shards = tmp_path / "activations" / "0"
    before = {path: path.stat().st_mtime_ns for path in shards.glob("*.safetensors")}
    assert len(before) == 5
    Overflowing.mended = True
    found = sc.FeatureDictionary.build(None, source, corpus(), tmp_path, contents=CONTENTS)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    require_same(found, sc.FeatureDictionary.build(
        None, source, corpus(), tmp_path.parent / "anew", contents=CONTENTS))  # fmt: skip


def test_a_part_of_another_store_is_refused(tmp_path):
    source = DictionarySource.of(model(), sae())
    extract(source, corpus(), out=tmp_path / "activations" / "0")
    with pytest.raises(
        OutputError, match=r"another run .*masks: .*special.*: choose another folder"
    ):
        store(out=tmp_path, masks=Masks(special=True))
    manifest = tmp_path / "activations" / "0" / "manifest.json"
    said = json.loads(manifest.read_text())["said"]
    assert (said["job"], said["shards"], said["corpus"][0]) == ("extraction", [6], "random")
    manifest.unlink()
    with pytest.raises(OutputError, match=r"has '00000.safetensors' but no manifest.json"):
        store(out=tmp_path)


def test_a_store_whose_shards_are_gone_says_so(tmp_path):
    shutil.rmtree(store(out=tmp_path).folder / "activations" / "0")
    with pytest.raises(StoreError, match="lacks shards: build the store again"):
        _ = sc.FeatureDictionary.load(tmp_path).activations


def test_relations_are_kept_until_the_store_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(relations_job, "FEWEST", 100)
    undisturbed, cut_off = store(out=tmp_path / "a"), tmp_path / "b"

    def full(*_):
        raise OutputError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("sae_circuits.features.making.Database.create", full)
        with pytest.raises(OutputError, match="no space left"):
            store(out=cut_off)
    kept = sorted(path.name for path in (cut_off / "relations").iterdir())
    assert kept[-1] == "manifest.json"
    assert len(kept) > 3
    with monkeypatch.context() as patch:
        patch.setattr(relations_job, "correlations", None)  # it is not asked again
        require_same(store(out=cut_off), undisturbed)
    (cut_off / "relations").mkdir()  # as after a kill at the last moment
    store(out=cut_off)
    assert not (cut_off / "relations").exists()


# -- Ray, and kills --------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_workers_of_ray_give_the_same_store_and_the_same_pages(
    demo, whole, tmp_path, monkeypatch
):
    monkeypatch.setattr(extraction_job, "FEWEST", 200)
    monkeypatch.setattr(relations_job, "FEWEST", 2000)
    alone = sc.render_index(whole, tmp_path / "alone", block=16)
    with sc.workers("local", 2) as two:
        found = sc.FeatureDictionary.build(*demo, tmp_path / "store", workers=two)
        require_same(found, whole)
        page = sc.render_index(whole, tmp_path / "two", block=16, workers=two)
    assert files_of(page.parent) == files_of(alone.parent)
    assert len(files_of(page.parent)) > 4


BUILD = """
import os, signal, sys, time
import sae_circuits as sc
from sae_circuits.features import extraction_job, relations_job
extraction_job.FEWEST, relations_job.FEWEST = 200, 2000
model, (sae,) = sc.load_model("demo"), sc.load_saes("demo", ["mlp_out.1"])
corpus = sc.demo_corpus(1500, model=model)
for line in sys.stdin:  # a run for each line, in a process of its own; loaded once
    child = os.fork()
    if not child:
        n, _, out = line.rstrip("\\n").split(" ", 2)
        workers = sc.workers(["cpu"] * int(n)) if int(n) else None
        sc.FeatureDictionary.build(model, sae, corpus, out, workers=workers)
        os._exit(0)
    time.sleep(float(line.split()[1]))
    if float(line.split()[1]):
        os.kill(child, signal.SIGKILL)  # it is there, done or not, until it is waited for
    print(os.waitpid(child, 0)[1], flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_killed_at_random_moments_it_ends_with_the_same_bytes(whole, tmp_path):
    env = {**os.environ, "PYTHONPATH": str(TESTS.parent / "src"), "OMP_NUM_THREADS": "1"}
    rng, left = np.random.default_rng(0), list[int]()
    with subprocess.Popen(
        [sys.executable, "-c", BUILD], env=env, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as parent:  # fmt: skip
        assert parent.stdin is not None
        assert parent.stdout is not None

        def run(workers: int, out: Path, seconds: float = 0) -> int:
            """How a run ends, which is killed after some seconds, if any."""
            parent.stdin.write(f"{workers} {seconds} {out}\n")
            parent.stdin.flush()
            return int(parent.stdout.readline())

        assert run(0, tmp_path / "warm") == 0
        start = time.perf_counter()
        assert run(0, tmp_path / "undisturbed") == 0
        took = time.perf_counter() - start
        for i in range(12):
            out = tmp_path / f"killed {i // 6}"
            status = run(2 * (i % 2), out, rng.uniform(0.1, 0.7) * took)
            assert status in (0, signal.SIGKILL)
            left.append(len(list(out.glob("activations/0/*.safetensors"))))
        for i in range(2):
            assert run(0, tmp_path / f"killed {i}") == 0
    assert left[:6] == sorted(left[:6])  # what is done stays done
    for name in ("undisturbed", "killed 0", "killed 1"):
        require_same(sc.FeatureDictionary.load(tmp_path / name), whole)
