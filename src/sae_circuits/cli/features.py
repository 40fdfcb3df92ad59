"""`sae-circuits features`: what the features of a dictionary do, in a store to look up."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sae_circuits.cli import describe
from sae_circuits.errors import OptionError, StoreError

if TYPE_CHECKING:
    import pandas

    from sae_circuits.features.feature import Example, Feature

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

N_LISTED = 8
WIDEST = 48


def search(
    store: describe.Store,
    token: Annotated[
        list[str] | None,
        typer.Option(help="Fires on this token; again for each, where it fires on any of them."),
    ] = None,
    how: Annotated[
        str, typer.Option(help="To read tokens: exact, any-case, substring or regex.")
    ] = "exact",
    label: Annotated[str | None, typer.Option(help="A part of a label that is shown.")] = None,
    logit: Annotated[str | None, typer.Option(help="Makes this token more likely.")] = None,
    text: Annotated[str | None, typer.Option(help="A part of an example's text.")] = None,
    where: Annotated[
        str | None,
        typer.Option(help="A condition on the table of features, in SQL: see docs/store.md."),
    ] = None,
    order: Annotated[
        str | None, typer.Option(help="Of its columns the one to order by, largest first.")
    ] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="How many at most.")] = 20,
    as_json: Json = False,
) -> None:
    """Find the features for which all that is given holds, best first."""
    from sae_circuits.features.dictionary import FeatureDictionary

    features = FeatureDictionary.load(store)
    try:
        found = features.search(
            token=token or None, how=how, label=label, logit=logit, text=text, where=where,
            order=order, n=n,
        )  # fmt: skip
    except StoreError as error:
        if where is None:
            raise
        reason = str(error).partition("\n")[0]
        raise OptionError(f"--where {where!r} cannot be asked: {reason}") from error
    if as_json:
        typer.echo(in_json(json.loads(str(found.to_json(orient="records", double_precision=15)))))
    else:
        typer.echo(table(found) if len(found) else "No feature.")


def show(
    store: describe.Store,
    feature: Annotated[str, typer.Argument(help="Its number, or its name.")],
    as_json: Json = False,
    html: Annotated[
        Path | None, typer.Option(help="A page to write, that needs no network.")
    ] = None,
) -> None:
    """Show all that is known of one feature."""
    from markupsafe import Markup

    from sae_circuits.disk.atomic import write_whole
    from sae_circuits.features.dictionary import FeatureDictionary
    from sae_circuits.viz.pages import page

    features = FeatureDictionary.load(store)
    found = features.feature(describe.asked(features, feature))
    typer.echo(in_json(asdict(found)) if as_json else described(found))
    if html is not None:
        write_whole(html, page(f"Feature {found.id}", Markup(found._repr_html_())))
        typer.echo(f"Page: {html}", err=as_json)


def export(
    store: describe.Store,
    path: Annotated[Path, typer.Argument(help="A .json file, or a folder for Parquet files.")],
    feature: Annotated[
        list[str] | None,
        typer.Option(help="Only what is known of this one, by number or name; again for each."),
    ] = None,
) -> None:
    """Write the tables of a store to one file of JSON, or to Parquet files."""
    from sae_circuits.features.dictionary import FeatureDictionary

    features = FeatureDictionary.load(store)
    some = None if feature is None else [describe.asked(features, one) for one in feature]
    typer.echo(features.export(path, some))


# The commands of the group, each with the example that ends its help.
COMMANDS: dict[Callable[..., None], str] = {
    describe.build: "sae-circuits features build --model demo --sae resid_post.1 "
    "--corpus demo:20000 --out store/",
    describe.label: "sae-circuits features label store/ --strategy tokens --strategy ngrams",
    search: "sae-circuits features search store/ --token John --token Mary --where 'density < 0.1'",
    show: "sae-circuits features show store/ 42",
    export: "sae-circuits features export store/ features.json --feature 3 --feature 42",
    describe.merge: "sae-circuits features merge a/ b/ --out c/",
}


# -- what is printed -------------------------------------------------------------------------------


def table(rows: pandas.DataFrame) -> str:
    """Rows as text, with few digits, and without columns in which nothing stands."""
    short = rows.dropna(axis="columns", how="all")
    return short.to_string(
        index=False, na_rep="", float_format=lambda x: f"{x:.4g}", max_colwidth=WIDEST
    )


def in_json(value: Any) -> str:
    """Strict JSON, to be read by people too."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)


def described(feature: Feature) -> str:
    """A feature in some lines of text."""
    numbers = feature.statistics
    lines = [repr(feature)]
    if numbers["n_active"]:
        lines.append(
            f"Where active: mean {numbers['mean_active']:.4g}, "
            f"at most {numbers['max_active']:.4g}; "
            f"{numbers['n_active']:,} tokens, entropy {numbers['token_entropy']:.3g} bits"
        )
    for row in feature.labels:
        if row["shown"] and row["precision"] is not None:
            said = f"precision {row['precision']:.0%}, recall {row['recall']:.0%}"
            lines.append(f"Label: {row['text']} ({row['strategy']}; {said})")
        elif row["shown"]:
            lines.append(f"Label: {row['text']} ({row['strategy']})")
    tokens = [f"{row['text']!r} {row['share']:.0%}" for row in feature.tokens[:N_LISTED]]
    lines.append(f"Fires on: {', '.join(tokens)}" if tokens else "Never active on this corpus.")
    for kind, name in (("top", "Makes more likely"), ("bottom", "Makes less likely")):
        rows = [row for row in feature.logits if row["kind"] == kind][:N_LISTED]
        if rows:
            said = ", ".join(f"{row['text']!r} {row['effect']:+.2f}" for row in rows)
            lines.append(f"{name}: {said}")
    lines += _written(feature)
    return "\n".join([*lines, *map(_line, feature.top(N_LISTED))])


def _written(feature: Feature) -> list[str]:
    """Where its decoder row lies, and which features, and others, go with it."""
    neurons = [f"{row['neuron']} {row['value']:+.2f}" for row in feature.neurons]
    heads = [f"{row['head']} {row['share']:.0%}" for row in feature.heads]
    lines = [f"Writes on: {', '.join(neurons)}"] if neurons else []
    lines += [f"Heads: {', '.join(heads)}"] if heads else []
    for among, measure, rows in feature.nearest:
        near = [f"{row['name'] or row['feature']} {row['value']:+.2f}" for row in rows[:N_LISTED]]
        lines.append(f"Nearest {among} ({measure}): {', '.join(near)}")
    return lines


def _line(example: Example) -> str:
    """An example, with the token at which the feature is active in brackets."""
    at = example.position - example.first
    before, token, after = example.tokens[:at], example.tokens[at], example.tokens[at + 1 :]
    gap = "" if any(text[:1].isspace() for text in example.tokens) else " "
    text = gap.join([*before, f"[{token}]", *after]).replace("\n", "\\n")
    where = f"{example.prompt}:{example.position}"
    return f"{example.activation:>10.4g}  {where:<10}  {text}"
