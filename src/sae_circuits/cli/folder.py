"""The folder of a run: whose it is, what is in it already, and what an interrupted run left."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import typer

from sae_circuits.disk.atomic import part_of, ready_folder, remove_parts
from sae_circuits.errors import FileFormatError, OutputError
from sae_circuits.io import Record, load, save

RECORD = "record.json"
SHARDS = "shards"
STAGES = ("scores.safetensors", "circuit.json", "curve.json", "report.json", "graph.json")
PICTURES = (
    "circuit.svg",
    "circuit.html",
    "circuit.dot",
    "curve.svg",
    "curve.png",
    "report.html",
    "explorer.html",
    "graph.svg",
    "graph.html",
    "graph.neuronpedia.json",
)

Value = TypeVar("Value")


@dataclass(frozen=True)
class RunFolder:
    """A folder and the record of the one run that it holds."""

    path: Path
    record: Record
    overwrite: bool = False

    def check(self) -> None:
        """See that the run can begin in the folder, or go on where it stopped; change nothing.

        Raises:
            OutputError: the folder cannot be written, holds something else, or holds a run with
                other settings; the message names them.
        """
        ready_folder(self.path)
        there = sorted(item.name for item in self.path.iterdir())
        if foreign := [name for name in there if not _is_ours(name)]:
            raise OutputError(
                f"{str(self.path)!r} has {foreign[0]!r}, which no run writes: choose another folder"
            )
        if self.overwrite or not any(name in there for name in STAGES):
            return
        if RECORD not in there:
            raise OutputError(
                f"{str(self.path)!r} has {there[0]!r} but no {RECORD}: choose another folder, or "
                "--overwrite"
            )
        old = Record.load(self.path / RECORD)
        if old.key != self.record.key:
            raise OutputError(
                f"{str(self.path)!r} holds a run with other settings "
                f"({'; '.join(old.differences(self.record))}): choose another folder, or "
                "--overwrite"
            )

    def begin(self) -> None:
        """Write the record, and clear away another run where that is asked for."""
        if self.overwrite:
            for name in (*STAGES, *PICTURES):
                (self.path / name).unlink(missing_ok=True)
            shutil.rmtree(self.path / SHARDS, ignore_errors=True)
        self.record.save(self.path / RECORD)

    def stage(self, name: str, kind: type[Value], make: Callable[[], Value]) -> Value:
        """The value of a stage that has finished before, or a new one, saved before it is used."""
        path = self.path / name
        if path.exists():
            try:
                return load(path, kind)
            except FileFormatError as error:
                typer.echo(f"sae-circuits: {error}: making it anew", err=True)
        value = make()
        save(value, path)
        shutil.rmtree(self.shards(name), ignore_errors=True)  # all of it is in the file now
        with contextlib.suppress(OSError):  # other stages are still in it
            (self.path / SHARDS).rmdir()
        return value

    def shards(self, name: str) -> Path:
        """Where what is done of a stage is kept until it is finished."""
        return self.path / SHARDS / name.partition(".")[0]

    def finish(self) -> None:
        """Note in the record that the run has ended."""
        shutil.rmtree(self.path / SHARDS, ignore_errors=True)
        self.record.end().save(self.path / RECORD)


def begin_in(path: Path, files: Sequence[str]) -> None:
    """See that a command can begin in a folder, or go on in one where its shards are still there.

    Args:
        files: that the command writes in the end.

    Raises:
        OutputError: it cannot be written, or has something else in it, a finished run's files too.
    """
    ready_folder(path)
    known: Sequence[str] = ()
    if (path / SHARDS).is_dir():
        remove_parts(path)
        known = (*files, SHARDS)
    if there := sorted(item.name for item in path.iterdir() if item.name not in known):
        raise OutputError(
            f"{str(path)!r} is not empty (it has {there[0]!r}): choose another folder"
        )


def end_in(path: Path) -> None:
    """Remove a folder's shards, once all of them is in its files: at one moment it has none."""
    gone = part_of(path / SHARDS)
    (path / SHARDS).rename(gone)
    shutil.rmtree(gone)


def command_line(arguments: Sequence[str]) -> list[str]:
    """The command as it is typed, whatever the path of the program."""
    return ["sae-circuits", *arguments]


def content_hash(path: Path) -> str:
    """The SHA-256 of a file, or of all files of a folder with their names."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    digest = hashlib.sha256()
    for file in sorted(each for each in path.rglob("*") if each.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def stamp(folder: Path) -> str:
    """A hash of names, sizes and times of a folder's files: enough to notice other weights."""
    paths = sorted(
        path
        for pattern in ("*", "*/*")
        for path in folder.glob(pattern)
        if path.suffix in (".json", ".safetensors")
    )
    stats = [(path.relative_to(folder).as_posix(), path.stat()) for path in paths]
    said = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    return hashlib.sha256(repr(said).encode()).hexdigest()


def _is_ours(name: str) -> bool:
    """Whether a run writes a file of this name, or a killed one has left a part of it."""
    known = (*STAGES, *PICTURES, RECORD, SHARDS)
    return name in known or (name.startswith(".") and name.endswith(".part"))
