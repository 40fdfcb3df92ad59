"""`render_index`: thousands of features as a page with a table, and files of data beside it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_circuits._version import __version__
from sae_circuits.dashboards.blocks import DATA, NAME, Block, key_of, left_over, planned
from sae_circuits.dashboards.build import about, asked_features
from sae_circuits.dashboards.layout import Layout
from sae_circuits.dashboards.model_effects import Model, Options
from sae_circuits.dashboards.page import (
    SCRIPTS,
    dashboard_page,
    index_columns,
    layout_data,
    others_data,
)
from sae_circuits.dashboards.pages_job import PageFolder, PagesJob, shards_of_files
from sae_circuits.dashboards.places import link_data
from sae_circuits.dashboards.profile import Profile
from sae_circuits.dashboards.view_file import made_of
from sae_circuits.disk.atomic import ready_folder, write_whole
from sae_circuits.errors import OutputError
from sae_circuits.shards import Shard, Workers, keep_shards

if TYPE_CHECKING:
    from sae_circuits.features.dictionary import FeatureDictionary

PAGE = "index.html"
ALL_SCRIPTS = (*SCRIPTS[:-1], "blocks", SCRIPTS[-1])
OURS = b'data-name="blocks"'  # in every page that this module writes


def render_index(
    features: FeatureDictionary,
    folder: str | Path,
    ids: Sequence[int | str] | None = None,
    *,
    block: int = 64,
    layout: Layout | str | None = None,
    title: str | None = None,
    links: Mapping[str, str] | None = None,
    one_file: bool = False,
    workers: Workers | None = None,
    **options: Any,
) -> Path:
    """Write a page of many features: a table to search and sort, and each feature's panels.

    `folder/index.html` has the table, and `folder/data/00000.js`, ... the features, of which the
    page reads a file when one of its features is first shown. The same call goes on where a run
    was stopped, with the same bytes at the end; another store, other features or other options
    make all of it anew.

    Args:
        features: of a dictionary, on a corpus; with its model for what needs it.
        folder: made where needed; nothing else may be in it.
        ids: ids or names; by default of all that are not dead.
        block: how many features a file of data holds.
        layout: of each feature's page: a layout, or the name of a ready one.
        title: of the page.
        links: by place or name of another dictionary, such as "m0" or "mlp_out.0", the address of
            a page of its features, as from the page that is made.
        one_file: all in index.html, and no files of data in the end.
        workers: what makes the files of data (see `sae_circuits.workers`); this process by
            default. They are the same, byte for byte. Each worker opens the store in its folder.
        options: of `FeatureView.build`.

    Returns:
        The path of the page.

    Raises:
        UnknownName: no such feature or layout.
        OptionError: an option that cannot be.
        OutputError: the folder has something else in it, or cannot be written.
        ShardError: some files cannot be made; the others are kept.

    Example:
        >>> import sae_circuits as sc
        >>> model, (sae,) = sc.load_model("demo"), sc.load_saes("demo", ["mlp_out.1"])
        >>> features = sc.FeatureDictionary.build(model, sae, sc.demo_corpus(2000))
        >>> page = sc.render_index(features, getfixture("tmp_path"), range(20), block=8)
        >>> sorted(path.name for path in (page.parent / "data").iterdir())
        ['00000.js', '00001.js', '00002.js']
    """
    folder, drawn = Path(folder), layout_data(layout)
    decides = {"store": store_hash(features), "model": features.source is not None}
    decides |= {"options": options, "title": title, "version": __version__}
    blocks = planned(asked_features(features, ids), block, decides)
    places = _places(features, links)
    key = key_of([[block.key for block in blocks], drawn, one_file, places])
    _check(folder)
    page = folder / PAGE
    if _held_key(page) == key and (one_file or all(one.finished(folder) for one in blocks)):
        return page
    page.unlink(missing_ok=True)  # a page never stands beside another page's data
    for path in left_over(folder, blocks):
        path.unlink()
    _write(folder, shards_of_files(blocks, block), features, Options(**options), workers)
    marks = [] if one_file else [one.mark for one in blocks]
    table = _table(folder, blocks, every_text=one_file)
    data = {
        **drawn,
        **table,
        **others_data(places),
        "blocks": {"key": key, "size": block, "keys": marks},
    }
    inside = _profiles(folder, blocks) if one_file else ()
    write_whole(page, dashboard_page(about(features, title), data, inside, scripts=ALL_SCRIPTS))
    if one_file:
        shutil.rmtree(folder / DATA)
    return page


def _places(
    features: FeatureDictionary, links: Mapping[str, str] | None
) -> dict[str, dict[str, str]]:
    related = features.database.meta()["related"]
    return link_data(links, own=features.neuronpedia, among=sorted(related))


def store_hash(features: FeatureDictionary) -> str:
    """A hash of all that a store says, labels too."""
    digest = hashlib.sha256()
    with open(features.database.path, "rb") as file:
        while some := file.read(1 << 20):
            digest.update(some)
    return digest.hexdigest()


def _check(folder: Path) -> None:
    """See that the folder is there, and has nothing in it that is not ours.

    Raises:
        OutputError: it has, or it cannot be written.
    """
    ready_folder(folder)
    inside = ready_folder(folder / DATA)
    foreign = [
        p for p in folder.iterdir() if not p.name.startswith(".") and p.name not in (PAGE, DATA)
    ]
    foreign += [
        p for p in inside.iterdir() if not p.name.startswith(".") and not NAME.fullmatch(p.name)
    ]
    page = folder / PAGE
    if page.exists() and OURS not in page.read_bytes():
        foreign.append(page)
    if foreign:
        raise OutputError(
            f"{str(foreign[0])!r} is not of a page of features, and others' files are left alone: "
            "choose another folder"
        )


def _write(
    folder: Path,
    shards: Sequence[Shard],
    features: FeatureDictionary,
    options: Options,
    workers: Workers | None,
) -> None:
    """Write the files of data that are not there yet."""
    Model.of(features, options)  # what cannot be had is refused here
    keep_shards(PagesJob.of(features, options), shards, PageFolder(folder), workers)


def _read(folder: Path, blocks: Sequence[Block]) -> Iterator[dict[str, Any]]:
    for block in blocks:
        said = block.read(folder)
        if said is None:
            raise OutputError(
                f"{str(folder / block.name)!r} was changed while the page was being made: make it "
                "again"
            )
        yield said


def _table(folder: Path, blocks: Sequence[Block], *, every_text: bool) -> dict[str, Any]:
    """What the table of all features shows and searches.

    Args:
        every_text: of tokens that features show, too.
    """
    index: dict[str, list[Any]] = index_columns(())
    texts: dict[str, str] = {}
    for said in _read(folder, blocks):
        for name, column in said["index"].items():
            index[name].extend(column)
        searched = {str(token) for tokens in said["index"]["tokens"] for token in tokens}
        texts |= {t: text for t, text in said["texts"].items() if every_text or t in searched}
    return {"index": index, "texts": dict(sorted(texts.items(), key=lambda item: int(item[0])))}


def _profiles(folder: Path, blocks: Sequence[Block]) -> Iterator[Profile]:
    for said in _read(folder, blocks):
        for one in said["profiles"].values():
            yield made_of(Profile, one)


def _held_key(page: Path) -> str | None:
    """The key of a page that is there."""
    if not page.exists():
        return None
    _, _, after = page.read_bytes().partition(OURS + b'>{"key":"')
    return after.partition(b'"')[0].decode("ascii", "replace")
