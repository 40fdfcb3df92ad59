"""The commands, and what happens to their errors."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sae_circuits._version import __version__
from sae_circuits.cli import (
    benchmark,
    cluster,
    connect,
    dashboard,
    demo,
    discover,
    evaluate,
    explore,
    features,
    listing,
    plan,
    render,
    steer,
    trace,
)
from sae_circuits.errors import CircuitsError, CircuitsWarning


@contextmanager
def _warnings_shown() -> Iterator[None]:
    """Inside, the library's warnings are one line each, and shown each time."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", CircuitsWarning)
        other = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any) -> None:
            if issubclass(category, CircuitsWarning):
                typer.echo(f"sae-circuits: warning: {message}", err=True)
            else:
                other(message, category, *rest)

        warnings.showwarning = show
        yield


class Group(TyperGroup):
    """Shows the library's errors as one line instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command: exit with 2 after an error of ours, with 130 after Ctrl-C."""
        try:
            with _warnings_shown():
                return super().invoke(ctx)
        except CircuitsError as error:
            if ctx.params.get("debug"):
                raise
            typer.echo(f"sae-circuits: {error}", err=True)
            raise typer.Exit(2) from error
        except KeyboardInterrupt as error:
            if ctx.params.get("debug"):
                raise
            typer.echo("sae-circuits: interrupted; finished files are kept", err=True)
            raise typer.Exit(130) from error


# The commands, each with the example that ends its help.
COMMANDS: dict[Callable[..., None], str] = {
    demo.demo: "sae-circuits demo demo-run/",
    discover.discover: "sae-circuits discover --model demo --task ioi --method eap-ig "
    "--edges 200 --out run/",
    evaluate.evaluate: "sae-circuits evaluate run/circuit.json --model demo --task ioi "
    "--intervention zero",
    benchmark.benchmark: "sae-circuits benchmark --task ioi --task induction --method eap --method "
    "eap-ig --method exact --out table/",
    trace.trace: "sae-circuits trace --prompt 'Mary and John went to the park, and Mary gave a pen "
    "to' --out trace-run/",
    connect.connect: "sae-circuits connect --sae demo --sae-id mlp_out.0 --sae-id resid_post.1 "
    "--feature post1.f5 --method direct --method patching",
    cluster.cluster: "sae-circuits cluster --sae demo --sae-id resid_post.1 --by decoder "
    "--out clusters.json --out clusters.svg",
    steer.steer: "sae-circuits steer --sae demo --sae-id z.1 --feature 228 --amount 4 "
    "--strengths 0,1,2 --prompt 'Mary and John went to the park, and Mary gave a pen to' "
    "--task ioi --out steered/",
    plan.plan: "sae-circuits plan --model llama-3-8b --tokens 2048 --examples 100 --dtype bfloat16 "
    "--memory 100GiB --flops-per-second 4e14",
    render.render: "sae-circuits render run/circuit.json circuit.pdf --top 50",
    explore.explore: "sae-circuits explore run/circuit.json --curve run/report.json "
    "--out explorer.html",
    listing.tasks: "sae-circuits tasks ioi --model demo --n 3",
    listing.models: "sae-circuits models",
}


def _first(command: Callable[..., None]) -> str:
    """The first line of a command's help, which click would cut."""
    return (command.__doc__ or "").partition("\n")[0]


def _ending(example: str) -> str:
    return f"\b\nExample:\n  {example}"


app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog=_ending("sae-circuits demo"),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for command, example in COMMANDS.items():
    app.command(command.__name__, short_help=_first(command), epilog=_ending(example))(command)

in_features = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Describe, label and search the features of a dictionary.",
    epilog=_ending(features.COMMANDS[features.describe.build]),
)
for command, example in features.COMMANDS.items():
    in_features.command(command.__name__, short_help=_first(command), epilog=_ending(example))(
        command
    )
app.add_typer(in_features, name="features")

in_dashboard = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Make pages that show what the features of a store do.",
    epilog=_ending(dashboard.COMMANDS[dashboard.feature]),
)
for command, example in dashboard.COMMANDS.items():
    in_dashboard.command(command.__name__, short_help=_first(command), epilog=_ending(example))(
        command
    )
app.add_typer(in_dashboard, name="dashboard")


def _version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"sae-circuits {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Find, test and show circuits in language models."""
