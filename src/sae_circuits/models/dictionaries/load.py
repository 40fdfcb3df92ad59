"""Dictionaries by name: the bundled ones, a folder's, a release's, or those already held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sae_circuits.errors import DictionaryError, OptionError, unknown
from sae_circuits.models.dictionaries.cross_layer import is_cross_layer, read_cross_layer
from sae_circuits.models.dictionaries.dictionary import Dictionary
from sae_circuits.models.dictionaries.sae_lens import fetch, from_sae_lens, read_folder
from sae_circuits.models.load import demo_path
from sae_circuits.models.places import as_device, as_dtype

KINDS = ("sae", "transcoder", "skip-transcoder")
CONFIG = "cfg.json"  # what marks a folder of sae-lens
SECOND = "-"  # in the name of a bundled dictionary at a site that has one already


def load_saes(
    source: Any,
    ids: str | Sequence[str] | None = None,
    *,
    kind: str | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str | None = None,
) -> list[Dictionary]:
    """Load dictionaries, or view those that are passed.

    Args:
        source: `"demo"`, which is bundled; a folder that sae-lens wrote, or a folder of such; a
            folder with a cross-layer transcoder in circuit-tracer's layout; a release that
            sae-lens knows, with `ids`; or an SAE already held, or several.
        ids: one or several, of a release; or names of the folders to take, such as
            `["z.0", "mlp_out.0"]`. Two sites of the bundled model have a second SAE of another
            architecture, which comes by its name only: a graph takes one dictionary at a site:
            `["mlp_out.1-jumprelu"]` and `["resid_post.1-jumprelu"]`.
        kind: keep only "sae", "transcoder" or "skip-transcoder"; by default SAEs of the bundled
            set, where no ids are given, and all elsewhere.
        device: where to put them.
        dtype: what to convert them to; by default float32 for the bundled ones and for releases,
            and as saved elsewhere.

    Raises:
        DictionaryError: no dictionary there, or none of that kind; a class without a closed form;
            damaged weights.
        UnknownName: an id that a folder does not have.
        OptionError: there is no such device.
        FileFormatError: a cross-layer transcoder with a file missing or damaged.

    Example:
        >>> import sae_circuits as sc
        >>> sc.load_saes("demo", ["mlp_out.0"])
        [Dictionary('mlp_out.0': 256 features, mlp_out.0)]
        >>> sc.load_saes("demo", ["resid_post.1", "resid_post.1-jumprelu"])[1]
        Dictionary('resid_post.1-jumprelu': 256 features, resid_post.1)
    """
    ids = [ids] if isinstance(ids, str) else ids
    device, dtype = as_device(device) or "cpu", as_dtype(dtype)
    if not isinstance(source, str | Path):
        held = source if isinstance(source, list | tuple) else [source]
        found = [d if isinstance(d, Dictionary) else from_sae_lens(d) for d in held]
        return _of_kind([d.to(device, dtype) for d in found], kind)
    if source == "demo":
        bundled = demo_path() / "saes"
        if ids is None:
            ids, kind = [name for name in _within(bundled) if SECOND not in name], kind or "sae"
        return _of_kind(_from_folder(bundled, ids, str(device), dtype or torch.float32), kind)
    folder = Path(source)
    if is_cross_layer(folder):
        return read_cross_layer(folder, device=str(device), dtype=dtype)
    if folder.is_dir():
        return _of_kind(_from_folder(folder, ids, str(device), dtype), kind)
    if ids is None:
        raise DictionaryError(
            f"{str(source)!r} is no folder; for a release of sae-lens give ids as well, such as "
            "load_saes('gpt2-small-res-jb', ['blocks.8.hook_resid_pre'])"
        )
    return _of_kind([fetch(str(source), i, str(device), dtype) for i in ids], kind)


def _from_folder(
    folder: Path, ids: Sequence[str] | None, device: str, dtype: torch.dtype | None
) -> list[Dictionary]:
    if (folder / CONFIG).exists():
        return [read_folder(folder, device, dtype)]
    known = _within(folder)
    if not known:
        raise DictionaryError(f"no dictionary in {folder}: no {CONFIG} there or one level below")
    if missing := [name for name in ids or () if name not in known]:
        raise unknown(f"dictionary in {folder}", missing[0], known)
    chosen = known if ids is None else ids
    return [replace(read_folder(known[name], device, dtype), name=name) for name in chosen]


def _within(folder: Path) -> dict[str, Path]:
    return {path.parent.name: path.parent for path in sorted(folder.glob(f"*/{CONFIG}"))}


def _of_kind(found: list[Dictionary], kind: str | None) -> list[Dictionary]:
    if kind is None:
        return found
    if kind not in KINDS:
        raise OptionError(f"unknown kind {kind!r}: {', '.join(map(repr, KINDS))}")

    def kind_of(d: Dictionary) -> str:
        return "sae" if d.is_sae else "transcoder" if d.W_skip is None else "skip-transcoder"

    chosen = [d for d in found if kind_of(d) == kind]
    if found and not chosen:
        kinds = ", ".join(sorted({repr(kind_of(d)) for d in found}))
        raise DictionaryError(f"none of {len(found)} dictionaries is of kind {kind!r}, but {kinds}")
    return chosen
