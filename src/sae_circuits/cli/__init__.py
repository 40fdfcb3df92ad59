"""The command line: `sae-circuits`, also as `python -m sae_circuits.cli`."""

from __future__ import annotations


def main() -> None:
    """Run the command line on the process's arguments."""
    from sae_circuits.cli.app import app

    app(prog_name="sae-circuits")
