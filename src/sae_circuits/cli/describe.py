"""`sae-circuits features build`, `label` and `merge`: what makes and changes stores."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sae_circuits.cli import corpora, dictionaries, names, options
from sae_circuits.errors import OptionError, OutputError, unknown
from sae_circuits.sizes import in_bytes

if TYPE_CHECKING:
    from sae_circuits.features.dictionary import FeatureDictionary
    from sae_circuits.models.dictionaries import Dictionary

Store = Annotated[Path, typer.Argument(help="The folder of a store that 'build' made.")]
Sae = Annotated[
    str,
    typer.Option(
        help="A bundled dictionary, such as resid_post.1; a folder that sae-lens wrote; or, with "
        "--sae-id, a folder of such or a release that sae-lens knows.",
        autocompletion=names.of(names.SAES),
    ),
]
SaeId = Annotated[str | None, typer.Option(help="Which of the dictionaries there.")]
ItsModel = Annotated[
    str | None, typer.Option(help="The model of the store, where a strategy needs it.")
]
ItsSae = Annotated[str | None, typer.Option(help="With --model: the store's dictionary.")]


def build(
    sae: Sae,
    corpus: corpora.Corpora,
    out: Annotated[Path, typer.Option(help="The folder for the store.")],
    model: options.Model = "demo",
    sae_id: SaeId = None,
    field: corpora.Field = "text",
    n_ctx: corpora.NCtx = None,
    skip_token: Annotated[
        list[str] | None, typer.Option(help="A token that does not count, by its text.")
    ] = None,
    skip_position: Annotated[
        list[int] | None,
        typer.Option(help="A position that does not count, from 0; -1 is a prompt's last."),
    ] = None,
    special: Annotated[bool, typer.Option("--special", help="Special tokens count, too.")] = False,
    max_norm: Annotated[
        float | None,
        typer.Option(help="Tokens do not count where what is encoded has a larger norm."),
    ] = None,
    memory: Annotated[
        str, typer.Option(help="To stay under, beside the model's own run: 512MiB, 4GiB.")
    ] = "1GiB",
    batch_tokens: Annotated[int, typer.Option(min=1, help="Tokens to run at a time.")] = 8192,
    device: options.Device = None,
    dtype: options.Dtype = "float32",
    ray: options.Ray = None,
    workers: options.NWorkers = None,
    gpus_per_worker: options.GpusPerWorker = 0,
) -> None:
    """Describe every feature of a dictionary on a corpus, in a store.

    A run that was interrupted goes on where it stopped when the same command is given again; a
    folder with a store of other data is refused.
    """
    from sae_circuits.features.dictionary import STORE, FeatureDictionary
    from sae_circuits.features.folders import prompts_done
    from sae_circuits.features.masks import Masks

    texts = corpora.Texts(tuple(corpus), field, n_ctx)
    texts.check()
    in_bytes(memory)  # what is no size is said before anything is loaded
    masks = Masks(special, skip_token or (), skip_position or (), max_norm)
    options.check_dtype(dtype)
    loaded, held = model_and_dictionary(model, sae, sae_id, device, dtype)
    read, finished, before = texts.open(loaded), (out / STORE).exists(), prompts_done(out)
    load = partial(options.open_model, model, dtype=dtype)
    with options.workers_of(ray, workers, gpus_per_worker, load) as found:
        features = FeatureDictionary.build(
            loaded, held, read, out, masks=masks, batch_tokens=batch_tokens, memory=memory,
            workers=found,
        )  # fmt: skip
    if finished:
        typer.echo(f"Nothing to do: {out} holds this already.")
    elif before:
        typer.echo(
            f"Went on from an earlier run: {before:,} of {read.n_prompts:,} prompts were done."
        )
    typer.echo(summary(features))


def label(
    store: Store,
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            help="Again for each: tokens, ngrams, patterns, previous, clusters, logits, manual, "
            "explainer or neuronpedia; by default the first three. See docs/labels.md.",
            autocompletion=names.of(names.STRATEGIES),
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            help="Of a strategy, with its value as JSON or as text, such as tokens.most=3, "
            'manual.texts=\'{"42": "names"}\' or explainer.base_url=http://localhost:8000/v1.'
        ),
    ] = None,
    feature: Annotated[
        list[str] | None,
        typer.Option(help="By number or name; again for each to label; by default all."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of strategies that draw.")] = 0,
    model: ItsModel = None,
    sae: ItsSae = None,
    sae_id: SaeId = None,
    device: options.Device = None,
    dtype: options.Dtype = "float32",
    ray: options.Ray = None,
    workers: options.NWorkers = None,
    gpus_per_worker: options.GpusPerWorker = 0,
) -> None:
    """Label features, test the labels on held-out prompts, and keep them in the store.

    A label takes the place of an earlier one of the same strategy. The strategies clusters and
    logits need the model: give --model and --sae. A run that was interrupted goes on where it
    stopped when the same command is given again.
    """
    from sae_circuits.features.dictionary import FeatureDictionary
    from sae_circuits.features.labels import DEFAULT
    from sae_circuits.features.labels.strategies import STRATEGIES

    chosen = strategy or list(DEFAULT)
    for name in chosen:
        if name not in STRATEGIES:
            raise unknown("strategy", name, STRATEGIES)
        if name in ("clusters", "logits") and model is None:
            raise OptionError(f"strategy {name!r} needs the model: give --model and --sae")
    given = options_of(option or ())
    options.check_dtype(dtype)
    FeatureDictionary.load(store).database.close()  # before the model is loaded
    with_model = with_dictionary(model, sae, sae_id, device, dtype)
    features = FeatureDictionary.load(store, *with_model)
    some = None if feature is None else [asked(features, one) for one in feature]
    with options.workers_of(ray, workers, gpus_per_worker, None) as found:
        made = features.label(chosen, some, seed, workers=found, **given)
    shown = made[made.shown]
    typer.echo(
        f"{len(made):,} labels made; {len(shown):,}, of {shown.feature.nunique():,} features, "
        "beat the base rate on held-out prompts or are somebody's own, and are shown"
    )


def merge(
    stores: Annotated[list[Path], typer.Argument(help="The folders of two stores or more.")],
    out: Annotated[Path, typer.Option(help="A new folder for the store of all their data.")],
) -> None:
    """Put together stores of one dictionary on several corpora, as if it had run on all at once.

    Labels are not taken along, since they were tested on a part of the data: label again.
    """
    from sae_circuits.features.dictionary import FeatureDictionary

    if len(stores) < 2:
        raise OptionError(f"{len(stores)} store: give two or more")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{str(out)!r} is not empty: choose another folder")
    first, *others = (FeatureDictionary.load(store) for store in stores)
    for i, other in enumerate(others):
        first = first.merge(other, out if i == len(others) - 1 else None)
    typer.echo(summary(first))


def summary(features: FeatureDictionary) -> str:
    """What a store holds: its features by type, on how many tokens, and where it is."""
    counts = features.query("SELECT type, count(*) AS n FROM features GROUP BY type")
    n = dict(zip(counts.type, counts.n.tolist(), strict=True))
    kinds = [kind for kind in ("dense", "moderate", "sparse", "ultra-sparse", "dead") if kind in n]
    by_type = ", ".join(f"{n[kind]:,} {kind}" for kind in kinds)
    return f"{features!r}\nTypes: {by_type}\nStore: {features.folder}"


def options_of(said: Any) -> dict[str, dict[str, Any]]:
    """Options by strategy, from texts such as "tokens.most=3".

    Raises:
        OptionError: a text that is not of this form.

    >>> options_of(["tokens.most=3", "manual.author=ada", 'manual.texts={"42": "names"}'])
    {'tokens': {'most': 3}, 'manual': {'author': 'ada', 'texts': {42: 'names'}}}
    """
    found: dict[str, dict[str, Any]] = {}
    for one in said:
        name, equals, value = one.partition("=")
        strategy, dot, key = name.partition(".")
        if not (equals and dot and strategy and key):
            raise OptionError(f"--option {one!r}: give STRATEGY.OPTION=VALUE, as tokens.most=3")
        found.setdefault(strategy, {})[key] = _value(value)
    return found


def _value(text: str) -> Any:
    """A value of JSON, with features' numbers as such; any other text is itself."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    if isinstance(value, dict):
        return {int(key) if key.isdecimal() else key: each for key, each in value.items()}
    return value


def model_and_dictionary(
    model: str, sae: str, sae_id: str | None, device: str | None, dtype: str
) -> tuple[Any, Dictionary]:
    """A model and the one dictionary that the options name.

    Raises:
        OptionError: several dictionaries, or none of that name.
    """
    chosen = dictionaries.Dictionaries.named(sae, [sae_id] if sae_id else None, None)
    chosen.check()
    loaded = options.open_model(model, device, dtype)
    found = chosen.load(options.place_of(loaded))
    if len(found) != 1:
        names = ", ".join(one.name for one in found)
        raise OptionError(f"--sae {sae} holds {names}: say which one with --sae-id")
    return loaded, found[0]


def with_dictionary(
    model: str | None, sae: str | None, sae_id: str | None, device: str | None, dtype: str
) -> tuple[Any, ...]:
    """The model and the dictionary, where the options name both.

    Raises:
        OptionError: one without the other.
    """
    if model is None and sae is None:
        return ()
    if model is None or sae is None:
        raise OptionError("give --model and --sae together, or neither")
    return model_and_dictionary(model, sae, sae_id, device, dtype)


def asked(features: FeatureDictionary, one: str) -> int | str:
    """A feature by its name, where one has it, or else by its number."""
    named = one in (features.database.meta()["names"] or ())
    return int(one) if one.isdecimal() and not named else one
