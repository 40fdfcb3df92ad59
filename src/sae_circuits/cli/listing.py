"""`sae-circuits tasks` and `sae-circuits models`: what there is."""

from __future__ import annotations

from typing import Annotated

import typer

from sae_circuits.cli import options


def tasks(
    name: Annotated[str | None, typer.Argument(help="Show examples of this task alone.")] = None,
    model: options.Model = "demo",
    n: Annotated[int, typer.Option("--n", min=1, help="How many examples.")] = 1,
    seed: options.Seed = 0,
) -> None:
    """List the bundled tasks, with examples, and say which the tokenizer cannot write."""
    from sae_circuits import tasks as bundled
    from sae_circuits.errors import TaskError

    names = bundled.names() if name is None else (bundled.recipe(name).name,)
    loaded = options.open_model(model, None, "float32")
    for task_name in names:
        typer.echo(task_name)
        try:
            task = bundled.make(task_name, loaded, n, seed)
        except TaskError as error:
            if name is not None:
                raise
            typer.echo(f"  {error}")
            continue
        for clean, corrupt in zip(task.clean_text, task.corrupt_text, strict=True):
            lines = f"clean:   {clean}".split("\n") + f"corrupt: {corrupt}".split("\n")
            typer.echo("\n".join(f"  {line}" for line in lines))


def models() -> None:
    """List the bundled models."""
    from sae_circuits.models import names

    for name, description in names().items():
        typer.echo(f"{name}: {description}")
    typer.echo(
        "\nAlso taken: a directory in Hugging Face's format, a name that transformer-lens knows\n"
        "(gpt2, pythia-70m, ...), and any model of the hub as owner/name."
    )
