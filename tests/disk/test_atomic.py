from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sae_circuits.disk.atomic import ready_folder, write_whole
from sae_circuits.errors import OutputError


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    assert write_whole(path, "eins") == path
    write_whole(path, b"zwei")
    assert path.read_text() == "zwei"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_text_is_utf_8_and_the_mode_is_that_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    path = write_whole(tmp_path / "a.txt", "é→")
    assert path.read_bytes() == "é→".encode()
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError("No space left on device")])
def test_an_interruption_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interruption: BaseException
) -> None:
    path = write_whole(tmp_path / "a.txt", "old")

    def interrupted(*_: object) -> None:
        raise interruption

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises((KeyboardInterrupt, OutputError)):
        write_whole(path, "new")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.txt", "old")]


def test_what_cannot_be_written_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"'.*nowhere' does not exist; make it first"):
        write_whole(tmp_path / "nowhere" / "a.txt", "x")
    with pytest.raises(OutputError, match="it is a folder; name a file in it"):
        write_whole(tmp_path, "x")


def test_a_folder_is_made_ready_with_its_parents(tmp_path: Path) -> None:
    folder = ready_folder(tmp_path / "a" / "b")
    assert folder.is_dir()
    assert list(folder.iterdir()) == []
    assert ready_folder(folder) == folder


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(OutputError, match="a file stands where a folder is needed"):
        ready_folder(tmp_path / "a")
    with pytest.raises(OutputError, match="a file stands where a folder is needed"):
        ready_folder(tmp_path / "a" / "b")


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_killed_writer_leaves_the_old_content(tmp_path: Path) -> None:
    path = write_whole(tmp_path / "a.txt", "old")
    code = (
        "import sys, itertools; from sae_circuits.disk.atomic import write_whole\n"
        "print('ready', flush=True)\n"
        "for i in itertools.count(): write_whole(sys.argv[1], str(i % 10) * 1_000_000)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    writer.stdout.readline()
    time.sleep(0.3)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    text = path.read_text()
    assert text == "old" or (len(text) == 1_000_000 and len(set(text)) == 1)
