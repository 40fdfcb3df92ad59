"""Connections as views hold them: what was found, and where methods disagree about it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

import made_connectome
import made_page
import sae_circuits as sc
from sae_circuits.dashboards.connected import Connected, Differing, differing
from sae_circuits.dashboards.listed import Listed
from sae_circuits.dashboards.places import Hosted, link_data, neuronpedia_address
from sae_circuits.dashboards.views import FeatureView
from sae_circuits.errors import FileFormatError, GraphError, OptionError, UnknownName

HOSTED = "gpt2-small/6-res-jb"


@pytest.fixture(scope="module")
def model():
    return sc.load_model("demo")


@pytest.fixture(scope="module")
def saes():
    return sc.load_saes("demo", ["mlp_out.0", "mlp_out.1", "resid_post.1"])


@pytest.fixture(scope="module")
def found(model, saes):
    """Of two targets at one place and one in between, by two methods."""
    task = sc.tasks.ioi(model, 8, 0)
    return {
        (target, method): sc.connections(model, target, saes, task, method=method)
        for target in ("post1.f5", "post1.f228")
        for method in ("total", "direct")
    }


@pytest.fixture(scope="module")
def store(model, saes):
    features = sc.FeatureDictionary.build(model, saes[0], sc.demo_corpus(2_000))
    features.label()
    return features


# -- where methods disagree ------------------------------------------------------------------------


def pair(one: float, other: float, references=("zero", "zero")) -> list[Connected]:
    """Two methods whose largest values are 1, and what they say of one more connection."""
    names = ("m0.f1", "m0.f2")
    return [
        Connected("up", "one", names, (1.0, one), references[0]),
        Connected("up", "other", names, (-1.0 if references[0] != references[1] else 1.0, other),
                  references[1]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        (0.5, 0.4, None),
        (0.5, -0.4, "sign"),
        (-0.1, 0.1, "sign"),
        (0.5, -0.09, "size"),
        (0.5, 0.09, "size"),
        (0.0, 0.1, "size"),
        (0.5, 0.1, None),
        (0.09, -0.09, None),
    ],
)
def test_two_methods_disagree_by_sign_or_by_a_tenth_of_the_largest(one, other, kind):
    said = differing(pair(one, other))
    assert said == differing(pair(one, other)[::-1]) == () if kind is None else len(said) == 1
    if kind is not None:
        assert said == (
            Differing("up", "m0.f2", kind, ("one (zero)", "other (zero)"), (one, other)),
        )


def test_signs_are_those_of_driving():
    same = differing(pair(-0.5, 0.5, ("zero", "")))
    assert same == ()
    assert [d.kind for d in differing(pair(0.5, 0.5, ("zero", "")))] == ["sign"]
    for references in [("zero", "mean"), ("mean", ""), ("corrupt", "mean")]:
        assert differing(pair(0.5, -0.5, references)) == ()
    assert [d.kind for d in differing(pair(0.5, -0.5, ("mean", "mean")))] == ["sign"]


def test_only_the_strongest_of_each_method_are_compared_and_only_what_both_know():
    names = tuple(f"m0.f{i}" for i in range(13))
    one = Connected("up", "one", names, (1.0,) * 13)
    other = Connected("up", "other", names[:12], (*(1.0,) * 11, 0.0))
    assert differing([one, other]) == ()  # the twelfth is not among the ten strongest of one
    (found,) = differing([one, other], k=12)
    assert (found.name, found.kind, found.values) == ("m0.f11", "size", (1.0, 0.0))
    down = replace(other, direction="down")
    assert differing([one, down], k=12) == ()


def test_the_made_connections_differ_where_they_were_made_to():
    said = {(d.name, d.kind, *d.methods) for d in differing(made_connectome.connected())}
    assert ("a0.f17", "sign", "total (zero)", "direct (zero)") in said
    total, virtual = (made_connectome.connected()[i] for i in (0, 3))
    both = set(total.names) & set(virtual.names)
    opposite = {n for n in both if total.shares[n] * virtual.shares[n] < 0
                and min(abs(total.shares[n]), abs(virtual.shares[n])) >= 0.1}  # fmt: skip
    assert {d[0] for d in said if d[1:] == ("sign", "total (zero)", "virtual")} == opposite != set()


@pytest.mark.parametrize(
    ("given", "match"),
    [(("left", "total", ("a",), (0.1,)), "give 'up' or 'down'"),
     (("up", "total", ("a",), ()), "1 names and 0 values")],
)  # fmt: skip
def test_connections_that_cannot_be_are_refused(given, match):
    with pytest.raises(OptionError, match=match):
        Connected(*given)


# -- what was found, in a view ---------------------------------------------------------------------


def view_of(place: str, *ids: int) -> FeatureView:
    return made_page.view(*map(made_page.small, ids), place=place)


def test_what_drives_a_feature_stands_in_its_view_by_each_method(found):
    total, direct = found["post1.f5", "total"], found["post1.f5", "direct"]
    view = view_of("post1", 5, 6).connect({5: [total, direct]}, n=3)
    up = view.profiles[0].connections
    assert [(one.direction, one.title) for one in up] == [
        ("up", "total (zero)"),
        ("up", "direct (zero)"),
    ]
    names = {name for name, _ in (*total.top(3), *direct.top(3))}
    for one, source in zip(up, (total, direct), strict=True):
        assert set(one.names) == names
        assert list(map(abs, one.values)) == sorted(map(abs, one.values), reverse=True)
        for name, value in zip(one.names, one.values, strict=True):
            assert value == pytest.approx(source[name], rel=1e-6, abs=1e-12)
    assert view.profiles[0].differing == differing(up)
    assert view.profiles[1].connections == ()


def test_what_a_feature_drives_is_found_in_other_targets_connections(found):
    name = found["post1.f5", "total"].top(1)[0][0]
    index = int(name.partition(".f")[2])
    view = view_of("m0", index).connect({index: list(found.values())})
    for one in view.profiles[0].connections:
        assert one.direction == "down"
        held = {target: found[target, one.method][name] for target in ("post1.f5", "post1.f228")}
        wanted = {target: value for target, value in held.items() if value}
        assert dict(zip(one.names, one.values, strict=True)) == pytest.approx(wanted, rel=1e-6)
    assert [one.method for one in view.profiles[0].connections] == ["total", "direct"]


def test_virtual_weights_say_both(model, saes):
    weights = sc.virtual_weights(model, saes[0], saes[2], k=4)
    (up,) = view_of("post1", 7).connect({7: [weights]}).profiles[0].connections
    assert (up.direction, up.title) == ("up", "virtual")
    assert list(zip(up.names, up.values, strict=True)) == [
        (f"m0.f{i}", pytest.approx(x, rel=1e-6)) for i, x in weights.into(7)
    ]
    (down,) = view_of("m0", 7).connect({7: [weights]}).profiles[0].connections
    assert (down.direction, list(down.names)) == (
        "down",
        [f"post1.f{i}" for i, _ in weights.of(7)],
    )
    by_head = sc.virtual_weights(model, saes[0], saes[2], k=4, heads=[(1, 2)])[1, 2]
    (one,) = view_of("post1", 7).connect({7: [by_head]}).profiles[0].connections
    assert one.method == "virtual by a1.h2"


def test_what_cannot_be_connected_is_said(found):
    total, view = found["post1.f5", "total"], view_of("post1", 5, 6)
    with pytest.raises(UnknownName, match="feature of the view 12345"):
        view.connect({12345: [total]})
    with pytest.raises(OptionError, match=r"says nothing of post1\.f6"):
        view.connect({6: [total]})
    with pytest.raises(OptionError, match="stands at no place"):
        made_page.view(made_page.small(5), place=None).connect({5: [total]})
    with pytest.raises(OptionError, match="n=0"):
        view.connect({5: [total]}, n=0)
    twice = replace(total, values={name: 2 * x for name, x in total.values.items()})
    with pytest.raises(OptionError, match="2 values by 'total'"):
        view.connect({5: [total, twice]})
    with pytest.raises(GraphError, match="features 0 to 255"):
        view_of("m0", 300).connect({300: [total]})


def test_patching_knows_only_the_features_that_were_asked_for(found):
    total = found["post1.f5", "total"]
    first, second = (name for name, _ in total.top(2))
    index = int(second.partition(".f")[2])
    values = {name: x.clone() for name, x in total.values.items()}
    values[second.partition(".")[0]][index] = torch.nan
    patching = replace(total, method="patching", values=values)
    up = view_of("post1", 5).connect({5: [total, patching]}, n=2).profiles[0].connections
    assert [one.names for one in up if one.method == "total"] == [(first, second, *up[0].names[2:])]
    assert second not in up[1].names
    assert first in up[1].names


# -- what stores and metadata say ------------------------------------------------------------------


def test_stores_give_labels_histograms_and_tokens(found, store):
    total = found["post1.f5", "total"]
    view = view_of("post1", 5).connect({5: [total]}, stores={"mlp_out.0": store}, n=30)
    own = {name for name in view.profiles[0].connections[0].names if name.startswith("m0.")}
    assert {one.name for one in view.listed} == own
    assert len(own) > 10
    for one in view.listed:
        feature = store.feature(int(one.name.partition(".f")[2]))
        assert one.label == feature.label
        assert one.tokens == tuple(row["text"] for row in feature.tokens[:5])
        held = feature.distributions.get("histogram")
        assert (held is None) == (one.activations is None)
        if held is not None and one.activations is not None:
            assert one.activations.counts == held.counts
            assert one.activations.edges == pytest.approx(held.edges, rel=1e-6)


def test_a_store_of_another_place_is_refused(found, store):
    view, total = view_of("post1", 5), found["post1.f5", "total"]
    with pytest.raises(OptionError, match="'mm' names no place"):
        view.connect({5: [total]}, stores={"mm": store})
    far = Connected("up", "total", ("m0.f256",), (1.0,))
    with pytest.raises(OptionError, match=r"m0\.f256 is no feature of FeatureDictionary"):
        view.connect({5: [far]}, stores={"m0": store})


@pytest.mark.parametrize(
    ("said", "address"),
    [
        (HOSTED, f"https://www.neuronpedia.org/{HOSTED}"),
        ("gemma-2-2b/5-sae_bench-16k__trainer_4", "https://www.neuronpedia.org/gemma-2-2b/"
         "5-sae_bench-16k__trainer_4"),
        (None, None), ("", None), ("gpt2-small", None), ("a/b/c", None), ("../b", None),
        ("a/..", None), ("a/b?c", None), ("a/b#c", None), ("a/b\n", None), ("a/ b", None),
        ("//evil.test/b", None), ("a/b\"onclick='x'", None), ("á/b", None),
    ],
)  # fmt: skip
def test_only_ids_of_neuronpedia_become_addresses(said, address):
    assert neuronpedia_address(said) == address


def test_a_dictionarys_own_metadata_say_where_neuronpedia_has_it(model, saes, tmp_path):
    from sae_lens import SAE

    from sae_circuits.models.load import demo_path

    assert all(sae.neuronpedia is None for sae in saes)
    held = SAE.load_from_disk(demo_path() / "saes" / "mlp_out.0", dtype="float32")
    held.cfg.metadata.neuronpedia_id = HOSTED
    (sae,) = sc.load_saes(held)
    assert sae.neuronpedia == HOSTED
    held.save_model(tmp_path / "sae")
    assert sc.load_saes(tmp_path / "sae")[0].neuronpedia == HOSTED
    assert sae.to("cpu", torch.float64).neuronpedia == HOSTED
    (free,) = sc.load_saes("demo", ["mlp_out.1-jumprelu"])
    assert replace(free, neuronpedia=HOSTED).only([1]).neuronpedia is None
    out = tmp_path / "store"
    features = sc.FeatureDictionary.build(model, sae, sc.demo_corpus(500), out)
    assert features.neuronpedia == HOSTED
    again = sc.FeatureDictionary.load(out)
    assert again.neuronpedia == HOSTED
    assert again.merge(features).neuronpedia == HOSTED
    assert sc.FeatureView.build(again, [3]).about.neuronpedia == HOSTED
    found = sc.connections(model, "post1.f5", [sae, saes[2]], sc.tasks.ioi(model, 2, 0))
    assert found.neuronpedia == {"m0": HOSTED}
    view = view_of("post1", 5).connect({5: [found]})
    assert view.hosted == sc.ConnectomeView.build(found).hosted == (Hosted("m0", HOSTED),)


def test_a_view_of_a_store_says_where_its_dictionary_stands(store):
    assert sc.FeatureView.build(store, [3]).about.place == "m0"
    assert sc.FeatureView.build(store, [3]).about.neuronpedia is None


# -- links -----------------------------------------------------------------------------------------


def test_links_are_by_place_or_by_name():
    given = {"mlp_out.0": "a.html", "neurons": "b.html"}
    found = link_data(given, [Hosted("m0", HOSTED), Hosted("m1", "../x")], HOSTED, ["resid_post.1"])
    there = f"https://www.neuronpedia.org/{HOSTED}"
    assert found == {
        "": {"neuronpedia": there},
        "m0": {"page": "a.html", "neuronpedia": there},
        "mlp_out.0": {"page": "a.html"},
        "neurons": {"page": "b.html"},
    }
    near = link_data({"post1": "c.html"}, among=["resid_post.1", "neurons"])
    assert near == {"post1": {"page": "c.html"}, "resid_post.1": {"page": "c.html"}}


@pytest.mark.parametrize(
    "address",
    ["javascript:alert(1)", " JavaScript:x", "java\nscript:x", "data:text/html,x", "a.html#b", ""],
)
def test_addresses_that_can_be_none_are_refused(address, tmp_path):
    for view in (made_page.view(), made_connectome.connectome()):
        with pytest.raises(OptionError, match="is no address of a page"):
            view.render(tmp_path / "x.html", links={"m0": address})
    assert not (tmp_path / "x.html").exists()


# -- files -----------------------------------------------------------------------------------------


def test_views_with_connections_come_back_from_their_files(tmp_path):
    view = made_connectome.view()
    again = FeatureView.load(view.save(tmp_path / "view.json"))
    assert again == view
    assert again.listed == made_connectome.listed()
    for whole in (made_connectome.connectome(), made_connectome.of_hell()):
        path = whole.save(tmp_path / "connectome.json")
        back = sc.ConnectomeView.load(path)
        assert back == whole
        assert back.save(tmp_path / "b.json").read_bytes() == path.read_bytes()
        assert (
            back.render(tmp_path / "b.html").read_bytes()
            == whole.render(tmp_path / "a.html").read_bytes()
        )


def test_files_of_the_first_schema_are_read_where_they_have_no_connections(tmp_path):
    path = made_page.view().save(tmp_path / "view.json")
    said = json.loads(path.read_text())
    del said["about"]["place"]
    path.write_text(json.dumps({**said, "schema": 1}))
    assert FeatureView.load(path).profiles == made_page.view().profiles
    said["profiles"][0]["connections"] = [
        {"kind": "from mlp_out.0", "names": ["a0.h1"], "values": [0.5], "features": [None]}
    ]
    path.write_text(json.dumps({**said, "schema": 1}))
    with pytest.raises(FileFormatError, match=r"is in schema 1, which kept connections without"):
        FeatureView.load(path)


def test_a_file_of_another_kind_or_with_a_wrong_direction_is_refused(tmp_path):
    path = made_connectome.connectome().save(tmp_path / "connectome.json")
    with pytest.raises(FileFormatError, match="is no FeatureView"):
        FeatureView.load(path)
    path.write_text(path.read_text().replace('"direction":"up"', '"direction":"left"'))
    with pytest.raises(FileFormatError, match="give 'up' or 'down'"):
        sc.ConnectomeView.load(path)


# -- the connectome --------------------------------------------------------------------------------


def test_a_connectome_has_each_target_with_what_drives_it_and_what_it_drives(found, model, saes):
    name = found["post1.f5", "total"].top(1)[0][0]
    weights = sc.virtual_weights(model, saes[0], saes[2], k=3)
    view = sc.ConnectomeView.build(
        [*found.values(), weights], targets=["post1.f5", name], n=4, title="Two"
    )
    assert [target.name for target in view.targets] == ["post1.f5", name]
    assert (view.about.title, view.about.model) == ("Two", "demo")
    up, down = ({one.title: one for one in target.connections} for target in view.targets)
    assert {one.direction for one in up.values()} == {"up"}
    assert {one.direction for one in down.values()} == {"down"}
    total = found["post1.f5", "total"]
    assert list(up["total (zero)"].names[:1]) == [name]
    assert up["total (zero)"].values[0] == pytest.approx(total[name], rel=1e-6)
    by_target = dict(zip(down["total (zero)"].names, down["total (zero)"].values, strict=True))
    assert by_target["post1.f5"] == pytest.approx(total[name], rel=1e-6)
    assert set(down["virtual"].names) >= {f"post1.f{i}" for i, _ in weights.of(int(name[4:]))[:3]}
    usual = sc.ConnectomeView.build(list(found.values()))
    assert [target.name for target in usual.targets] == ["post1.f5", "post1.f228"]
    assert set(usual.about.provenance["dictionaries"]) >= {"mlp_out.0", "resid_post.1"}


def test_a_connectome_of_nothing_is_refused(found, model, saes):
    total = found["post1.f5", "total"]
    with pytest.raises(OptionError, match="no feature to stand in the middle"):
        sc.ConnectomeView.build([])
    weights = sc.virtual_weights(model, saes[0], saes[2], k=3)
    with pytest.raises(OptionError, match="no feature to stand in the middle"):
        sc.ConnectomeView.build(weights)
    with pytest.raises(OptionError, match=r"says anything of post1\.f9"):
        sc.ConnectomeView.build(total, targets=["post1.f9"])
    with pytest.raises(GraphError, match="'m3' is no feature"):
        sc.ConnectomeView.build(total, targets=["m3"])
    other: Any = "post1.f5"
    with pytest.raises(OptionError, match="is no Connections"):
        sc.ConnectomeView.build([total, other])
    assert sc.ConnectomeView.build(weights, targets=["m0.f3"]).targets[0].name == "m0.f3"


def test_what_is_listed_has_what_a_store_says_of_the_target_too(found, store):
    name = found["post1.f5", "total"].top(1)[0][0]
    view = sc.ConnectomeView.build(list(found.values()), targets=[name], stores={"m0": store})
    feature = store.feature(int(name.partition(".f")[2]))
    assert isinstance(view.listed[0], Listed)
    assert (view.listed[0].name, view.listed[0].label) == (name, feature.label)


def test_pairs_and_components_stand_where_single_connections_would(model, saes):
    task, target = sc.tasks.ioi(model, n=8, seed=0), "post1.f228"
    pairs = sc.pair_connections(model, "post1", saes, task)
    one = sc.connections(model, target, saes, task, method="direct", components=["a0.h2", "m0"])
    (up,) = sc.ConnectomeView.build(one, n=400).targets[0].connections
    (same,) = sc.ConnectomeView.build(pairs, targets=[target], n=400).targets[0].connections
    values, others = (dict(zip(c.names, c.values, strict=True)) for c in (up, same))
    assert values["a0.h2"] == pytest.approx(one["a0.h2"])
    assert values["m0"] == pytest.approx(one["m0"])
    features = {name: value for name, value in values.items() if ".f" in name}
    assert others == pytest.approx(features, rel=1e-3, abs=1e-6)
    source = max(features, key=lambda name: abs(features[name]))
    (down,) = sc.ConnectomeView.build(pairs, targets=[source], n=400).targets[0].connections
    assert down.direction == "down"
    assert down.values[down.names.index(target)] == pytest.approx(values[source], rel=1e-3)
    with pytest.raises(OptionError, match="nothing that was given says anything of m3"):
        sc.ConnectomeView.build(pairs, targets=["m3.f0"])
