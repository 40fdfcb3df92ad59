"""What the features of a cluster have in common, in the words of their stores.

A feature's words are those of its best label: what stands in quotes, or without quotes each word;
without a label they are the tokens on which it fires most often. A cluster is called by the label
that at least half of its labelled features have, or else by up to three words that are those of
more of its features than of the others': each of two features at least, and first those of which
the share within, less the share without, is largest.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from sae_circuits.connectome.links import part_of
from sae_circuits.errors import StoreError
from sae_circuits.features.dictionary import FeatureDictionary
from sae_circuits.features.labels.words import listed
from sae_circuits.features.sources import DictionarySource
from sae_circuits.graph import SourceRecord
from sae_circuits.graph.splits import PARTS

MOST = 3  # words of a cluster
TRANSCODED = {"mlp_normalized": "m", "mlp_in": "m"}  # a transcoder writes what its MLP does
TOKENS = 5  # tokens that stand for a label
_TOKENS = """SELECT feature, text FROM feature_tokens JOIN tokens USING (token)
    WHERE rank <= ? ORDER BY feature, rank"""
_QUOTED = re.compile(r"""(?<!\w)"([^"]+)"|(?<!\w)'([^']+)'""")


@dataclass(frozen=True)
class Said:
    """What is said of a feature: the whole of its label, if it has one, and its words."""

    text: str
    words: frozenset[str]


def said_by(store: FeatureDictionary) -> dict[int, Said]:
    """What a store says of its features, by number; of some it says nothing."""
    tokens: dict[int, set[str]] = {}
    for i, text in store.query(_TOKENS, [TOKENS]).itertuples(index=False):
        tokens.setdefault(int(i), set()).add(text.strip() or text)
    found = {i: Said("", frozenset(texts)) for i, texts in tokens.items()}
    for i, text in store.query("SELECT feature, text FROM best").itertuples(index=False):
        found[int(i)] = Said(text, words_of(text))
    return found


def words_of(label: str) -> frozenset[str]:
    """The words of a label.

    >>> sorted(words_of('the end of "lot of" or "year"')), sorted(words_of("a number"))
    (['lot of', 'year'], ['a', 'number'])
    """
    quoted = [_read(a or b.replace('"', '\\"')) for a, b in _QUOTED.findall(label)]
    return frozenset(quoted or re.findall(r"\w+", label))


def _read(said: str) -> str:
    """What `quoted` was given, or the text itself where something else wrote it."""
    try:
        return str(json.loads(f'"{said}"'))
    except ValueError:
        return said


def common_label(own: Sequence[Said], words: Counter[str], n: int) -> tuple[str, float]:
    """What a cluster is called, and the share of its features with one of its words, or that label.

    Args:
        own: what is said of the cluster's features.
        words: of how many features, of all of which something is said, each is a word.
        n: how many these are.

    >>> cat, dog = Said("", frozenset(["cat", "the"])), Said("", frozenset(["dog", "the"]))
    >>> common_label([cat, cat], Counter(cat=2, dog=2, the=4), 4)
    ('"cat"', 1.0)
    >>> common_label([cat, dog], Counter(cat=2, dog=2, the=4), 4)
    ('', 0.0)
    """
    texts = Counter(one.text for one in own if one.text)
    if texts:
        text, count = min(texts.items(), key=lambda item: (-item[1], item[0]))
        if count > 1 and 2 * count >= texts.total():
            return text, count / len(own)
    here = Counter(word for one in own for word in one.words)
    rest = max(n - len(own), 1)
    gains = {
        word: count / len(own) - (words[word] - count) / rest
        for word, count in here.items()
        if count > 1
    }
    best = sorted((word for word in gains if gains[word] > 0), key=lambda w: (-gains[w], w))[:MOST]
    share = sum(not one.words.isdisjoint(best) for one in own) / max(len(own), 1)
    return (listed(best) if best else ""), share


def place_of(store: FeatureDictionary) -> tuple[str, str]:
    """What the names of a store's features begin with, and the fingerprint of its dictionary.

    Raises:
        StoreError: a store of no dictionary, or one of which it is not known where it writes.
    """
    if isinstance(store.source, DictionarySource):
        dictionary = store.source.dictionary
        return part_of(SourceRecord.of(dictionary)), dictionary.fingerprint
    source = store.database.meta()["source"]
    if source["kind"] != "dictionary":
        raise StoreError(f"{store!r} describes {source['kind']}, and no dictionary's features")
    kind, _, layer = source["site"].partition(".")
    part = TRANSCODED.get(kind) or PARTS.get(kind)
    if part is None or kind == "resid_mid":  # of which an SAE writes there, and a transcoder not
        raise StoreError(
            f"what stands at {source['site']} may write elsewhere: load {store!r} with its model "
            "and dictionary, by FeatureDictionary.load(folder, model, sae)"
        )
    return f"{part}{layer}", source["dictionary_id"]


def part_in(dictionaries: Mapping[str, str], store: FeatureDictionary) -> str:
    """What the names of a store's features begin with, among those of some dictionaries.

    Args:
        dictionaries: their fingerprints, by what their features' names begin with.

    Raises:
        StoreError: a store of none of them.
    """
    known = store.database.meta()["source"].get("dictionary_id")
    for part, fingerprint in dictionaries.items():
        if fingerprint == known:
            return part
    there = ", ".join(sorted(dictionaries))
    raise StoreError(
        f"{store!r} is of none of the dictionaries that are clustered ({there}): build a store of "
        "one of these"
    )


def common_labels(
    names: Sequence[str],
    labels: Int64[np.ndarray, "feature"],
    n: int,
    stores: Mapping[str, FeatureDictionary],
) -> list[tuple[str, float]]:
    """What the features of each of n clusters have in common, and the share that have it.

    Args:
        names: of the features.
        labels: the cluster of each, -1 for none.
        stores: by what the names of their features begin with.
    """
    every = {
        f"{part}.f{i}": said for part, store in stores.items() for i, said in said_by(store).items()
    }
    known = [
        (i, every[name]) for i, name in zip(labels.tolist(), names, strict=True) if name in every
    ]
    words = Counter(word for _, said in known for word in said.words)
    found = []
    for number in range(n):
        own = [said for i, said in known if i == number]
        found.append(common_label(own, words, len(known)) if own else ("", float("nan")))
    return found
