"""The record of a run: the exact command, the settings, the seed, the versions and the time."""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sae_circuits._version import __version__
from sae_circuits.disk.atomic import write_whole
from sae_circuits.errors import FileFormatError
from sae_circuits.io.files import strict_json

LIBRARIES = ("torch", "transformer-lens", "sae-lens", "transformers", "safetensors")


@dataclass(frozen=True)
class Record:
    """How a run was started and when it ended; `settings` is all that decides what comes out.

    `finished` stays None where a run was interrupted.
    """

    command: tuple[str, ...]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    started: str
    finished: str | None = None

    @classmethod
    def start(cls, command: Sequence[str], settings: Mapping[str, Any]) -> Record:
        """Begin the record of a run, now, with the versions that run it."""
        return cls(tuple(command), dict(settings), versions(), _now())

    def end(self) -> Record:
        """The same record of a run that has ended now."""
        return replace(self, finished=_now())

    @property
    def shell(self) -> str:
        """The command as it is typed into a shell."""
        return shlex.join(self.command)

    @property
    def key(self) -> str:
        """A hash of the settings and the library's version: equal where the results are."""
        said = {"settings": dict(self.settings), "sae-circuits": self.versions["sae-circuits"]}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def differences(self, other: Record) -> list[str]:
        """The settings that another record has otherwise, as lines to show.

        >>> a = Record.start(["x"], {"edges": 200, "seed": 0})
        >>> a.differences(Record.start(["x"], {"edges": 100, "seed": 0}))
        ['edges: 200, now 100']
        """
        names = [*self.settings, *(name for name in other.settings if name not in self.settings)]
        lines = [
            f"{name}: {self.settings.get(name)}, now {other.settings.get(name)}"
            for name in names
            if self.settings.get(name) != other.settings.get(name)
        ]
        old, new = (r.versions.get("sae-circuits") for r in (self, other))
        return lines if old == new else [*lines, f"sae-circuits: {old}, now {new}"]

    def save(self, path: str | Path) -> Path:
        """Write to a JSON file."""
        content = {**asdict(self), "shell": self.shell, "key": self.key}
        return write_whole(path, json.dumps(content, indent=2, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Record:
        """Read what `save` wrote.

        Raises:
            FileFormatError: not such a file.
        """
        path = Path(path)
        try:
            content = strict_json(path, path.read_bytes())
            names = ("settings", "versions", "started", "finished")
            record = cls(tuple(content["command"]), **{name: content[name] for name in names})
            if record.key != content["key"]:
                raise ValueError("its key does not fit its settings")
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise FileFormatError(
                f"{str(path)!r} is not the record of a run: {error}; use another folder, or "
                "--overwrite"
            ) from error
        return record


def versions() -> dict[str, str]:
    """The versions of this library, of those below it and of Python."""
    found = {"sae-circuits": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
