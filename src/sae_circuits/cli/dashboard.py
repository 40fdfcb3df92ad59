"""`sae-circuits dashboard`: pages of features and of prompts, from a store."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sae_circuits.cli import describe, names, options
from sae_circuits.errors import OptionError, OutputError, unknown

if TYPE_CHECKING:
    from sae_circuits.dashboards.layout import Layout
    from sae_circuits.features.dictionary import FeatureDictionary

Features = Annotated[
    list[str] | None,
    typer.Option(
        "--feature",
        help="A feature, by its number or name; again for each. By default all that are not dead.",
    ),
]
LayoutName = Annotated[
    str | None,
    typer.Option(
        "--layout",
        help="feature, prompt, compact, or a .toml file.",
        autocompletion=names.of(names.LAYOUTS),
    ),
]
Title = Annotated[str | None, typer.Option(help="Of the page.")]
NoLossEffects = Annotated[
    bool,
    typer.Option(
        "--no-loss-effects", help="Leave out effects on the loss, and what tokens show of them."
    ),
]
Ablation = Annotated[
    bool,
    typer.Option("--ablation", help="Also effects by a second run without each feature: slower."),
]
Hover = Annotated[
    int, typer.Option(min=0, help="How many tokens most helped and hurt each token shows.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the view's JSON instead.")]
OutPage = Annotated[
    Path | None, typer.Option(help="The page: .html. With .json, the view instead, to load again.")
]


def feature(
    store: describe.Store,
    feature: Features = None,
    out: OutPage = None,
    format: Annotated[
        str | None,
        typer.Option(
            help="Files for another viewer, in the folder --out: neuronpedia or circuit-tracer.",
            autocompletion=names.of(names.FORMATS),
        ),
    ] = None,
    layout: LayoutName = None,
    title: Title = None,
    no_loss_effects: NoLossEffects = False,
    ablation: Ablation = False,
    hover: Hover = 5,
    as_json: Json = False,
    model: describe.ItsModel = None,
    sae: describe.ItsSae = None,
    sae_id: describe.SaeId = None,
    device: options.Device = None,
    dtype: options.Dtype = "float32",
) -> None:
    """Show features on one page, which needs no network.

    Effects on the loss need the model: give --model and --sae.
    """
    from sae_circuits.dashboards.formats import FORMATS
    from sae_circuits.dashboards.views import FeatureView

    if format is not None and format not in FORMATS:
        raise unknown("format", format, FORMATS)
    drawn = drawn_by(layout)
    check_output(out, as_json=as_json, folder=format is not None)
    options.check_dtype(dtype)
    need_model = "--ablation" if ablation else None
    features = opened(store, (model, sae, sae_id, device, dtype), need_model, feature)
    asked = asked_of(no_loss_effects=no_loss_effects, ablation=ablation, hover=hover)
    view = FeatureView.build(features, ids_of(features, feature), title=title, **asked)
    what = f"{len(view.profiles):,} feature{'s' * (len(view.profiles) != 1)}"
    if format is not None and out is not None:
        told(view.export(out, format), what)
    else:
        put(view, out, drawn, what)


def prompt(
    store: describe.Store,
    prompt: Annotated[str, typer.Option(help="The text whose tokens are to be explained.")],
    model: options.Model,
    sae: describe.Sae,
    out: OutPage = None,
    metric: Annotated[
        str | None,
        typer.Option(help="To attribute to features: logit_diff, prob_diff, kl or cross_entropy."),
    ] = None,
    answer: Annotated[
        list[str] | None, typer.Option(help="What the metric calls right: a token, as it reads.")
    ] = None,
    wrong: Annotated[
        list[str] | None, typer.Option(help="What it calls wrong; again for each.")
    ] = None,
    token: Annotated[
        list[str] | None,
        typer.Option(help="To show effects on the logit of this token; again for each."),
    ] = None,
    k: Annotated[int, typer.Option("--k", min=1, help="Features at each token and score.")] = 10,
    no_bos: Annotated[
        bool, typer.Option("--no-bos", help="The text begins without the token that begins texts.")
    ] = False,
    layout: LayoutName = None,
    title: Title = None,
    no_loss_effects: NoLossEffects = False,
    as_json: Json = False,
    sae_id: describe.SaeId = None,
    device: options.Device = None,
    dtype: options.Dtype = "float32",
) -> None:
    """Show which features do something at each token of a prompt, by several scores.

    With a metric, the features' share in it too: --metric logit_diff --answer Mary --wrong John.
    """
    from sae_circuits import metrics
    from sae_circuits.dashboards.prompt_view import PromptView

    if metric is not None and metric not in metrics.names():
        raise unknown("metric", metric, metrics.names())
    if metric is None and (answer or wrong):
        raise OptionError("--answer and --wrong are of a metric: say which with --metric")
    if not prompt:
        raise OptionError("the prompt is empty: give a text whose tokens are to be explained")
    drawn = drawn_by(layout)
    check_output(out, as_json=as_json)
    options.check_dtype(dtype)
    features = opened(store, (model, sae, sae_id, device, dtype))
    panels: dict[str, Any] = {"loss_effects": False if no_loss_effects else None}
    view = PromptView.build(
        features, prompt, metric=metric, answer=answer or (), wrong=wrong or (),
        tokens=token or None, k=k, prepend_bos=not no_bos,
        **(panels if title is None else {**panels, "title": title}),
    )  # fmt: skip
    put(view, out, drawn, f"{len(view.tokens):,} token{'s' * (len(view.tokens) != 1)}")


def index(
    store: describe.Store,
    out: Annotated[Path, typer.Option(help="The folder for the page and its data.")],
    feature: Features = None,
    block: Annotated[int, typer.Option(min=1, help="Features in a file of data.")] = 64,
    one_file: Annotated[
        bool, typer.Option("--one-file", help="All in index.html, and no files of data beside it.")
    ] = False,
    layout: LayoutName = None,
    title: Title = None,
    no_loss_effects: NoLossEffects = False,
    ablation: Ablation = False,
    hover: Hover = 5,
    model: describe.ItsModel = None,
    sae: describe.ItsSae = None,
    sae_id: describe.SaeId = None,
    device: options.Device = None,
    dtype: options.Dtype = "float32",
    ray: options.Ray = None,
    workers: options.NWorkers = None,
    gpus_per_worker: options.GpusPerWorker = 0,
) -> None:
    """Show thousands of features: a table to search, and files of data beside it.

    A run that was interrupted goes on where it stopped when the same command is given again.
    """
    from sae_circuits.dashboards.index import render_index

    drawn = drawn_by(layout)
    options.check_dtype(dtype)
    need_model = "--ablation" if ablation else None
    features = opened(store, (model, sae, sae_id, device, dtype), need_model, feature)
    asked = asked_of(no_loss_effects=no_loss_effects, ablation=ablation, hover=hover)
    some = ids_of(features, feature)
    load = partial(options.open_model, model, dtype=dtype) if model else _no_model
    with options.workers_of(ray, workers, gpus_per_worker, load) as found:
        page = render_index(
            features, out, some, block=block, layout=drawn, title=title, one_file=one_file,
            workers=found, **asked,
        )  # fmt: skip
    files = list((out / "data").glob("*.js")) if not one_file else []
    size = sum(path.stat().st_size for path in files)
    also = f"; beside it {len(files):,} files of data, {in_words(size)}" if files else ""
    told(page, f"a table of all features{also}")


def _no_model(device: str) -> None:
    """What workers load where no model is asked for."""


# The commands of the group, each with the example that ends its help.
COMMANDS: dict[Callable[..., None], str] = {
    feature: "sae-circuits dashboard feature store/ --feature 3 --feature 42 --model demo "
    "--sae resid_post.1 --out features.html",
    prompt: "sae-circuits dashboard prompt store/ --prompt 'When Mary and John went to the store,' "
    "--model demo --sae resid_post.1 --out prompt.html",
    index: "sae-circuits dashboard index store/ --model demo --sae resid_post.1 --out pages/",
}


# -- what all of them do ---------------------------------------------------------------------------


def drawn_by(layout: str | None) -> Layout | None:
    """The layout that an option names: a ready one, or one in a file.

    Raises:
        UnknownName: no ready one of this name.
        FileFormatError: a file that is none.
    """
    from sae_circuits.dashboards.layout import Layout

    if layout is None:
        return None
    path = Path(layout)
    return Layout.load(path) if path.suffix == ".toml" else Layout.ready(layout)


def check_output(out: Path | None, *, as_json: bool, folder: bool = False) -> None:
    """See that what comes out has a place, before long work.

    Raises:
        OptionError: both a place and JSON to print, neither, or a file of another kind.
        OutputError: the place cannot be written.
    """
    from sae_circuits.disk.atomic import ready_folder

    if (out is None) != as_json:
        raise OptionError("give --out for a page, or --json to print the view: one of both")
    if out is None:
        return
    if folder:
        ready_folder(out)
    elif out.suffix not in (".html", ".json"):
        raise OptionError(
            f"--out {out} is no page: end the name in .html, or in .json for the view"
        )
    elif out.is_dir():
        raise OutputError(f"cannot write {str(out)!r}: it is a folder; name a file in it")
    elif not out.parent.is_dir():
        raise OutputError(
            f"cannot write {str(out)!r}: there is no folder {str(out.parent)!r}; make it first"
        )
    elif not os.access(out if out.exists() else out.parent, os.W_OK):
        raise OutputError(f"cannot write {str(out)!r}: permission denied")


def ids_of(features: FeatureDictionary, said: list[str] | None) -> list[int | str] | None:
    """Features that are asked for, by number or name; None for all that are not dead."""
    return [describe.asked(features, one) for one in said] if said else None


def asked_of(*, no_loss_effects: bool, ablation: bool, hover: int) -> dict[str, Any]:
    """Options of `FeatureView.build`; effects on the loss wherever they can be had, by default."""
    losses = False if no_loss_effects else None
    return {"loss_effects": losses, "ablation": ablation, "hover": hover}


def opened(
    store: Path,
    with_model: tuple[str | None, str | None, str | None, str | None, str],
    need_model: str | None = None,
    feature: list[str] | None = None,
) -> FeatureDictionary:
    """A store, with its model where the options name it; a wrong name is noticed before it is run.

    Args:
        with_model: `--model`, `--sae`, `--sae-id`, `--device` and `--dtype`.
        need_model: the option that needs the model.
        feature: what is asked for.

    Raises:
        OptionError: the model is needed and not given.
        UnknownName: no such feature.
        StoreError: no store, or one of another dictionary.
    """
    from sae_circuits.dashboards.build import asked_features
    from sae_circuits.features.dictionary import FeatureDictionary

    if need_model and with_model[0] is None:
        raise OptionError(f"{need_model} needs the model: give --model and --sae")
    found = FeatureDictionary.load(store)
    asked_features(found, ids_of(found, feature))
    if with_model[:2] == (None, None):
        return found
    found.database.close()
    return FeatureDictionary.load(store, *describe.with_dictionary(*with_model))


def put(view: Any, out: Path | None, layout: Layout | None, what: str) -> None:
    """Write a view's page, or the view itself; without a place, print it."""
    from sae_circuits.dashboards.view_file import text_of

    if out is None:
        typer.echo(text_of(view))
    elif out.suffix == ".json":
        told(view.save(out), what)
    else:
        told(view.render(out, layout=layout), what)


def told(path: Path, what: str) -> None:
    """Say what was written where."""
    size = f", {in_words(path.stat().st_size)}" if path.is_file() else ""
    typer.echo(f"{path}: {what}{size}")


def in_words(size: int) -> str:
    """A number of bytes as people read it.

    >>> in_words(999), in_words(61_500), in_words(2_500_000)
    ('999 bytes', '62 kB', '2.5 MB')
    """
    if size < 1000:
        return f"{size} bytes"
    return f"{size / 1e3:.0f} kB" if size < 1e6 else f"{size / 1e6:.1f} MB"
