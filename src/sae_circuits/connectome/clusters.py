"""`cluster`: features alike in what they write, in when they fire, or in whom they connect with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64

from sae_circuits._version import __version__
from sae_circuits.connectome.common_labels import common_labels, part_in, place_of
from sae_circuits.connectome.likeness import ByActivity, ByConnections, ByDecoder, Likeness
from sae_circuits.connectome.links import Links, Scored, links_of, part_of
from sae_circuits.connectome.partition import METHODS, How, Neighbourhood, stability
from sae_circuits.errors import GraphError, OptionError, StoreError, unknown
from sae_circuits.features.asked import check_k, require_features
from sae_circuits.features.decoders import unit_rows
from sae_circuits.features.dictionary import FeatureDictionary
from sae_circuits.features.measures import require_measures
from sae_circuits.features.nearest import at_once_in
from sae_circuits.features.numerics.density import require_hdbscan
from sae_circuits.features.sources import DictionarySource
from sae_circuits.graph import Provenance, SourceRecord
from sae_circuits.graph.clusters import Clusters
from sae_circuits.models.dictionaries import Dictionary
from sae_circuits.sizes import Memory, in_bytes

KINDS = ("decoder", "co-activation", "connections")


def cluster(
    of: Dictionary | FeatureDictionary | Scored | Sequence[Scored],
    by: str,
    *,
    method: str = "louvain",
    k: int = 10,
    min_size: int = 4,
    resolution: float = 1.0,
    measure: str = "jaccard",
    features: Sequence[int | str] | str | None = None,
    scores: Scored | Sequence[Scored] | None = None,
    stores: Sequence[FeatureDictionary] = (),
    repeats: int = 10,
    seed: int = 0,
    memory: Memory = 1 << 30,
) -> Clusters:
    """Put features into clusters of those that are alike.

    Each feature is joined with the k that are most like it, as far as likeness is above 0, and
    clusters are found in that graph. How alike two features are:

    - by "decoder", the cosine of their decoder rows;
    - by "co-activation", a measure of their activations on a store's counted tokens;
    - by "connections", the cosine of their profiles: the values of all connections into a feature,
      as one vector of length 1, and those of all out of it, as another; signs count. A pair that
      has no value counts as 0.

    A cluster's stability says how far it is found again where the same is done with half of the
    data: half of the prompts by "co-activation", half of the partners by "connections", and half of
    the features by "decoder", where `k` and `min_size` are halved, too. It is the mean over samples
    of the largest Jaccard index with a cluster there.

    Args:
        of: by "decoder", a dictionary, or a store that was loaded with its model and dictionary; by
            "co-activation", a store with its activations; by "connections", `PairScores`,
            `VirtualWeights`, or `Connections` of several targets, or several of these.
        by: "decoder", "co-activation" or "connections".
        method: "louvain", or "hdbscan" at distances of 1 - likeness, which needs scikit-learn.
        k: neighbours of each feature.
        min_size: features in fewer than so many are in no cluster; 2 at least.
        resolution: of Louvain; above 1 for more and smaller clusters.
        measure: by "co-activation", "jaccard", "pearson" or "cosine".
        features: only these: numbers of one dictionary, or names such as "m3.f17"; or, by
            "connections", the name of the one dictionary whose features to take, such as "m3".
        scores: connections of which the clusters' shares are told; by "connections" those that
            cluster, unless others are given.
        stores: of the dictionaries, for what the features of a cluster have in common; beside `of`.
        repeats: samples for the stability; 0 for none.
        seed: of Louvain and of samples.
        memory: what finding neighbours may take, such as "4GiB"; the results do not depend on it.

    Raises:
        OptionError: what cannot be clustered by this; a number out of its range; an option of
            another kind or method; no features.
        UnknownName: a kind, method, measure or feature that is not there.
        StoreError: a store of another dictionary, or without what is needed.
        GraphError: scores of another dictionary.
        DictionaryError: decoder rows that are not finite.
        MissingProgram: "hdbscan" without scikit-learn.

    References: arXiv 0803.0476 (Louvain); Hennig, C., Computational Statistics & Data Analysis 52
    (2007) 258 (stability).

    >>> import sae_circuits as sc
    >>> model, saes = sc.load_model("demo"), sc.load_saes("demo", ["resid_post.0", "transcoder.2"])
    >>> weights = sc.virtual_weights(model, *saes, k=10)
    >>> found = sc.cluster(saes[0], "decoder", scores=weights, repeats=2)
    >>> found.by, len(found) > 1, round(float(found.shares("out").sum()), 6)
    ('decoder', True, 1.0)
    """
    how = _how(by, method, k, min_size, resolution, measure, repeats, seed)
    subject = _subject(of, by, measure, features, at_once_in(in_bytes(memory)))
    links = subject.links if scores is None else links_of(scores)
    if links is not None:
        _require_of(subject, links)
    given = [of, *stores] if isinstance(of, FeatureDictionary) else list(stores)
    placed = {part_in(subject.dictionaries, store): store for store in given}
    graph = Neighbourhood.of(subject.likeness, how.k)
    labels = graph.clusters(how)
    n = int(labels.max(initial=-1)) + 1
    group = np.where(labels < 0, n, labels)
    weights, sizes = (None, None) if links is None else links.among(subject.names, group, n + 2)
    common = common_labels(subject.names, labels, n, placed)
    options = {**asdict(how), "repeats": repeats}
    if by == "co-activation":
        options["measure"] = measure
    return Clusters(
        names=subject.names,
        member_of=torch.from_numpy(labels),
        typicality=torch.from_numpy(_typicality(subject.likeness, labels, n)),
        stability=torch.from_numpy(stability(subject.likeness, labels, how, repeats, seed)),
        common=tuple(text for text, _ in common),
        common_shares=torch.tensor([share for _, share in common], dtype=torch.float64),
        neighbours=torch.from_numpy(graph.shares(group, n + 1)),
        weights=weights,
        sizes=sizes,
        by=by,
        method=method,
        provenance=Provenance(
            method=f"{method} by {by}", seed=seed, version=__version__, options=options
        ),
    )


# -- what is asked for -----------------------------------------------------------------------------


def _how(
    by: str,
    method: str,
    k: int,
    min_size: int,
    resolution: float,
    measure: str,
    repeats: int,
    seed: int,
) -> How:
    """See `cluster`."""
    if by not in KINDS:
        raise unknown("kind of likeness", by, KINDS)
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    check_k(k)
    if min_size < 2:
        raise OptionError(f"min_size is {min_size}: a cluster has 2 features at least")
    require_measures([measure])
    if measure != "jaccard" and by != "co-activation":
        raise OptionError(f"measure={measure!r} goes with by='co-activation', and not {by!r}")
    if not 0 < resolution < float("inf"):
        raise OptionError(f"resolution is {resolution}: give a number above 0")
    if resolution != 1.0 and method != "louvain":
        raise OptionError(f"resolution={resolution} goes with method='louvain', not {method!r}")
    if repeats < 0:
        raise OptionError(f"repeats is {repeats}: give how many samples to draw, or 0 for none")
    if method == "hdbscan":
        require_hdbscan()
    return How(method, k, min_size, resolution, seed)


@dataclass(frozen=True, eq=False)
class Subject:
    """What is clustered.

    Args:
        names: of the features.
        dictionaries: the fingerprint of each, by what its features' names begin with.
        links: by "connections", these.
    """

    names: tuple[str, ...]
    likeness: Likeness
    dictionaries: Mapping[str, str]
    links: Links | None = None


def _subject(of: Any, by: str, measure: str, features: Any, at_once: int) -> Subject:
    """See `cluster`."""
    if by == "connections":
        if isinstance(of, Dictionary | FeatureDictionary):
            raise OptionError(f"{of!r} has no connections: give PairScores or VirtualWeights")
        return _connected(links_of(of), features, at_once)
    if by == "co-activation":
        if not isinstance(of, FeatureDictionary):
            raise OptionError(
                f"{type(of).__name__} has no activations: give a FeatureDictionary, or take "
                f"by={'decoder' if isinstance(of, Dictionary) else 'connections'!r}"
            )
        activity, (part, known) = of.activations, place_of(of)
        ids = _ids(features, part, activity.n_features)
        names = tuple(f"{part}.f{i}" for i in ids.tolist())
        return Subject(names, ByActivity(activity, ids, measure, at_once), {part: known})
    dictionary = _dictionary(of)
    part = part_of(SourceRecord.of(dictionary))
    ids = _ids(features, part, dictionary.n_features)
    units = unit_rows(torch.cat([rows.detach().double().cpu() for rows in dictionary.decoders], 1))
    names = tuple(f"{part}.f{i}" for i in ids.tolist())
    return Subject(names, ByDecoder(units[ids]), {part: dictionary.fingerprint})


def _dictionary(of: Any) -> Dictionary:
    if isinstance(of, FeatureDictionary):
        if not isinstance(of.source, DictionarySource):
            raise StoreError(
                f"{of!r} holds no decoders: load it with its model and dictionary, by "
                "FeatureDictionary.load(folder, model, sae), or give the dictionary"
            )
        return of.source.dictionary
    if not isinstance(of, Dictionary):
        raise OptionError(f"{type(of).__name__} has no decoders: give one of load_saes(...)")
    return of


def _connected(links: Links, features: Any, at_once: int) -> Subject:
    names = links.names
    if isinstance(features, str):
        if features not in links.dictionaries:
            raise unknown("dictionary with connections", features, links.dictionaries)
        names = tuple(name for name in names if name.startswith(f"{features}.f"))
    elif features is not None:
        wanted = {str(name) for name in features}
        for name in sorted(wanted.difference(names)):
            raise unknown("feature with connections", name, names)
        names = tuple(name for name in names if name in wanted)
    if not names:
        raise OptionError("no feature is asked for: name one or more, or None for all")
    likeness = ByConnections(links.profiles(names), len(links.names), at_once)
    return Subject(names, likeness, links.dictionaries, links)


def _ids(features: Any, part: str, n: int) -> Int64[np.ndarray, "feature"]:
    """Numbers of features, ascending, of numbers or names."""
    if features is None:
        return np.arange(n)
    if isinstance(features, str):
        raise OptionError(f"features={features!r}: name one or more, as in ['{part}.f17']")
    numbers = []
    for one in features:
        own, _, number = str(one).rpartition(".f")
        if isinstance(one, str) and (own != part or not number.isdecimal()):
            raise OptionError(f"{one!r} is no feature of {part!r}: name it like '{part}.f17'")
        numbers.append(int(number) if isinstance(one, str) else one)
    if not numbers:
        raise OptionError("no feature is asked for: give one or more, or None for all")
    return np.sort(require_features(numbers, n))


def _require_of(subject: Subject, links: Links) -> None:
    """Refuse scores of other dictionaries."""
    for part, known in links.dictionaries.items():
        if subject.dictionaries.get(part, known) != known:
            raise GraphError(
                f"the scores are of another dictionary at {part} than the features: score it anew"
            )
    if set(subject.names).isdisjoint(links.names):
        raise GraphError(
            f"the scores are of {', '.join(sorted(links.dictionaries))}, and none leads to or from "
            f"a feature of {', '.join(sorted(subject.dictionaries))}"
        )


def _typicality(
    likeness: Likeness, labels: Int64[np.ndarray, "feature"], n: int
) -> Float64[np.ndarray, "feature"]:
    """Each feature's mean likeness to the others of its cluster."""
    found = np.zeros(len(labels))
    for number in range(n):
        members = np.flatnonzero(labels == number)
        found[members] = likeness.within(members)
    return found
