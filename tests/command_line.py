"""Commands as a shell gives them, and what is to be seen of those that end well or badly."""

from __future__ import annotations

from typer.testing import CliRunner, Result

from sae_circuits.cli.app import app


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def done(*arguments: object) -> str:
    """What a command that ends well says."""
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(result: Result, message: str) -> None:
    """The command ended with one line that says why, and no traceback."""
    assert result.exit_code == 2, result.output
    errors = [line for line in result.stderr.splitlines() if ": warning: " not in line]
    assert len(errors) == 1
    assert errors[0].startswith("sae-circuits: ")
    assert message in errors[0]
    assert "Traceback" not in result.output
