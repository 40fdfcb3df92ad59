"""Files that are written whole or not at all, and folders that are checked before long work."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
from pathlib import Path

from sae_circuits.errors import OutputError

PART = re.compile(r"\..+\.[0-9a-f]{8}\.part(\.\w+)?")
"""What `part_of` gives, and what a database puts beside it."""


def write_whole(path: str | Path, data: bytes | str) -> Path:
    """Write a file so that a reader sees the old content or the new one, never a part.

    The data goes to a temporary file in the same folder, down to the disk, and then takes the
    name; an interruption at any moment leaves what was there before.

    Raises:
        OutputError: the folder does not exist or cannot be written.
    """
    path = Path(path)
    data = data.encode() if isinstance(data, str) else data
    if path.is_dir():
        raise OutputError(f"cannot write {str(path)!r}: it is a folder; name a file in it")
    part = part_of(path)
    try:
        try:
            with open(part, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except BaseException:  # Ctrl-C included: leave nothing behind
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"cannot write {str(path)!r}: {_reason(error, path.parent)}") from error
    return path


def part_of(path: Path) -> Path:
    """The name of a file as it is written, before it takes its own."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def remove_parts(folder: Path) -> None:
    """Remove what is left in a folder of files that were being written when a run was killed.

    Raises:
        OutputError: it cannot be removed.
    """
    if not folder.is_dir():
        return
    try:
        for left in folder.iterdir():
            if PART.fullmatch(left.name):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
    except OSError as error:
        raise OutputError(f"cannot write into {str(folder)!r}: {_reason(error, folder)}") from error


def ready_folder(path: str | Path) -> Path:
    """Make a folder where needed and see that files can be written in it.

    Raises:
        OutputError: a file of that name stands in the way, or nothing can be written there.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except (FileExistsError, NotADirectoryError) as error:
        raise OutputError(
            f"cannot write into {str(path)!r}: a file stands where a folder is needed; "
            "choose another folder"
        ) from error
    except OSError as error:
        raise OutputError(
            f"cannot write into {str(path)!r}: {_reason(error, path)}; choose another folder"
        ) from error
    return path


def empty_folder(folder: str | Path) -> Path:
    """Make a folder where needed, and see before long work that it is empty and can be written.

    Raises:
        OutputError: it is not, or cannot.
    """
    folder = ready_folder(folder)
    if there := sorted(item.name for item in folder.iterdir()):
        raise OutputError(
            f"{str(folder)!r} is not empty (it has {there[0]!r}): choose another folder"
        )
    return folder


def _reason(error: OSError, folder: Path) -> str:
    if isinstance(error, FileNotFoundError) or not folder.exists():
        return f"the folder {str(folder)!r} does not exist; make it first"
    return (error.strerror or type(error).__name__).lower()
