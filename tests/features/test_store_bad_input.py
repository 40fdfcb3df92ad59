"""What does not do is named, before long work, and leaves store, model and SAE whole."""

from __future__ import annotations

import copy
import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pytest
import torch

import sae_circuits as sc
from sae_circuits.errors import (
    CorpusError,
    DictionaryError,
    FileFormatError,
    NumericalError,
    OptionError,
    OutputError,
    StoreError,
)
from sae_circuits.features.masks import Masks
from sae_circuits.features.sources import DictionarySource, DirectionSource, HeldSource
from sae_circuits.models.dictionaries.gates import AbsoluteTopK, TopK, open_at, relu
from small_saes import random_sae
from small_stores import CONTENTS, HOOK, corpus, model, planted, rows_of, sae, same, store

TESTS = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return store(out=tmp_path_factory.mktemp("whole"))


# -- cut off, again, and other data ----------------------------------------------------------------

CUT = """
import os, signal, sys
import sae_circuits.features.extraction_job as extraction
from sae_circuits.shards import ShardFolder
from small_stores import store
extraction.FEWEST = 5
write, left = ShardFolder.write, [3]
def written(self, *args):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return write(self, *args)
ShardFolder.write = written
store(out=sys.argv[1], batch_tokens=5)
"""


def python(code: str, *args: object, **options: object) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(TESTS), str(TESTS.parent / "src")])
    env = {**os.environ, "PYTHONPATH": path}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)], env=env, text=True, **options
    )


WRITING = """
import os, signal, sys
import sae_circuits.disk.atomic as atomic, sae_circuits.features.store.database as database
from small_stores import store
place, left = os.replace, [int(sys.argv[2])]
def killed(*args):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return place(*args)
atomic.os.replace = killed
store(out=sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "writing"),
    enumerate([".manifest.json.", ".00000.saf", ".corpus.saf", ".manifest.json.", ".00000.saf"]),
    ids=["manifest", "activations", "corpus", "manifest of relations", "relations"],
)
def test_what_a_kill_left_half_written_goes_when_the_build_goes_on(whole, tmp_path, n, writing):
    def left() -> list[str]:
        return [path.name for path in tmp_path.rglob(".*")]

    assert python(WRITING, tmp_path, n).wait() == -signal.SIGKILL
    (name,) = left()
    assert writing in name
    (tmp_path / ".features.duckdb.0123abcd.part.tmp").mkdir()
    (tmp_path / ".features.duckdb.0123abcd.part.wal").touch()
    (tmp_path / ".mine.part").touch()
    assert same(store(out=tmp_path), whole)
    assert left() == [".mine.part"]


@pytest.mark.slow
def test_a_database_that_a_kill_left_half_written_is_made_anew(whole, tmp_path):
    for n in range(5, 20):  # after the shards of relations, however many there are
        folder = tmp_path / str(n)
        assert python(WRITING, folder, n).wait() == -signal.SIGKILL
        (left,) = (path.name for path in folder.rglob(".*"))
        if ".features.duckdb." in left:
            break
    assert not (folder / "features.duckdb").exists()
    assert same(store(out=folder), whole)
    assert not list(folder.rglob(".*"))


@pytest.mark.slow
def test_a_build_that_was_killed_goes_on(whole, tmp_path, monkeypatch):
    monkeypatch.setattr("sae_circuits.features.extraction_job.FEWEST", 5)
    assert python(CUT, tmp_path).wait() == -signal.SIGKILL
    shards = tmp_path / "activations" / "0"
    assert len(held := {path: path.stat().st_mtime_ns for path in shards.glob("*.saf*")}) == 3
    assert not (tmp_path / "features.duckdb").exists()
    assert same(store(out=tmp_path, batch_tokens=5), whole)
    assert {path: path.stat().st_mtime_ns for path in held} == held


class Unread(DictionarySource):
    """Reads nothing."""

    def read(self, corpus, first, stop):
        raise AssertionError


def test_the_same_data_is_not_run_again_and_other_data_is_refused(whole):
    source = Unread.of(model(), sae())
    again = sc.FeatureDictionary.build(None, source, corpus(), whole.folder, contents=CONTENTS)
    assert same(again, whole)
    for others in (
        {"of": corpus(seed=1)},
        {"masks": Masks(special=True)},
        {"contents": None},
    ):
        with pytest.raises(StoreError, match="other data"):
            store(others.pop("of", corpus()), whole.folder, **others)
    other = random_sae("standard", HOOK, model().cfg.d_model, 9, dtype="float64", seed=4)
    with pytest.raises(StoreError, match="other data"):
        sc.FeatureDictionary.build(model(), other, corpus(), whole.folder, contents=CONTENTS)
    with pytest.raises(StoreError, match="describes"):
        sc.FeatureDictionary.load(whole.folder, model(), other)
    loaded = sc.FeatureDictionary.load(whole.folder)
    with pytest.raises(StoreError, match=r"load\(folder, model, sae\)"):
        loaded.add(corpus(seed=1))


# -- models, dictionaries and activations ----------------------------------------------------------


def test_a_dictionary_of_what_an_mlp_reads_has_no_effect_on_the_logits_to_tell():
    other = random_sae("standard", "blocks.0.mlp.hook_in", model().cfg.d_model, 5, dtype="float64")
    found = sc.FeatureDictionary.build(model(), other, corpus(), contents=CONTENTS)
    numbers = found.statistics()
    assert numbers[["logit_std", "logit_skew", "logit_kurtosis"]].isna().all(axis=None)
    assert (numbers.decoder_norm > 0).all()
    assert (numbers.n_active > 0).any()
    assert found.query("FROM logits").empty
    assert set(found.similar(0).measure) >= {"decoder"}
    assert len(found.feature(0).neurons) == 3
    with pytest.raises(DictionaryError, match="nothing to the residual stream"):
        found.loss_effects(0, torch.tensor([0, 7, 3]))


def test_one_feature_and_none_alive():
    one = random_sae("standard", HOOK, model().cfg.d_model, 1, dtype="float64")
    found = sc.FeatureDictionary.build(model(), one, corpus(), contents=CONTENTS)
    assert len(found) == len(found.statistics()) == 1
    assert found.similar(0).empty
    dead = HeldSource(torch.zeros(corpus().n_tokens, 2))
    found = sc.FeatureDictionary.build(None, dead, corpus())
    assert found.statistics().type.tolist() == ["dead", "dead"]
    assert found.statistics().mean_active.isna().all()
    assert not found.feature(1).examples


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_dtypes(dtype, whole):
    (fine,) = sc.load_saes(sae())
    rough = copy.deepcopy(model()).to(dtype), fine.to("cpu", dtype)
    found = sc.FeatureDictionary.build(*rough, corpus(), contents=CONTENTS).statistics()
    want = whole.statistics()
    tolerance = {torch.bfloat16: 0.1, torch.float16: 0.02, torch.float32: 1e-4}[dtype]
    for name in ("mean", "max", "importance", "logit_std"):
        assert np.abs(found[name] - want[name]).max() < tolerance * want[name].max()
    held = torch.randn(corpus().n_tokens, 3).relu().to(dtype)
    store = sc.FeatureDictionary.build(None, HeldSource(held), corpus())
    counts = ~corpus().vocabulary.is_special[corpus().tokens]
    assert store.statistics()["max"].tolist() == held[torch.tensor(counts)].amax(0).tolist()


def test_named_directions():
    g = torch.Generator().manual_seed(0)
    draw = torch.randn(2, model().cfg.d_model, generator=g, dtype=torch.float64)
    source = DirectionSource.of(model(), HOOK, dict(zip(("truth", "size"), draw, strict=True)))
    found = sc.FeatureDictionary.build(None, source, corpus())
    assert found.feature("size").statistics["name"] == "size"
    assert found.feature("size").statistics["min"] < 0
    assert found.feature("size").id == 1


def test_what_is_not_finite_is_named():
    with torch.no_grad():
        bad = copy.deepcopy(sae())
        bad.W_enc[0, 3] = torch.nan
    with pytest.raises(DictionaryError, match="W_enc holds NaN"):
        sc.FeatureDictionary.build(model(), bad, corpus())
    held = torch.zeros(corpus().n_tokens, 3, dtype=torch.float64)
    for value, said in (
        (torch.nan, "prompt 2, position 3 "),
        (1e300, "feature 1 is inf at prompt 2"),
    ):
        held[13, 1] = value
        with pytest.raises(NumericalError, match=said):
            sc.FeatureDictionary.build(None, HeldSource(held), corpus())


@pytest.mark.parametrize("gate", [relu, TopK(2), AbsoluteTopK(2)])
def test_a_gate_that_is_shut_hides_no_nan(gate):
    class Lost(HeldSource):
        def activations(self, x):
            pre = torch.where(x > 2, torch.nan, x)
            index = open_at(gate, pre)
            return index, pre.flatten()[index]

    held = torch.ones(corpus().n_tokens, 3)
    held[13, 2] = 3
    with pytest.raises(NumericalError, match="feature 2 is nan at prompt 2, position 3"):
        sc.FeatureDictionary.build(None, Lost(held), corpus())


def test_what_does_not_fit_is_refused():
    d = model().cfg.d_model
    for hook, width in ((HOOK, d + 1), ("blocks.7.hook_mlp_out", d)):
        wrong = random_sae("standard", hook, width, 4, dtype="float64")
        with pytest.raises(DictionaryError):
            sc.FeatureDictionary.build(model(), wrong, corpus())
    everything = Masks(skip_tokens=range(40))
    with pytest.raises(CorpusError, match=r"leave no token of .* to count"):
        sc.FeatureDictionary.build(None, Unread.of(model(), sae()), corpus(), masks=everything)
    with pytest.raises(CorpusError, match="above max_norm"):
        store(masks=Masks(max_norm=1e-9))
    n = corpus().n_tokens
    for held, names, said in (
        (torch.zeros(n, 0), None, "not empty"),
        (torch.zeros(n), None, "feature"),
        (torch.zeros(n, 2), ("a",), "1 names"),
        (torch.zeros(n, 2), ("a", "a"), "1 of them different"),
    ):
        with pytest.raises(OptionError, match=said):
            HeldSource(held, names)


def test_arrays_of_numpy_and_whole_numbers_will_do():
    held = np.zeros((corpus().n_tokens, 2), dtype=np.int64)
    held[4, 1] = 3
    assert sc.FeatureDictionary.build(None, HeldSource(held), corpus()).statistics()["max"][1] == 3


def test_model_and_sae_come_back_unchanged(tmp_path):
    (before, after), weights = (sae(), sae()), copy.deepcopy(sae().state_dict())
    state = copy.deepcopy(model().state_dict())

    def full(*_):
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sae_circuits.features.store.database.os.replace", full)
        with pytest.raises(OutputError, match=r"(?i)no space left"):
            store(out=tmp_path)
    assert before is after
    assert all(torch.equal(weights[k], v) for k, v in sae().state_dict().items())
    assert all(torch.equal(state[k], v) for k, v in model().state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model().modules())
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


# -- files -----------------------------------------------------------------------------------------


@contextmanager
def disk_of(n: int):
    """No file grows beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_no_part_of_a_file(whole, tmp_path):
    before = rows_of(whole)
    for name, write in (
        ("store", lambda path: store(out=path)),
        ("copy", whole.save),
        ("parquet", whole.export),
        ("store.json", whole.export),
    ):
        with pytest.raises(OutputError, match="cannot write"), disk_of(1024):
            write(tmp_path / name)
        left = [path for path in tmp_path.rglob("*") if ".part" in path.name]
        assert not left, name
        assert not (tmp_path / name / "features.duckdb").exists()
    assert not list((tmp_path / "copy").iterdir())
    with pytest.raises(OutputError), disk_of(1024):
        whole.label("manual", manual={"texts": dict.fromkeys(range(9), "x" * 9999)})
    assert rows_of(sc.FeatureDictionary.load(whole.folder)) == before


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="a file stands"):
        store(out=tmp_path / "file")


def test_damaged_and_other_stores(whole, tmp_path):
    path = tmp_path / "features.duckdb"
    good = (whole.folder / path.name).read_bytes()
    rng = np.random.default_rng(0)
    for data in (b"", rng.bytes(20_000), good[:5000], good[: len(good) // 2]):
        path.write_bytes(data)
        with pytest.raises(StoreError, match="damaged"):
            sc.FeatureDictionary.load(tmp_path)
    path.unlink()
    with pytest.raises(StoreError, match="no store at"):
        sc.FeatureDictionary.load(tmp_path)
    with duckdb.connect(str(path)) as other:
        other.execute("CREATE TABLE t (i INTEGER)")
    with pytest.raises(StoreError, match="no store of features"):
        sc.FeatureDictionary.load(tmp_path)
    for schema, remedy in ((99, "update sae-circuits"), (1, "remove it, and build it again")):
        path.write_bytes(good)
        with duckdb.connect(str(path)) as another:
            another.execute(f"UPDATE meta SET value = '{schema}' WHERE key = 'schema'")
        with pytest.raises(StoreError, match=f"schema {schema}, .*{remedy}"):
            sc.FeatureDictionary.load(tmp_path)


def test_a_store_that_is_damaged_where_it_is_read_says_what_to_do(tmp_path):
    folder = store(out=tmp_path, contents=replace(CONTENTS, bins=400)).folder
    path = folder / "features.duckdb"
    data = bytearray(path.read_bytes())
    data[len(data) // 3 :: 4096] = b"\xff" * len(data[len(data) // 3 :: 4096])
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"is damaged.*build it again"):
        rows_of(sc.FeatureDictionary.load(folder))
    assert path.read_bytes() == bytes(data)


def test_what_a_store_has_not_taken_in_yet_is_saved_too(tmp_path):
    found = store(out=tmp_path / "store")
    found.database.close()
    with duckdb.connect(str(found.folder / "features.duckdb")) as writer:
        writer.execute("PRAGMA disable_checkpoint_on_shutdown")
        writer.execute(
            """INSERT INTO labels (feature, strategy, text, shown, provenance, time)
               VALUES (3, 'manual', 'late', true, '{}', 'now')"""
        )
    assert (found.folder / "features.duckdb.wal").stat().st_size
    saved = found.save(tmp_path / "copy")
    assert saved.labels().text.tolist() == ["late"]


def test_shards_that_are_missing_or_of_other_data(tmp_path):
    folder = store(out=tmp_path / "a").folder
    other = store(corpus(seed=1), out=tmp_path / "b").folder / "activations" / "0"
    shard, manifest = (folder / "activations" / "0" / path.name for path in sorted(other.iterdir()))
    shard.write_bytes((other / shard.name).read_bytes())
    with pytest.raises(FileFormatError, match="a shard of another run"):
        _ = sc.FeatureDictionary.load(folder).activations
    manifest.write_bytes((other / manifest.name).read_bytes())
    with pytest.raises(StoreError, match="other data"):
        _ = sc.FeatureDictionary.load(folder).activations
    shutil.rmtree(folder)
    folder = store(out=tmp_path / "a").folder
    shard.unlink()
    with pytest.raises(StoreError, match="lacks shards"):
        _ = sc.FeatureDictionary.load(folder).activations


HOLD = """
import sys, duckdb
c = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "read")
c.execute("FROM meta").fetchall()
print("ready", flush=True)
input()
"""


@contextmanager
def held_open(path: Path, how: str):
    """By another process."""
    other = python(HOLD, path, how, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == "ready\n"
    try:
        yield
    finally:
        other.communicate("\n")


def test_several_readers_and_one_writer(tmp_path):
    found = planted(tmp_path)
    again = sc.FeatureDictionary.load(tmp_path)
    with held_open(tmp_path / "features.duckdb", "read"):
        assert len(found.statistics()) == len(again.statistics()) == 6
        with pytest.raises(OutputError, match="close what has it open"):
            again.label("manual", manual={"texts": {0: "truth"}})
        assert found.labels().empty
    again.label("manual", manual={"texts": {0: "truth"}})  # though `found` has it open
    assert found.labels().text.tolist() == again.labels().text.tolist() == ["truth"]
    found.database.close()
    again.database.close()
    with held_open(tmp_path / "features.duckdb", "write"):
        with pytest.raises(StoreError, match="just being written"):
            found.statistics()
        with pytest.raises(StoreError, match="just being written"):
            sc.FeatureDictionary.load(tmp_path)
    assert len(found.statistics()) == 6
