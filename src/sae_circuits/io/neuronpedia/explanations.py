"""Explanations of features as Neuronpedia exports them.

Its interface gives a JSON list, and its data sets `explanations/batch-0.jsonl.gz` with one object a
line; a feature's own page nests such objects under "explanations". Each is

    {"modelId": "gemma-2-2b", "layer": "20-gemmascope-res-16k", "index": "10956",
     "description": "...", "explanationModelName": "gpt-4o-mini", "typeName": "oai_token-act-pair"}

where `layer` is the name of a dictionary, `index` the feature, as a string or as a number, and
fields that are not named here are passed over.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sae_circuits.errors import FileFormatError
from sae_circuits.io.files import bytes_of, strict_json

NESTED = "explanations"


@dataclass(frozen=True)
class Explanation:
    """What somebody or some model has said of a feature.

    Args:
        feature: its id.
        text: what was said.
        model, source: whose feature it is: `modelId` and `layer` of Neuronpedia.
        by: the model that said it, or "".
        kind: how it came about, or "".
    """

    feature: int
    text: str
    model: str
    source: str
    by: str = ""
    kind: str = ""


def read_explanations(path: str | Path) -> list[Explanation]:
    """Read a file of explanations: `.json` or `.jsonl`, as it is or with `.gz`.

    Objects without a description are left out: Neuronpedia has some.

    Raises:
        FileFormatError: a file of another kind, with the line or object that is wrong.
    """
    path = Path(path)
    data = bytes_of(path)
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise FileFormatError(f"{str(path)!r} is a damaged or truncated gzip file") from error
    if ".jsonl" in path.suffixes:
        return explanations_of(_lines(path, data), str(path))
    return explanations_of(strict_json(path, data), str(path))


def explanations_of(document: Any, name: str = "explanations") -> list[Explanation]:
    """The explanations in what JSON gave: a list of them, or an object that holds such a list.

    Raises:
        FileFormatError: another form, with the object that is wrong.
    """
    if isinstance(document, Mapping) and NESTED in document:
        document = [document] if "modelId" in document else document[NESTED]
    if not isinstance(document, Iterable) or isinstance(document, str | Mapping):
        raise FileFormatError(
            f"{name!r} holds no list of explanations in Neuronpedia's form: objects with "
            "'modelId', 'layer', 'index' and 'description'"
        )
    found = []
    for i, one in enumerate(document):
        for each in _flat(one):
            try:
                explanation = _explanation(each)
            except (KeyError, TypeError, ValueError) as error:
                raise FileFormatError(
                    f"{name!r}: object {i} is no explanation of Neuronpedia's: {error}"
                ) from error
            if explanation.text:
                found.append(explanation)
    return found


def _flat(one: Any) -> Iterable[Any]:
    """An explanation, or those that a feature's page nests."""
    nested = isinstance(one, Mapping) and isinstance(one.get(NESTED), list)
    return [{**one, **each} for each in one[NESTED]] if nested else [one]


def _explanation(one: Any) -> Explanation:
    if not isinstance(one, Mapping):
        raise TypeError(f"{one!r:.80} is no object")
    for name in ("modelId", "layer", "index", "description"):
        if name not in one:
            raise KeyError(f"it lacks {name!r}")
    index, text = one["index"], one["description"]
    if isinstance(index, bool) or not str(index).isdecimal():
        raise ValueError(f"its index is {index!r}, and no number from 0 on")
    if text is not None and not isinstance(text, str):
        raise TypeError(f"its description is {text!r:.80}, and no text")
    return Explanation(
        int(index),
        (text or "").strip(),
        str(one["modelId"]),
        str(one["layer"]),
        str(one.get("explanationModelName") or ""),
        str(one.get("typeName") or ""),
    )


def _lines(path: Path, data: bytes) -> list[Any]:
    found = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        try:
            if line.strip():
                found.append(json.loads(line))
        except ValueError as error:  # of JSON, or of UTF-8
            raise FileFormatError(f"{str(path)!r}, line {number}: no JSON: {error}") from error
    return found
