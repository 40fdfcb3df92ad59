"""The folder of a job: a manifest that says what it is, and a file for each shard that is done."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from sae_circuits._version import __version__
from sae_circuits.disk.arrays import FORMAT, Arrays, open_arrays, write_arrays
from sae_circuits.disk.atomic import ready_folder, remove_parts, write_whole
from sae_circuits.errors import FileFormatError, OutputError
from sae_circuits.shards.identity import fingerprint
from sae_circuits.shards.job import Job, Partial, Shard

MANIFEST, KIND, SCHEMA = "manifest.json", "shard", 1


@dataclass(frozen=True)
class ShardFolder:
    """Where the shards of one job are kept as they are done.

    Args:
        path: of the folder.
        said: what the job is, and how it is divided.
    """

    path: Path
    said: Mapping[str, Any]

    @classmethod
    def open(cls, path: str | Path, job: Job, shards: Sequence[Shard]) -> ShardFolder:
        """The folder of a job, made where there is none, or gone on with.

        Raises:
            OutputError: it cannot be written, or holds another job, with what differs.
            FileFormatError: its manifest is damaged.
        """
        path = ready_folder(path)
        remove_parts(path)
        ends = [shard.stop for shard in shards]
        said = {"job": job.name, "sae-circuits": __version__, **job.said, "shards": ends}
        said = json.loads(json.dumps(said))  # as it is read back
        found = cls(path, said)
        if (path / MANIFEST).exists():
            found._require_same(_manifest(path / MANIFEST))
        else:
            found._require_empty()
            content = {"format": FORMAT, "kind": "manifest", "schema": SCHEMA, "said": said}
            write_whole(path / MANIFEST, json.dumps(content, indent=2) + "\n")
        return found

    @classmethod
    def load(cls, path: str | Path) -> ShardFolder:
        """The folder that a run has left, to be read.

        Raises:
            FileFormatError: it has no manifest, or a damaged one.
        """
        return cls(Path(path), _manifest(Path(path) / MANIFEST))

    @property
    def shards(self) -> list[Shard]:
        """How the job is divided."""
        ends = [0, *self.said["shards"]]
        return [Shard(i, ends[i], ends[i + 1]) for i in range(len(ends) - 1)]

    def has(self, shard: Shard) -> bool:
        """Whether a shard is done.

        Raises:
            FileFormatError: it is damaged, or of another job.
        """
        if not self._file(shard).exists():
            return False
        self.arrays(shard)
        return True

    def write(self, shard: Shard, partial: Partial) -> None:
        """Keep what came of a shard.

        Raises:
            OutputError: the folder cannot be written, or the disk is full.
        """
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in partial.items()}
        write_arrays(self._file(shard), KIND, SCHEMA, arrays, self._record(shard))

    def read(self, shard: Shard) -> Partial:
        """What came of a shard that is done.

        Raises:
            FileFormatError: it is damaged, or of another job.
        """
        arrays = self.arrays(shard)
        return {name: torch.from_numpy(arrays[name].copy()) for name in arrays.names}

    def arrays(self, shard: Shard) -> Arrays:
        """The same, which stays on disk until it is asked for.

        Raises:
            FileFormatError: it is damaged, or of another job.
        """
        path = self._file(shard)
        arrays = open_arrays(path, KIND, SCHEMA)
        if dict(arrays.record) != self._record(shard):
            raise FileFormatError(
                f"{str(path)!r} is a shard of another run than the manifest beside it: remove it, "
                "and it is made again"
            )
        return arrays

    # -- parts -----------------------------------------------------------------------------------

    def _file(self, shard: Shard) -> Path:
        return self.path / f"{shard.index:05}.safetensors"

    def _record(self, shard: Shard) -> dict[str, Any]:
        return {"of": self._identity, "items": [shard.start, shard.stop]}

    @cached_property
    def _identity(self) -> str:
        return fingerprint(self.said)

    def _require_same(self, held: Mapping[str, Any]) -> None:
        names = dict.fromkeys([*held, *self.said])
        differ = [name for name in names if held.get(name) != self.said.get(name)]
        if differ:
            lines = [
                f"{name}: {_short(held.get(name))}, now {_short(self.said.get(name))}"
                for name in differ
            ]
            raise OutputError(
                f"{str(self.path)!r} holds shards of another run ({'; '.join(lines)}): choose "
                "another folder, or remove it"
            )

    def _require_empty(self) -> None:
        if there := sorted(item.name for item in self.path.iterdir()):
            raise OutputError(
                f"{str(self.path)!r} has {there[0]!r} but no {MANIFEST}: choose another folder"
            )


def _manifest(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_bytes())
        if content["format"] != FORMAT or content["kind"] != "manifest":
            raise ValueError(f"it is no manifest of {FORMAT}")
        if content["schema"] != SCHEMA:
            raise ValueError(f"its schema is {content['schema']}, and this version reads {SCHEMA}")
        return dict(content["said"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise FileFormatError(
            f"{str(path)!r} cannot be read as a manifest: {error}; remove the folder, or choose "
            "another"
        ) from error


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
