"""Pages of many features: what is in the files, and that a run that was stopped goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sae_circuits as sc
import small_stores
from sae_circuits.dashboards.blocks import Block, key_of, planned
from sae_circuits.dashboards.build import about, profiles
from sae_circuits.dashboards.index import render_index
from sae_circuits.dashboards.layout import Layout
from sae_circuits.dashboards.page import index_columns
from sae_circuits.dashboards.view_file import plain
from sae_circuits.dashboards.views import FeatureView
from sae_circuits.errors import NumericalError, OptionError, OutputError, ShardError, UnknownName
from sae_circuits.features.dictionary import FeatureDictionary


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, to be read and not changed."""
    out = tmp_path_factory.mktemp("stores") / "store"
    small_stores.store(out=out).label()
    return out


@pytest.fixture
def features(store: Path) -> FeatureDictionary:
    return FeatureDictionary.load(store)


@pytest.fixture(scope="module")
def undisturbed(store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run leaves that nothing stops: four blocks, the last one with a single feature."""
    folder = tmp_path_factory.mktemp("pages")
    render_index(FeatureDictionary.load(store), folder, range(7), block=2)
    return contents(folder)


def contents(folder: Path) -> dict[str, bytes]:
    """All files, hidden ones too."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def block_of(data: bytes) -> dict[str, Any]:
    """What a file of data says, as the page's script hears it."""
    header, call = data.decode().split("\n", 1)
    assert header.startswith("// sae-circuits block, key ")
    assert (call[:16], call[-3:]) == ("dashboard.block(", ");\n")
    return json.loads(call[16:-3])


def data_of(page: bytes, name: str) -> Any:
    """The page's own JSON of a name."""
    _, _, after = page.decode().partition(f'data-name="{name}">')
    return json.loads(after.partition("</script>")[0])


def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The features that are written from now on, by block."""
    found: list[tuple[int, ...]] = []
    write = Block.write

    def written(block: Block, folder: Path, content: Any) -> Path:
        found.append(block.ids)
        return write(block, folder, content)

    monkeypatch.setattr(Block, "write", written)
    return found


# -- what is in the files --------------------------------------------------------------------------


def test_each_feature_stands_in_its_block_as_its_view_says(
    undisturbed: dict[str, bytes], features: FeatureDictionary
) -> None:
    names = [f"data/{number:05}.js" for number in range(4)]
    assert list(undisturbed) == [*names, "index.html"]
    for number, name in enumerate(names):
        ids = list(range(7))[2 * number : 2 * number + 2]
        view = FeatureView.build(features, ids)
        said = block_of(undisturbed[name])
        assert said["number"] == number
        assert said["profiles"] == json.loads(
            json.dumps({str(one.feature): plain(one) for one in view.profiles})
        )
        assert said["texts"] == {str(token): text for token, text in view.texts.items()}


def test_the_page_has_the_table_of_all_and_knows_its_files(
    undisturbed: dict[str, bytes], features: FeatureDictionary
) -> None:
    page = undisturbed["index.html"]
    view = FeatureView.build(features, range(7))
    table = json.loads(json.dumps(index_columns(view.profiles)))
    assert data_of(page, "index") == table
    searched = {str(token) for tokens in table["tokens"] for token in tokens}
    assert data_of(page, "texts") == {t: view.texts[int(t)] for t in searched}
    assert data_of(page, "about") == json.loads(json.dumps(plain(about(features))))
    blocks = data_of(page, "blocks")
    assert blocks["size"] == 2
    marks = [block_of(undisturbed[f"data/{n:05}.js"])["key"] for n in range(4)]
    assert blocks["keys"] == marks
    assert len(set(marks)) == 4
    assert b'<script type="application/json" data-feature=' not in page


def test_all_that_are_not_dead_by_default_and_names_are_taken(tmp_path: Path) -> None:
    features = small_stores.planted()
    page = render_index(features, tmp_path / "all")
    assert data_of(page.read_bytes(), "index")["feature"] == [0, 1, 2, 4, 5]  # 3 is silent
    page = render_index(features, tmp_path / "some", ["tags", 3, "names"], title="Mine")
    assert data_of(page.read_bytes(), "index")["feature"] == [2, 3, 1]
    assert data_of(page.read_bytes(), "index")["name"] == ["tags", "silent", "names"]
    assert "<title>Mine</title>" in page.read_text()
    for path in (page, page.parent / "data" / "00000.js"):
        assert "<script>alert(1)" not in path.read_text()
        assert "\\u003cscript\\u003ealert(1)" in path.read_text()


def test_everything_in_one_file(
    features: FeatureDictionary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = range(7)
    page = render_index(features, tmp_path, ids, block=2, one_file=True)
    assert list(contents(tmp_path)) == ["index.html"]
    view, text = FeatureView.build(features, ids), page.read_bytes()
    for one in view.profiles:
        _, _, after = text.decode().partition(f'data-feature="{one.feature}">')
        said = json.loads(after.partition("</script>")[0])
        assert said == json.loads(json.dumps(plain(one)))
    assert data_of(text, "texts") == {str(token): said for token, said in view.texts.items()}
    built = counted(monkeypatch)
    assert render_index(features, tmp_path, ids, block=2, one_file=True) == page
    assert (built, page.read_bytes()) == ([], text)  # there is nothing left to do
    render_index(features, tmp_path, ids, block=2)
    assert len(contents(tmp_path)) == 5
    assert len(built) == 4


def test_only_dead_features_give_a_page(tmp_path: Path) -> None:
    page = render_index(small_stores.planted(), tmp_path, ["silent"])
    said = block_of((tmp_path / "data" / "00000.js").read_bytes())
    assert said["profiles"]["3"]["statistics"]["type"] == "dead"
    assert data_of(page.read_bytes(), "index")["max"] == [0]


# -- going on --------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
import sae_circuits.dashboards.index as index
from sae_circuits.dashboards import blocks
from sae_circuits.features.dictionary import FeatureDictionary
from sae_circuits.disk.atomic import write_whole

store, folder = sys.argv[1:]

def run(stop, how):
    # Stopped at the `stop`-th file from here: before it, with a half of it, or after it.
    written = 0
    def write(path, data):
        nonlocal written
        written += 1
        data = data.encode() if isinstance(data, str) else data
        if written == stop and how == "half":
            part = path.with_name(f".{path.name}.0123abcd.part")
            part.write_bytes(data[: len(data) // 2])
        if written == stop and how != "after":
            os.kill(os.getpid(), signal.SIGKILL)
        write_whole(path, data)
        if written == stop:
            os.kill(os.getpid(), signal.SIGKILL)
    index.write_whole = blocks.write_whole = write
    index.render_index(FeatureDictionary.load(store), folder, range(7), block=2)

KILLS = [
    (1, "half"), (1, "after"), (2, "half"), (2, "before"), (2, "half"), (1, "before"),
]
for stop, how in KILLS:
    child = os.fork()
    if not child:
        run(stop, how)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status
    names = sorted(name for _, _, names in os.walk(folder) for name in names)
    print(*names)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_killed_again_and_again_it_ends_with_the_same_bytes(
    store: Path, features: FeatureDictionary, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, store, tmp_path],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    part = ".{}.0123abcd.part".format
    assert done.stdout.splitlines() == [
        part("00000.js"),
        "00000.js",
        f"{part('00002.js')} 00000.js 00001.js",
        "00000.js 00001.js 00002.js",
        f"{part('index.html')} 00000.js 00001.js 00002.js 00003.js",
        "00000.js 00001.js 00002.js 00003.js",
    ]
    render_index(features, tmp_path, range(7), block=2)
    assert contents(tmp_path) == undisturbed


def test_finished_blocks_are_not_made_again(
    features: FeatureDictionary, undisturbed: dict[str, bytes], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    render_index(features, tmp_path, range(7), block=2)
    built = counted(monkeypatch)
    (tmp_path / "data" / "00001.js").unlink()
    (tmp_path / "index.html").unlink()
    render_index(features, tmp_path, range(7), block=2)
    assert built == [(2, 3)]
    assert contents(tmp_path) == undisturbed
    render_index(features, tmp_path, range(7), block=2)
    assert built == [(2, 3)]


def test_workers_write_the_same_files_of_some_blocks_each(
    features: FeatureDictionary, store: Path, undisturbed: dict[str, bytes], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with_model = FeatureDictionary.load(store, small_stores.model(), small_stores.sae())
    render_index(with_model, tmp_path / "alone", range(7), block=2, hover=2)
    with sc.workers(["cpu", "cpu"]) as two:
        render_index(features, tmp_path / "two", range(7), block=2, workers=two)
        assert contents(tmp_path / "two") == undisturbed
        how = {"block": 2, "hover": 2, "workers": two}
        render_index(with_model, tmp_path / "model", range(7), **how)
        assert contents(tmp_path / "model") == contents(tmp_path / "alone")
        assert contents(tmp_path / "model") != undisturbed
        monkeypatch.setattr("sae_circuits.dashboards.pages_job.FEWEST", 2)
        render_index(features, tmp_path / "wider", range(7), block=2, workers=two)
        assert contents(tmp_path / "wider") == undisturbed
        (tmp_path / "wider" / "data" / "00002.js").unlink()
        render_index(features, tmp_path / "wider", range(7), block=2, workers=two)
        assert contents(tmp_path / "wider") == undisturbed


def test_a_block_that_cannot_be_made_is_told_of_and_the_rest_is_kept(
    features: FeatureDictionary, undisturbed: dict[str, bytes], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def failing(features: FeatureDictionary, ids: list[int], options: Any) -> Any:
        if 3 in ids:
            raise NumericalError("W_dec[3] is not finite")
        return profiles(features, ids, options)

    with monkeypatch.context() as patch:
        patch.setattr("sae_circuits.dashboards.pages_job.profiles", failing)
        said = r"(?s)1 of 4 shards of profiles failed; .* features 2, 3: W_dec\[3\] is not finite"
        with pytest.raises(ShardError, match=said):
            render_index(features, tmp_path, range(7), block=2)
    assert sorted(contents(tmp_path)) == [f"data/{i:05}.js" for i in (0, 2, 3)]
    render_index(features, tmp_path, range(7), block=2)
    assert contents(tmp_path) == undisturbed


@pytest.mark.parametrize("damage", ["cut off", "a digit", "of another number", "empty", "header"])
def test_a_damaged_block_is_made_again(
    damage: str, features: FeatureDictionary, undisturbed: dict[str, bytes], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    render_index(features, tmp_path, range(7), block=2)
    path = tmp_path / "data" / "00002.js"
    whole = path.read_bytes()
    path.write_bytes(
        {
            "cut off": whole[:-20],
            "a digit": whole.replace(b'"density":0.', b'"density":1.', 1),
            "of another number": undisturbed["data/00001.js"],
            "empty": b"",
            "header": whole[5:],
        }[damage]
    )
    assert path.read_bytes() != whole
    built = counted(monkeypatch)
    render_index(features, tmp_path, range(7), block=2)
    assert built == [(4, 5)]
    assert contents(tmp_path) == undisturbed


def test_other_options_features_or_stores_begin_anew(
    features: FeatureDictionary, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = counted(monkeypatch)

    def fresh(features: FeatureDictionary, ids: Any, **options: Any) -> int:
        """Over what an earlier run left as in an empty folder; how many blocks it makes there."""
        n = len(built)
        render_index(features, tmp_path / "over", ids, **options)
        again = len(built) - n
        render_index(features, tmp_path / f"fresh {n}", ids, **options)
        assert contents(tmp_path / "over") == contents(tmp_path / f"fresh {n}")
        return again

    assert fresh(features, range(7), block=2) == 4
    assert fresh(features, range(7), block=2, hover=3) == 4
    assert fresh(features, range(7), block=2, title="Another") == 4
    assert fresh(features, range(7), block=3) == 3
    assert fresh(features, range(6), block=3) == 0  # two of them are the same; the third goes
    assert fresh(features, [5, 4, 3, 2, 1, 0], block=3) == 2
    assert fresh(features, [5, 4, 3, 2, 1, 0], block=3, layout="compact") == 0
    relabelled = features.save(tmp_path / "store")
    relabelled.label("manual", manual={"texts": {2: "mine"}, "author": "ada"})
    assert fresh(relabelled, [5, 4, 3, 2, 1, 0], block=3) == 2


def test_the_old_page_is_gone_while_its_data_are_replaced(
    features: FeatureDictionary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    render_index(features, tmp_path, range(7), block=2)

    def stopped(*_: Any, **__: Any) -> FeatureView:
        assert not (tmp_path / "index.html").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(Block, "write", stopped)
    with pytest.raises(KeyboardInterrupt):
        render_index(features, tmp_path, range(7), block=2, hover=2)
    assert not (tmp_path / "index.html").exists()


# -- what is refused -------------------------------------------------------------------------------


def test_others_files_are_left_alone(features: FeatureDictionary, tmp_path: Path) -> None:
    for name in ("notes.txt", "data/mine.js", "index.html"):
        folder = tmp_path / name.replace("/", "-")
        (folder / "data").mkdir(parents=True)
        (folder / name).write_text("mine")
        with pytest.raises(OutputError, match=r"others' files are left alone: choose another"):
            render_index(features, folder, [1])
        assert contents(folder) == {name: b"mine"}
    with pytest.raises(OutputError, match="a file stands where a folder is needed"):
        render_index(features, tmp_path / "index.html" / "index.html", [1])


def test_bad_requests(features: FeatureDictionary, tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    with pytest.raises(UnknownName, match="no feature 9: there are 9, 0 to 8"):
        render_index(features, folder, [9])
    with pytest.raises(OptionError, match="block=0: a block holds 1 feature or more"):
        render_index(features, folder, [1], block=0)
    with pytest.raises(UnknownName, match="unknown layout 'compat': did you mean 'compact'"):
        render_index(features, folder, [1], layout="compat")
    with pytest.raises(OptionError, match="what it decides cannot be told from it"):
        render_index(features, folder, [1], probes=lambda: None)
    assert not folder.exists()


def test_keys_tell_values_apart() -> None:
    values = [
        1, 1.5, "1", True, None, [1], {"1": 1}, torch.tensor([1.0]), torch.tensor([[1.0]]),
        np.array([1]), np.array([2]), Layout.ready("compact"), Layout.ready("feature"),
    ]  # fmt: skip
    keys = [key_of(value) for value in values]
    assert len(set(keys)) == len(keys)
    assert key_of({"a": 1, "b": torch.ones(2)}) == key_of({"b": torch.ones(2), "a": 1})
    (one,), (other,) = planned([1], 1, {"x": 1}), planned([1], 1, {"x": 2})
    assert one.key != other.key
