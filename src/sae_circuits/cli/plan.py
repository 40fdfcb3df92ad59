"""`sae-circuits plan`: what a run would cost, before anything runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sae_circuits.cli import names, options
from sae_circuits.errors import OptionError

if TYPE_CHECKING:
    from sae_circuits.graph import Architecture
    from sae_circuits.planning.value import Plan

SIZES = ("layers", "heads", "kv_heads", "d_model", "d_head", "d_mlp", "vocab")

Size = Annotated[int | None, typer.Option(min=1, help="Of a shape of your own; give all sizes.")]
Features = Annotated[
    list[str] | None,
    typer.Option(help="Of dictionaries, as mlp_out=16384 or resid_post.3=16384. Again for each."),
]
Setting = Annotated[
    list[str] | None,
    typer.Option("--option", help="Of the method, with its value, as steps=10. Again for each."),
]
Model = Annotated[
    str,
    typer.Option(
        help="'demo', gpt2, gpt2-xl, llama-2-7b, llama-3-8b and others.",
        autocompletion=names.of(names.MODELS),
    ),
]
Method = Annotated[
    str,
    typer.Option(
        help="Such as eap, eap-ig or exact; none for none.",
        autocompletion=names.of(("none", *names.METHODS)),
    ),
]


def plan(
    model: Model = "gpt2",
    layers: Size = None,
    heads: Size = None,
    kv_heads: Annotated[int | None, typer.Option(min=1, help="Where heads share keys.")] = None,
    d_model: Size = None,
    d_head: Annotated[int | None, typer.Option(min=1, help="By default d_model / heads.")] = None,
    d_mlp: Size = None,
    vocab: Size = None,
    gated: Annotated[
        bool, typer.Option("--gated", help="The MLPs of that shape are gated.")
    ] = False,
    examples: Annotated[
        int, typer.Option(min=1, help="Clean prompts, each with a corrupt one.")
    ] = 64,
    tokens: Annotated[int, typer.Option(min=1, help="Of each prompt.")] = 64,
    method: Method = "eap-ig",
    option: Setting = None,
    nodes: Annotated[bool, typer.Option("--nodes", help="Scores of nodes, not of edges.")] = False,
    features: Features = None,
    sizes: Annotated[int, typer.Option(min=0, help="Of a curve that is run after.")] = 0,
    memory: options.Memory = None,
    batch_size: options.BatchSize = None,
    device: Annotated[str, typer.Option(help="Such as cpu or cuda.")] = "cpu",
    dtype: options.Dtype = "float32",
    flops_per_second: Annotated[
        float | None, typer.Option(help="Instead of the rate that is measured, such as 4e14.")
    ] = None,
    bytes_per_second: Annotated[
        float | None, typer.Option(help="Instead of the rate that is measured, such as 3e12.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="A file for all numbers.")
    ] = None,
) -> None:
    """Count operations, bytes, memory and time of a run before anything runs.

    No weights are made. Where no rates are given, products are run for less than a second to see
    how fast this machine is.
    """
    from sae_circuits import plan as count

    options.check_dtype(dtype)
    options.check_memory(memory)
    sizes_given = layers, heads, kv_heads, d_model, d_head, d_mlp, vocab
    own: dict[str, int | None] = dict(zip(SIZES, sizes_given, strict=True))
    found = count(
        _shape(own, tokens, gated, dtype) if any(own.values()) else model,
        examples=examples, tokens=tokens, sizes=sizes, of="nodes" if nodes else "edges",
        method=None if method == "none" else method,
        features={place: int(n) for place, n in _pairs("--features", features)},
        dtype=dtype, device=device, memory=memory, batch_size=batch_size,
        flops_per_second=flops_per_second, bytes_per_second=bytes_per_second,
        **dict(_pairs("--option", option)),
    )  # fmt: skip
    typer.echo(table(found))
    if json_file is not None:
        from sae_circuits.disk.atomic import write_whole

        write_whole(json_file, json.dumps(found.to_dict(), indent=2) + "\n")


def table(found: Plan) -> str:
    """Sizes, a line for each stage, and whether it fits."""
    from sae_circuits.sizes import said

    pairs = f"{found.examples:,} pairs of prompts of {found.tokens:,} tokens"
    lines = [
        f"{found.model}, {found.dtype}, {found.device}: {pairs}",
        f"graph: {found.nodes:,} writers, {found.edges:,} edges; scores {said(found.result)}",
        f"weights {said(found.weights)}, budget beside them {said(found.budget)}",
        f"a second: {found.flops_per_second:.3g} operations, {said(found.bytes_per_second)} moved",
        "",
        f"{'stage':<20}{'operations':>12}{'moved':>10}{'batch':>7}{'peak':>10}{'time':>10}",
    ]
    for stage in found.stages:
        name = stage.name + ", at most" * stage.at_most
        lines.append(
            f"{name:<20}{stage.flops:>12.3g}{said(stage.moved):>10}{stage.batch_size:>7,}"
            f"{said(stage.peak):>10}{_time(stage.seconds):>10}"
        )
    word = "It fits" if found.fits else "It does not fit"
    return "\n".join([*lines, "", f"{word}: {said(found.peak)} of {said(found.budget)}."])


def _time(seconds: float) -> str:
    """A time in the unit that fits.

    >>> _time(0.5), _time(90), _time(7200), _time(400_000)
    ('0.5 s', '1.5 min', '2 h', '4.63 days')
    """
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size * (1 if unit != "days" else 2):
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def _shape(own: dict[str, int | None], tokens: int, gated: bool, dtype: str) -> Any:
    """A shape from its sizes.

    Raises:
        OptionError: one that is missing.
    """
    from sae_circuits.costs.shape import Shape
    from sae_circuits.planning.run import DTYPES

    own = {**own, "kv_heads": own["kv_heads"] or own["heads"]}
    if own["d_head"] is None and own["d_model"] and own["heads"]:
        own["d_head"] = own["d_model"] // own["heads"]
    missing = [f"--{name.replace('_', '-')}" for name in SIZES if own[name] is None]
    if missing:
        raise OptionError(f"a shape of your own needs {', '.join(missing)}, too")
    return Shape(_architecture({name: size or 0 for name, size in own.items()}, tokens),
                 DTYPES[dtype], gated)  # fmt: skip


def _architecture(own: dict[str, int], tokens: int) -> Architecture:
    from sae_circuits.graph import Architecture

    return Architecture(
        model="own",
        n_layers=own["layers"],
        n_heads=own["heads"],
        n_kv_heads=own["kv_heads"],
        d_model=own["d_model"],
        d_head=own["d_head"],
        d_vocab=own["vocab"],
        n_ctx=tokens,
        d_mlp=own["d_mlp"],
    )


def _pairs(name: str, texts: list[str] | None) -> list[tuple[str, Any]]:
    """Names and values.

    Raises:
        OptionError: a text that is not of the form NAME=VALUE.
    """
    found = []
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not (key and equals and value) or (name == "--features" and not value.isdecimal()):
            raise OptionError(
                f"{name} {text!r}: give NAME=VALUE, such as steps=10 or mlp_out=16384"
            )
        try:
            found.append((key, json.loads(value)))
        except json.JSONDecodeError:
            found.append((key, value))
    return found
