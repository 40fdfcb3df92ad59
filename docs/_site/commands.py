"""The page of all commands, from the app itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer

from sae_circuits.cli.app import app


def all_commands() -> str:
    """Write every command: what it does, an example, its arguments and options with defaults."""
    return "\n\n".join(
        _command(name, command) for name, command in _walk(typer.main.get_command(app))
    )


def _walk(command: Any, name: str = "sae-circuits") -> Iterator[tuple[str, Any]]:
    for key, sub in getattr(command, "commands", {}).items():
        if hasattr(sub, "commands"):
            yield from _walk(sub, f"{name} {key}")
        else:
            yield f"{name} {key}", sub


def _command(name: str, command: Any) -> str:
    context = command.make_context(name, [], resilient_parsing=True)
    example = command.epilog.partition("Example:\n")[2].strip()
    rows = [_row(p, context) for p in command.params if not getattr(p, "hidden", False)]
    head = ['<div class="options" markdown>', "", "| | default | |", "|---|---|---|"]
    table = "\n".join([*head, *rows, "", "</div>"])
    said = _in_code((command.help or "").replace("\b\n", ""))
    return f"## {name.removeprefix('sae-circuits ')}\n\n{said}\n\n```sh\n{example}\n```\n\n{table}"


def _row(parameter: Any, context: Any) -> str:
    names = (*parameter.opts, *parameter.secondary_opts)
    called = ", ".join(f"`{n}`" if n.startswith("-") else f"`{n.upper()}`" for n in names)
    default = parameter.get_default(context)
    shown = "required" if parameter.required else "" if default in (None, False) else f"`{default}`"
    said = getattr(parameter, "help", None) or ""
    return f"| {called} | {shown} | {_in_code(said)} |"


def _in_code(text: str) -> str:
    """Set options as code, and keep a bar from ending a table's cell."""
    return re.sub(r"--[a-z][a-z-]*", r"`\g<0>`", text.replace("|", "\\|"))
