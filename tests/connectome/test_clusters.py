"""Clusters where they are planted, against dense references, and refused where nothing fits."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import sae_circuits as sc
from sae_circuits.connectome.clusters import cluster
from sae_circuits.connectome.links import links_of
from sae_circuits.errors import (
    DictionaryError,
    GraphError,
    MissingProgram,
    NumericalError,
    OptionError,
    StoreError,
    UnknownName,
)
from sae_circuits.features.sources import HeldSource
from sae_circuits.graph import Provenance, SourceRecord, VirtualWeights
from sae_circuits.models.dictionaries import Dictionary, Site
from sae_circuits.models.dictionaries.gates import relu
from small_stores import planted as held_store

SIZES = (30, 20, 10)
BLOCKS = np.repeat(np.arange(len(SIZES)), SIZES)


def dictionary(rows: torch.Tensor, site: str = "resid_post", layer: int = 0) -> Dictionary:
    """One that writes these rows."""
    n, width = rows.shape
    where, zero = Site(site, layer), torch.zeros
    return Dictionary(
        f"{site}.{layer}", where, (where,), rows.T.clone(), zero(n), (rows,), zero(width), relu,
    )  # fmt: skip


def blocks(noise: float = 0.2, width: int = 40, sizes=SIZES) -> torch.Tensor:
    """Rows near to one direction for each block."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.linalg.qr(torch.randn(width, len(sizes), generator=generator)).Q.T
    drawn = torch.randn(sum(sizes), width, generator=generator) / width**0.5
    return centres[np.repeat(np.arange(len(sizes)), sizes)] + noise * drawn


def weights_of(W: torch.Tensor, source: int = 0, target: int = 2) -> VirtualWeights:
    """A table that lists all of W [source, target]."""
    n, m = W.shape
    records = [
        SourceRecord(f"s{i}", f"resid_post.{i}", (f"resid_post.{i}",), size, f"id{i}")
        for i, size in ((source, n), (target, m))
    ]

    def listed(table: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ids = torch.arange(table.shape[1]).expand(table.shape).clone()
        ids[table == 0] = -1
        return ids, table.clone()

    into, of = listed(W.T), listed(W)
    return VirtualWeights(*records, None, torch.arange(m), *into, *of, Provenance())


def two_blocks(sign: float = 0.0) -> torch.Tensor:
    """Weights of 20 sources on 16 targets: the first ten drive the first eight, and so on.

    With a sign, both halves drive the same targets, the second with that sign.
    """
    generator = torch.Generator().manual_seed(0)
    W = 0.05 * torch.randn(20, 16, generator=generator)
    if sign:
        pattern = torch.randn(16, generator=generator)
        W[:10] += pattern
        W[10:] += sign * pattern
    else:
        W[:10, :8] += 1
        W[10:, 8:] += 1
    return W


@pytest.fixture(scope="module")
def store() -> sc.FeatureDictionary:
    model, (sae,) = sc.load_model("demo"), sc.load_saes("demo", ["mlp_out.1"])
    return sc.FeatureDictionary.build(model, sae, sc.demo_corpus(3000))


# -- what is planted is found ---------------------------------------------------------------------


@pytest.mark.parametrize("method", ["louvain", "hdbscan"])
def test_blocks_of_directions_are_found_and_are_stable(method):
    if method == "hdbscan":
        pytest.importorskip("sklearn")
    found = cluster(dictionary(blocks()), "decoder", method=method, k=8, repeats=5)
    assert found.member_of.tolist() == BLOCKS.tolist()
    assert found.stability.tolist() == pytest.approx([1.0, 1.0, 1.0])
    assert torch.allclose(found.neighbours[:3, :3], torch.eye(3, dtype=torch.float64))


def test_samples_in_which_too_little_of_a_cluster_is_left_do_not_count():
    rows = torch.eye(2).repeat_interleave(2, 0)  # two pairs: half of the features seldom hold one
    found = cluster(dictionary(rows), "decoder", k=2, min_size=2, repeats=20)
    assert found.stability.tolist() == [1.0, 1.0]
    one = cluster(dictionary(rows), "decoder", k=2, min_size=2, features=[0, 1], repeats=3)
    assert bool(one.stability.isnan().all())


def test_directions_of_noise_make_no_stable_clusters():
    generator = torch.Generator().manual_seed(1)
    found = cluster(dictionary(torch.randn(90, 40, generator=generator)), "decoder", repeats=10)
    assert len(found) > 1
    assert float(found.stability.max()) < 0.6


@pytest.mark.parametrize("method", ["louvain", "hdbscan"])
def test_blocks_of_connections_are_found(method):
    if method == "hdbscan":
        pytest.importorskip("sklearn")
    weights = weights_of(two_blocks())
    sources = cluster(weights, "connections", method=method, features="post0", repeats=5)
    assert sources.member_of.tolist() == [0] * 10 + [1] * 10
    assert float(sources.stability.min()) > 0.95
    both = cluster(weights, "connections", k=5, repeats=0)
    assert [set(both.members(i)) for i in range(4)] == [
        {f"post0.f{i}" for i in range(10)}, {f"post0.f{i}" for i in range(10, 20)},
        {f"post2.f{i}" for i in range(8)}, {f"post2.f{i}" for i in range(8, 16)},
    ]  # fmt: skip


def test_connections_of_other_sign_are_not_alike():
    for sign, n in ((1.0, 1), (-1.0, 2)):
        found = cluster(weights_of(two_blocks(sign)), "connections", features="post0", k=19)
        assert len(found) == n
    assert found.member_of.tolist() == [0] * 10 + [1] * 10


def test_what_goes_together_in_a_store_is_found():
    """Features that are active on the tokens of one half of the vocabulary, or of the other."""
    from activity import small_corpus

    rng = np.random.default_rng(0)
    corpus = small_corpus([20] * 12, n_vocab=8)
    which = (corpus.tokens[:, None] < 4) == (np.arange(12) < 6)
    held = torch.from_numpy((which & (rng.random(which.shape) < 0.8)).astype(np.float32))
    made = sc.FeatureDictionary.build(None, HeldSource(held), corpus)
    with pytest.raises(StoreError, match="no dictionary's features"):
        cluster(made, "co-activation")
    from sae_circuits.connectome.likeness import ByActivity
    from sae_circuits.connectome.partition import How, Neighbourhood, stability

    for measure in ("jaccard", "pearson", "cosine"):
        likeness = ByActivity(made.activations, np.arange(12), measure, 1 << 20)
        how = How("louvain", 4, 4, 1.0, 0)
        labels = Neighbourhood.of(likeness, 4).clusters(how)
        assert labels.tolist() == [0] * 6 + [1] * 6
        assert stability(likeness, labels, how, 5, 0).tolist() == [1.0, 1.0]


def test_features_in_another_order_are_in_the_same_clusters():
    rows, order = blocks(), torch.randperm(60, generator=torch.Generator().manual_seed(3))
    found = cluster(dictionary(rows), "decoder", repeats=0)
    moved = cluster(dictionary(rows[order]), "decoder", repeats=0)
    assert moved.member_of.tolist() == found.member_of[order].tolist()
    torch.testing.assert_close(moved.typicality, found.typicality[order])


def test_the_seed_decides_and_tiles_do_not(monkeypatch, store):
    options = {"by": "decoder", "repeats": 3}
    first = cluster(dictionary(blocks(1.5)), **options)
    monkeypatch.setattr("sae_circuits.features.decoders.TILE", 7)
    again = cluster(dictionary(blocks(1.5)), **options)
    by_store = [cluster(store, "co-activation", repeats=2, memory=m) for m in (1 << 16, 1 << 30)]
    monkeypatch.setattr("sae_circuits.connectome.likeness.CELLS", 1000)
    by_store.append(cluster(store, "co-activation", repeats=2))
    for a, b in ((first, again), by_store[:2], by_store[1:]):
        assert a.member_of.equal(b.member_of)
        assert a.stability.equal(b.stability)
        torch.testing.assert_close(a.typicality, b.typicality, rtol=1e-12, atol=1e-12)
    assert not cluster(dictionary(blocks(1.5)), **options, seed=1).stability.equal(first.stability)


def test_what_is_too_small_or_like_nothing_is_in_no_cluster():
    rows = torch.cat([blocks(0.1, sizes=(8, 3)), torch.zeros(1, 40)])
    found = cluster(dictionary(rows), "decoder", k=3, repeats=2)
    assert found.member_of.tolist() == [0] * 8 + [-1] * 4
    assert found.unclustered == [f"post0.f{i}" for i in range(8, 12)]
    assert found["post0.f3"] == 0
    assert found["post0.f11"] is None
    assert not found.typicality[8:].any()
    none = cluster(dictionary(rows), "decoder", k=3, min_size=9)
    assert (len(none), none.members, len(none.stability)) == (0, none.members, 0)
    with pytest.raises(UnknownName, match="no cluster 0: there is none"):
        none.members(0)


@pytest.mark.parametrize("method", ["louvain", "hdbscan"])
def test_features_that_are_like_none_make_no_cluster(method):
    if method == "hdbscan":
        pytest.importorskip("sklearn")
    found = cluster(dictionary(torch.eye(6)), "decoder", method=method, repeats=1)
    assert found.unclustered == list(found.names)
    assert not found.neighbours.any()
    assert found.to_pandas().empty


def test_some_features_are_clustered_as_if_there_were_no_others():
    rows = blocks()
    some = list(range(5, 60, 2))
    found = cluster(dictionary(rows), "decoder", features=[*some[::-1]], repeats=0)
    alone = cluster(dictionary(rows[some]), "decoder", repeats=0)
    assert found.names == tuple(f"post0.f{i}" for i in some)
    assert found.member_of.equal(alone.member_of)
    torch.testing.assert_close(found.typicality, alone.typicality)
    named = cluster(dictionary(rows), "decoder", features=list(found.names), repeats=0)
    assert named.member_of.equal(found.member_of)


# -- numbers against references -------------------------------------------------------------------


def test_typicality_is_the_mean_likeness_to_the_others():
    rows = blocks(1.0)
    found = cluster(dictionary(rows), "decoder", repeats=0)
    cosines = torch.nn.functional.cosine_similarity(rows[:, None], rows, dim=2).double()
    for number in range(len(found)):
        own = (found.member_of == number).nonzero()[:, 0]
        table = cosines[own][:, own]
        means = (table.sum(1) - table.diagonal()) / (len(own) - 1)
        torch.testing.assert_close(found.typicality[own], means, rtol=1e-5, atol=1e-6)
        assert found.typical(number, 1) == [f"post0.f{int(own[means.argmax()])}"]


@pytest.mark.parametrize("measure", ["jaccard", "pearson", "cosine"])
def test_likeness_by_co_activation_is_the_stores_own(measure, store):
    from sae_circuits.connectome.likeness import ByActivity
    from sae_circuits.features.relations import correlations

    made = store.activations
    likeness = ByActivity(made, np.arange(256), measure, 1 << 22)
    some = np.flatnonzero(made.counts > 5)[:40]
    every = correlations(made, 255, measures=[measure])
    table = np.zeros((256, 256))
    table[every.feature, every.other] = every.value
    want = table[some][:, some].sum(1) / (len(some) - 1)
    assert likeness.within(some) == pytest.approx(want, abs=1e-9)
    near = likeness.near(3)
    first = correlations(made, 3, measures=[measure])
    assert near.feature.tolist() == first.feature.tolist()
    assert near.other.tolist() == first.other.tolist()
    assert near.value == pytest.approx(first.value.to_numpy())


def test_likeness_by_connections_is_the_cosine_of_scaled_profiles():
    """A chain of three dictionaries, of which the middle one has both parts."""
    from sae_circuits.connectome.likeness import ByConnections

    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(7, 7, generator=generator).double() for _ in range(2))
    first[first.abs() < 0.3] = 0
    links = links_of([weights_of(first, 0, 1), weights_of(second, 1, 2)])
    names = [f"post1.f{i}" for i in range(7)]
    likeness = ByConnections(links.profiles(names), len(links.names), 1 << 20)
    hears, drives = first.T, second
    units = [x / x.norm(dim=1, keepdim=True) for x in (hears, drives)]
    cosines = (units[0] @ units[0].T + units[1] @ units[1].T) / 2
    near = likeness.near(6)
    for i, j, value in zip(near.feature, near.other, near.value, strict=True):
        assert value == pytest.approx(float(cosines[i, j]), abs=1e-6)
    assert len(near) == 7 * 6
    want = (cosines.sum(1) - 1) / 6
    assert likeness.within(np.arange(7)) == pytest.approx(want.numpy(), abs=1e-6)


def test_shares_and_weights_are_the_dense_sums():
    W = two_blocks()
    W[3] = 0.0
    source = dictionary(blocks(), layer=0)
    weights = weights_of(W, 0, 2)
    weights = replace(weights, source=SourceRecord.of(replace(source, name="x")))
    found = cluster(source, "decoder", scores=weights, repeats=0)
    group = torch.from_numpy(np.where(BLOCKS[:20] == 0, 0, -1))  # the first 20 are of one block
    assert found.member_of[:20].equal(group)
    assert float(found.weights[0, -1]) == pytest.approx(float(W.sum()), rel=1e-5)
    assert float(found.sizes[0, -1]) == pytest.approx(float(W.abs().sum()), rel=1e-5)
    assert found.shares("out").tolist() == pytest.approx([1, 0, 0, 0])
    assert found.shares("in").tolist() == [0, 0, 0, 0]


def test_shares_sum_to_one_with_what_is_in_no_cluster():
    W = two_blocks()
    W[:, 15] = 0.0
    W[3, 15] = -2.5
    found = cluster(weights_of(W), "connections", k=5, min_size=9, repeats=0)
    labels = found.member_of.numpy()
    places = {name: i for i, name in enumerate(found.names)}
    n = len(found)
    want = np.zeros((n + 2, n + 2))
    for i in range(20):
        for j in range(16):
            ends = [labels[places[x]] for x in (f"post0.f{i}", f"post2.f{j}")]
            want[tuple(n if end < 0 else end for end in ends)] += abs(float(W[i, j]))
    assert n
    assert want[n].sum() + want[:, n].sum() > 0  # some are in no cluster
    assert found.sizes.numpy() == pytest.approx(want, rel=1e-5)
    for side, axis in (("in", 0), ("out", 1)):
        shares = found.shares(side)
        assert float(shares.sum()) == pytest.approx(1.0)
        assert shares.numpy() == pytest.approx(want.sum(axis)[:-1] / want.sum(), rel=1e-5)
    table = found.to_pandas("weights")
    assert table["size"].sum() == pytest.approx(float(W.abs().sum()), rel=1e-5)
    assert table["weight"].sum() == pytest.approx(float(W.sum()), rel=1e-4)


def test_connections_and_pair_scores_cluster_as_their_edges_do():
    model, saes = sc.load_model("demo"), sc.load_saes("demo", ["mlp_out.0", "resid_post.1"])
    task = sc.tasks.ioi(model, n=4, seed=0)
    every = [sc.connections(model, f"post1.f{i}", saes, task, method="direct") for i in (5, 228)]
    found = cluster(every, "connections", features="m0", repeats=0)
    total = sum(float(one.values["m0"].abs().sum()) for one in every)
    assert float(found.sizes.sum()) == pytest.approx(total, rel=1e-4)
    assert float(found.shares("out").sum()) == pytest.approx(1.0)
    scores = cluster([one.scores("m0") for one in every], "connections", features="m0", repeats=0)
    there = [name for name in found.names if name in scores.names]
    assert [found[name] for name in there] == [scores[name] for name in there]
    assert all(found[name] is None for name in set(found.names) - set(there))
    other = sc.connections(model, "post1.f5", saes, task, method="total")
    with pytest.raises(OptionError, match="connections by direct, total do not add up"):
        cluster([*every, other], "connections")
    with pytest.raises(OptionError, match="two of the Connections are of one target"):
        cluster([*every, every[0]], "connections")


def test_the_largest_jaccard_index_is_that_of_the_sets():
    from sae_circuits.connectome.partition import best_jaccard

    rng = np.random.default_rng(0)
    for _ in range(20):
        mine, its = rng.integers(-1, 4, 15), rng.integers(-1, 3, 15)
        found, there = best_jaccard(mine, its, 4, 3)
        for c in range(4):
            own = set(np.flatnonzero(mine == c))
            others = [set(np.flatnonzero(its == d)) for d in range(3)]
            want = max(len(own & d) / max(len(own | d), 1) for d in others)
            assert found[c] == pytest.approx(want)
            assert there[c] == (len(own) >= 3)


# -- HDBSCAN --------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [2.0, 0.2, 0.1, 0.05])
def test_density_in_a_graph_of_neighbours_is_that_of_all_distances(limit):
    """The others at 1, of which a dense run with the ties broken knows all; 2.0 leaves none out."""
    sklearn = pytest.importorskip("sklearn.cluster")
    from sae_circuits.features.numerics.density import hdbscan

    rng = np.random.default_rng(0)
    far = [[20.0, 20.0], [20.1, 20.0], [20.0, 20.1], [-9.0, 30.0]]  # three together, and one alone
    points = np.concatenate([far, *(rng.normal(c, 0.3, (15, 2)) for c in (0, 3, 6))])
    distances = np.sqrt(((points[:, None] - points) ** 2).sum(2))
    distances /= distances.max() + 1e-9
    left, right = np.nonzero(np.triu(distances < limit, 1))
    whole = np.where(distances < limit, distances, 1 + distances)
    np.fill_diagonal(whole, 0)
    for min_samples in (2, 3, 6):
        found = hdbscan(
            49, left, right, distances[left, right], min_size=5, min_samples=min_samples
        )
        own = sklearn.HDBSCAN(5, min_samples=min_samples + 1, metric="precomputed", copy=True)
        want = own.fit(whole).labels_
        assert {frozenset(np.flatnonzero(found == c)) for c in range(3)} == {
            frozenset(np.flatnonzero(want == c)) for c in range(3)
        }
        assert found.max() == 2
        assert not any(found[:4] + 1)


def test_without_scikit_learn_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(MissingProgram, match=r"pip install 'sae-circuits\[hdbscan\]'"):
        cluster(dictionary(blocks()), "decoder", method="hdbscan")


# -- in words -------------------------------------------------------------------------------------


def test_labels_of_stores_name_clusters(tmp_path, store):
    made = store.save(tmp_path / "copy")
    (sae,) = sc.load_saes("demo", ["mlp_out.1"])
    bare = cluster(sae, "decoder", stores=[made], repeats=0)
    assert any(bare.common)  # by tokens, since there are no labels yet
    first = {int(name.partition(".f")[2]): "a name" for name in bare.members(0)}
    other = {int(name.partition(".f")[2]): 'the end of "of the"' for name in bare.members(1)[:2]}
    made.label("manual", manual={"texts": first | other})
    found = cluster(sae, "decoder", stores=[made], repeats=0)
    assert found.member_of.equal(bare.member_of)
    assert (found.common[0], float(found.common_shares[0])) == ("a name", 1.0)
    assert found.common[1] == 'the end of "of the"'
    assert 0 < float(found.common_shares[1]) < 0.5
    assert found.labels["c0"] == "a name"
    silent = cluster(sae, "decoder", repeats=0)
    assert not any(silent.common)
    assert silent.labels == {}
    assert bool(silent.common_shares.isnan().all())
    loaded = sc.FeatureDictionary.load(made.folder, sc.load_model("demo"), sae)
    assert cluster(loaded, "decoder", repeats=0).common == found.common


def test_words_come_first_that_others_do_not_have():
    from collections import Counter

    from sae_circuits.connectome.common_labels import Said, common_label, words_of

    assert words_of('"a\\n", \'"""\' or "b"') == {"a\n", '"""', "b"}
    texts = [{"cat", "the"}, {"cat", "the"}, {"dog", "the"}, {"the"}, {"the"}, {"cow", "the"}]
    every = [Said(f"label {i}", frozenset(words)) for i, words in enumerate(texts)]
    words = Counter(word for one in every for word in one.words)
    assert common_label(every[:3], words, 6) == ('"cat"', pytest.approx(2 / 3))
    assert common_label([Said("", frozenset())], words, 6) == ("", 0.0)


# -- files, tables, pictures ----------------------------------------------------------------------


def test_clusters_come_back_from_a_file(tmp_path):
    found = cluster(weights_of(two_blocks()), "connections", repeats=2)
    found.save(tmp_path / "found.json")
    again = sc.load(tmp_path / "found.json", sc.Clusters)
    assert repr(again) == repr(found)
    for table in ("clusters", "features", "weights"):
        assert again.to_pandas(table).equals(found.to_pandas(table))
    assert again.neighbours.equal(found.neighbours)
    assert again.groups() == found.groups()
    assert dict(again.provenance.options)["k"] == 10
    assert repr(found).startswith("Clusters(louvain by connections: 4 of 36 of 36 features, mean")
    bare = cluster(dictionary(blocks()), "decoder", repeats=0)
    bare.save(tmp_path / "bare.json")
    again = sc.load(tmp_path / "bare.json")
    assert again.weights is None
    assert bool(again.stability.isnan().all())
    assert "stability" not in repr(again)
    with pytest.raises(OptionError, match="there are no weights"):
        again.shares("in")
    with pytest.raises(OptionError, match="there are no weights"):
        again.to_pandas("weights")
    with pytest.raises(UnknownName, match="feature"):
        again["post9.f1"]
    with pytest.raises(UnknownName, match="table"):
        again.to_pandas("feature")
    with pytest.raises(GraphError, match="59 features do not fit 60"):
        replace(bare, names=bare.names[1:])


def test_a_map_shows_the_weights_among_the_largest_clusters():
    found = cluster(weights_of(two_blocks()), "connections", k=5, repeats=0)
    axes = sc.viz.clusters(found).axes[0]
    shown = axes.images[0].get_array()[::-1]
    want = found.weights[:4, :4].where(found.sizes[:4, :4] > 0, torch.nan)
    assert np.ma.filled(shown, np.nan) == pytest.approx(want.numpy(), nan_ok=True)
    assert [t.get_text() for t in axes.get_yticklabels()][::-1] == [
        "c0: 10", "c1: 10", "c2: 8", "c3: 8"
    ]  # fmt: skip
    few = sc.viz.clusters(found, n=3).axes[0]
    assert few.images[0].get_array().shape == (3, 3)
    with pytest.raises(OptionError, match="show at least 1"):
        sc.viz.clusters(found, n=0)
    none = cluster(dictionary(blocks()), "decoder", min_size=40, repeats=0)
    with pytest.raises(OptionError, match="no cluster to draw"):
        sc.viz.clusters(none)


def test_clusters_stand_as_supernodes_and_their_edges_add_up():
    model = sc.load_model("demo")
    saes = sc.load_saes("demo", ["mlp_out.0", "resid_post.1"])
    task = sc.tasks.ioi(model, n=4, seed=0)
    kept = {"m0": list(range(0, 40)), "post1": list(range(0, 60))}
    graph = sc.TensorGraph.from_model(model, saes=saes).restrict(kept)
    circuit = sc.prune.top_n(sc.attribute(model, graph, task, method="eap"), 300)
    found = cluster(saes[1], "decoder", repeats=0)
    groups = found.groups()
    group = {name: c for c, names in groups.items() for name in names}
    drawn = sc.viz.picture(circuit, groups=groups, labels=found.labels)
    want: dict[tuple[str, str, str | None], float] = {}
    for edge in circuit.edges:
        src, dest = edge.src.component.name, edge.dest.component.name
        port = None if dest in group else edge.dest.port
        ends = group.get(src, src), group.get(dest, dest), port
        want[ends] = want.get(ends, 0.0) + circuit.scores[edge]
    assert any(c in {n.name for n in drawn.nodes} for c in groups)
    assert {(e.src, e.dest, e.port): e.score for e in drawn.edges} == pytest.approx(want)
    total = sum(edge.score for edge in drawn.edges)
    assert total == pytest.approx(sum(circuit.scores[edge] for edge in circuit.edges))


def test_inside_a_supernode_no_edge_is_drawn_and_between_two_there_may_be_both_ways(tmp_path):
    model = sc.load_model("demo")
    saes = sc.load_saes("demo", ["mlp_out.0", "mlp_out.1", "transcoder.2"])
    graph = sc.TensorGraph.from_model(model, saes=saes, through=True).restrict(
        {"m0": [1, 2], "m1": [3, 4], "m2": [5, 6]}
    )
    names = ["m0.f1->m1.f3", "m1.f3->m2.f5", "m0.f1->m2.f5", "m0.f2->m1.f3", "m2.f5->logits"]
    made = sc.Circuit.from_edges(graph, names)
    values = torch.zeros(graph.n_edges)
    values[made.mask] = torch.arange(1.0, 6.0)
    circuit = replace(made, scores=sc.Scores(graph, values))
    score = {edge.name: circuit.scores[edge] for edge in circuit.edges}
    groups = {"outer": ["m0.f1", "m2.f5"], "inner": ["m0.f2", "m1.f3"]}
    drawn = {(e.src, e.dest): e.score for e in sc.viz.picture(circuit, groups=groups).edges}
    assert drawn == {
        ("outer", "inner"): score["m0.f1->m1.f3"],
        ("inner", "outer"): score["m1.f3->m2.f5"],
        ("outer", "logits"): score["m2.f5->logits"],
    }
    for suffix in ("html", "dot"):
        text = circuit.render(tmp_path / f"drawn.{suffix}", groups=groups).read_text()
        assert "inner" in text
        assert "outer" in text


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"by": "decoders"}, UnknownName, "kind of likeness 'decoders'"),
        ({"method": "kmeans"}, UnknownName, "method 'kmeans'"),
        ({"k": 0}, OptionError, "k is 0"),
        ({"min_size": 1}, OptionError, "min_size is 1: a cluster has 2 features at least"),
        ({"resolution": 0.0}, OptionError, "resolution is 0.0"),
        ({"resolution": float("nan")}, OptionError, "resolution is nan"),
        ({"method": "hdbscan", "resolution": 2.0}, OptionError, "goes with method='louvain'"),
        ({"measure": "pearson"}, OptionError, "goes with by='co-activation'"),
        ({"measure": "dice"}, UnknownName, "measure 'dice'"),
        ({"repeats": -1}, OptionError, "repeats is -1"),
        ({"features": [60]}, UnknownName, "no feature 60: there are 60, 0 to 59"),
        ({"features": ["post1.f3"]}, OptionError, "'post1.f3' is no feature of 'post0'"),
        ({"features": [3, 3]}, OptionError, "feature 3 is asked for twice"),
        ({"features": []}, OptionError, "no feature is asked for"),
        ({"features": "post0"}, OptionError, "name one or more"),
        ({"by": "co-activation"}, OptionError, "Dictionary has no activations"),
        ({"by": "connections"}, OptionError, "has no connections"),
        ({"scores": []}, OptionError, "no connection that is not 0"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        cluster(dictionary(blocks()), **{"by": "decoder", **options})


def test_scores_and_stores_of_others_are_refused(store):
    own, weights = dictionary(blocks()), weights_of(two_blocks())
    with pytest.raises(GraphError, match="the scores are of another dictionary at post0"):
        cluster(own, "decoder", scores=weights)
    with pytest.raises(GraphError, match="none leads to or from a feature of post1"):
        cluster(dictionary(blocks(), layer=1), "decoder", scores=weights)
    with pytest.raises(StoreError, match="is of none of the dictionaries that are clustered"):
        cluster(own, "decoder", stores=[store])
    with pytest.raises(StoreError, match="is of none of the dictionaries that are clustered"):
        cluster(own, "decoder", stores=[held_store()])
    with pytest.raises(OptionError, match="VirtualWeights has no decoders"):
        cluster(weights, "decoder")
    with pytest.raises(OptionError, match=r"VirtualWeights has no activations.*'connections'"):
        cluster(weights, "co-activation")
    with pytest.raises(StoreError, match="holds no decoders"):
        cluster(sc.FeatureDictionary.load(store.folder), "decoder")
    with pytest.raises(UnknownName, match=r"feature with connections 'post0\.f20'"):
        cluster(weights, "connections", features=["post0.f20"])
    with pytest.raises(UnknownName, match="dictionary with connections 'post1'"):
        cluster(weights, "connections", features="post1")
    with pytest.raises(DictionaryError, match=r"writes at mlp_in\.0, where no graph has features"):
        cluster(dictionary(blocks(), "mlp_in"), "decoder")
    two = replace(weights, source=replace(weights.source, fingerprint="other"))
    with pytest.raises(GraphError, match="the scores are of two dictionaries at post0"):
        cluster([weights, two], "connections")
    with pytest.raises(OptionError, match="int holds no connections between features"):
        links_of([weights, 3])
    with pytest.raises(OptionError, match="no connection that is not 0"):
        cluster(weights_of(torch.zeros(4, 4)), "connections")
    bad = two_blocks()
    bad[0, 0] = torch.nan
    with pytest.raises(NumericalError, match="not finite"):
        cluster(weights_of(bad), "connections")
