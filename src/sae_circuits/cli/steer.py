"""`sae-circuits steer`: what a model writes, and how well it does, with a feature changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sae_circuits.cli import dictionaries, options
from sae_circuits.errors import OptionError, unknown

if TYPE_CHECKING:
    from sae_circuits.evaluation.steered import Steered
    from sae_circuits.models.dictionaries import Dictionary

CHANGES = ("add", "set", "scale", "remove", "project")
WIDEST = 60

Feature = Annotated[
    list[str] | None,
    typer.Option(help="Its number or name; again for each. By default all of --vectors."),
]
Kind = Annotated[
    str,
    typer.Option(help="Of its activation: add, set, scale, remove; project: all along it."),
]
Amount = Annotated[float, typer.Option(help="What to add, set or scale by.")]
Strengths = Annotated[
    str, typer.Option(help="How far to go, 0 for not at all and 1 for the change as it is.")
]
Positions = Annotated[
    str | None, typer.Option(help="Tokens to change, such as 3,4; by default all.")
]
Prompt = Annotated[list[str] | None, typer.Option(help="A text to go on from; again for each.")]
TaskName = Annotated[
    str | None, typer.Option(help="A bundled task to measure on; see 'sae-circuits tasks'.")
]
Sae = Annotated[
    str | None,
    typer.Option(
        help="Whose features: 'demo' (bundled), a folder that sae-lens wrote or a folder of "
        "such, or a release that sae-lens knows."
    ),
]
SaeId = Annotated[str | None, typer.Option(help="Which of them, such as z.1.")]
Vectors = Annotated[
    Path | None,
    typer.Option(help="Or directions of your own: vectors by name, in safetensors."),
]
Where = Annotated[str | None, typer.Option(help="Where --vectors stand, such as resid_post.1.")]
Tokens = Annotated[int, typer.Option(min=1, help="How many to write at most.")]
Temperature = Annotated[
    float, typer.Option(min=0, help="0 for the likeliest token; above it, draw.")
]
Out = Annotated[Path | None, typer.Option(help="A new folder for the result and its curve.")]


def steer(
    feature: Feature = None,
    change: Kind = "add",
    amount: Amount = 1.0,
    strengths: Strengths = "0,0.5,1,2",
    positions: Positions = None,
    prompt: Prompt = None,
    task: TaskName = None,
    task_file: options.TaskFile = None,
    metric: options.MetricName = "logit_diff",
    model: options.Model = "demo",
    sae: Sae = None,
    sae_id: SaeId = None,
    vectors: Vectors = None,
    site: Where = None,
    n_tokens: Tokens = 20,
    temperature: Temperature = 0.0,
    n: options.N = 64,
    seed: options.Seed = 0,
    batch_size: options.BatchSize = None,
    memory: options.Memory = None,
    device: options.Device = None,
    dtype: options.Dtype = "float32",
    out: Out = None,
) -> None:
    """Let a model write with a feature or a direction changed, and measure it on a task."""
    from sae_circuits.connectome.steer import steer as run
    from sae_circuits.disk.atomic import empty_folder

    options.check_names(
        task=task or "ioi", task_file=task_file, metric=metric, intervention="corrupt", dtype=dtype,
        memory=memory,
    )  # fmt: skip
    how = How.of(change, amount, strengths, positions)
    source = Source(sae, sae_id, vectors, site)
    source.check(feature)
    if not prompt and task is None and task_file is None:
        raise OptionError("there is nothing to run: give --prompt, --task or both")
    if out is not None:
        empty_folder(out)
    loaded = options.open_model(model, device, dtype)
    measured = task is not None or task_file is not None
    done = run(
        loaded,
        source.load(loaded),
        how.changes(feature),
        prompt or None,
        strengths=how.strengths,
        positions=how.positions,
        n_tokens=n_tokens, temperature=temperature,
        task=options.open_task(loaded, task or "", task_file, n, seed) if measured else None,
        metric=metric, batch_size=batch_size, memory=memory, seed=seed,
    )  # fmt: skip
    typer.echo(table(done))
    if out is not None:
        write(done, out)


@dataclass(frozen=True)
class How:
    """What is changed, how far and where."""

    change: tuple[str, float] | str
    strengths: tuple[float, ...]
    positions: tuple[int, ...] | None

    @classmethod
    def of(cls, change: str, amount: float, strengths: str, positions: str | None) -> How:
        """What the options say.

        Raises:
            UnknownName: of a change.
            OptionError: numbers that are none.
        """
        if change not in CHANGES:
            raise unknown("change", change, CHANGES)
        return cls(
            change if change in ("remove", "project") else (change, amount),
            _numbers("--strengths", strengths, float),
            None if positions is None else _numbers("--positions", positions, int),
        )

    def changes(self, features: list[str] | None) -> Any:
        """The change of all features, or of some."""
        if not features:
            return self.change
        return {int(f) if f.isdecimal() else f: self.change for f in features}


@dataclass(frozen=True)
class Source:
    """Where the features come from."""

    sae: str | None
    sae_id: str | None
    vectors: Path | None
    site: str | None

    @property
    def saes(self) -> dictionaries.Dictionaries:
        """The dictionaries among which one is."""
        ids = None if self.sae_id is None else [self.sae_id]
        return dictionaries.Dictionaries.of(self.sae, ids, None)

    def check(self, features: list[str] | None) -> None:
        """Refuse what can be seen to be wrong before a model is loaded.

        Raises:
            OptionError: not just one source, or one that lacks a part.
        """
        if (self.sae is None) == (self.vectors is None):
            raise OptionError("say whose features: give --sae with --sae-id, or --vectors")
        if (self.vectors is None) != (self.site is None):
            raise OptionError("--vectors and --site go together: such as --site resid_post.1")
        if self.sae is not None and not features:
            raise OptionError("say which features of --sae to change, with --feature")
        self.saes.check()

    def load(self, model: Any) -> Dictionary | list[Dictionary]:
        """Load them."""
        from sae_circuits.connectome.directions import of_vectors
        from sae_circuits.io.vectors import read_vectors

        if self.vectors is None or self.site is None:
            return self.saes.load(options.place_of(model))
        return of_vectors(self.site, read_vectors(self.vectors))


def _numbers(option: str, text: str, kind: type) -> tuple[Any, ...]:
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        raise OptionError(f"{option} is {text!r}: give numbers with commas between") from None


def table(done: Steered) -> str:
    """What is written and what is measured, strength by strength."""
    lines = [done.changes]
    for i, (prompt, before) in enumerate(zip(done.prompts, done.before, strict=True)):
        lines.append(f"Prompt: {prompt}")
        lines.append(f"{'unchanged':>10}  {_short(before)}")
        lines += [
            f"{strength:>10g}  {_short(texts[i])}"
            for strength, texts in zip(done.strengths, done.texts, strict=True)
        ]
    if done.values.shape[1]:
        lines.append(f"{'strength':>10}{done.provenance.metric:>16}  95% interval")
        lines.append(f"{'unchanged':>10}{float(done.clean.mean()):>16.4f}")
        rows = zip(done.strengths, done.curve, done.band, strict=True)
        lines += [
            f"{strength:>10g}{mean:>16.4f}  [{low:.4f}, {high:.4f}]"
            for strength, mean, (low, high) in rows
        ]
    return "\n".join(lines)


def _short(text: str) -> str:
    """A text in one line of the screen."""
    line = " ".join(text.split())
    return line if len(line) <= WIDEST else f"{line[: WIDEST - 3]}..."


def write(done: Steered, out: Path) -> None:
    """The result, and its curve where something was measured."""
    from sae_circuits.disk.atomic import write_whole
    from sae_circuits.viz.plots import png_of, strengths

    done.save(out / "steered.json")
    typer.echo(f"Result: {out / 'steered.json'}")
    if done.values.shape[1]:
        write_whole(out / "strengths.png", png_of(strengths(done)))
        typer.echo(f"Curve:  {out / 'strengths.png'}")
