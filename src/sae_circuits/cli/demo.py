"""`sae-circuits demo`: the main job on the bundled model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sae_circuits.cli import options


def demo(
    out: Annotated[Path, typer.Argument(help="The folder for all that comes out.")] = Path(
        "demo-run"
    ),
    edges: Annotated[int, typer.Option(min=0, help="How many edges to keep.")] = 47,
    overwrite: options.Overwrite = False,
) -> None:
    """Run the main job on the bundled model, offline."""
    from sae_circuits.cli.pipeline import Settings, run, summary

    settings = Settings(model="demo", task="ioi", edges=edges)
    report = run(settings, out, sys.argv[1:], overwrite=overwrite)
    typer.echo(summary(report, out))
