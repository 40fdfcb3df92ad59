from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sae_circuits.errors import FileFormatError
from sae_circuits.io import Record, versions

COMMAND = ["sae-circuits", "discover", "--task-file", "my prompts.csv"]


def test_a_record_comes_back(tmp_path: Path) -> None:
    record = Record.start(COMMAND, {"edges": 200, "metric": "logit_diff", "seed": None}).end()
    record.save(tmp_path / "record.json")
    assert Record.load(tmp_path / "record.json") == record
    document = json.loads((tmp_path / "record.json").read_text())
    assert document["shell"] == "sae-circuits discover --task-file 'my prompts.csv'"
    assert document["versions"] == versions()
    assert {"sae-circuits", "python", "torch", "transformer-lens"} <= set(document["versions"])
    assert document["started"] <= document["finished"]


def test_the_key_hangs_on_settings_and_version_alone() -> None:
    record = Record.start(COMMAND, {"edges": 200, "seed": 0})
    assert record.key == replace(record.end(), command=("x",), started="").key
    assert record.key == Record.start(["x"], {"seed": 0, "edges": 200}).key
    assert record.key != Record.start(COMMAND, {"edges": 201, "seed": 0}).key
    assert record.key != replace(record, versions={"sae-circuits": "0"}).key


def test_differences_are_named() -> None:
    record = Record.start(COMMAND, {"edges": 200, "seed": 0, "old": 1})
    other = Record.start(COMMAND, {"edges": 200, "seed": 1, "new": 2})
    assert record.differences(other) == ["seed: 0, now 1", "old: 1, now None", "new: None, now 2"]
    assert record.differences(record) == []
    older = replace(record, versions={"sae-circuits": "0.0.1"})
    assert older.differences(record) == [f"sae-circuits: 0.0.1, now {versions()['sae-circuits']}"]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"command": ["x"]}'])
def test_what_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(FileFormatError, match=r"record\.json"):
        Record.load(tmp_path / "record.json")


def test_a_record_changed_by_hand_is_refused(tmp_path: Path) -> None:
    path = Record.start(COMMAND, {"edges": 200}).save(tmp_path / "record.json")
    path.write_text(path.read_text().replace("200", "300"))
    with pytest.raises(FileFormatError, match="its key does not fit its settings"):
        Record.load(path)
