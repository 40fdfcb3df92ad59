"""The bundled SAEs and transcoders do what their card says."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import sae_circuits as sc
from sae_circuits.errors import GraphError
from sae_circuits.features.analysis.comparison import compare
from sae_circuits.features.extraction import extract
from sae_circuits.features.sources import DictionarySource
from sae_circuits.models import demo_path
from sae_circuits.models.dictionaries import Dictionary, Site, load_saes
from sae_circuits.models.dictionaries.gates import Threshold, TopK

FOLDER = demo_path() / "saes"
FIGURES = json.loads((FOLDER / "figures.json").read_text())
EVERY = [*load_saes("demo"), *load_saes("demo", kind="transcoder")]
EVERY += load_saes("demo", kind="skip-transcoder")
SECOND = load_saes("demo", ["mlp_out.1-jumprelu", "resid_post.1-jumprelu"])


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
    yield importlib.import_module("train_demo_saes")
    sys.path.pop(0)


@pytest.fixture(scope="module")
def model():
    return sc.load_model("demo", kind="hooked")


@pytest.fixture(scope="module")
def held(script, model) -> dict[str, torch.Tensor]:
    return script.activations(model, seed=2, tokens=10_000)


def test_every_layer_has_all_five_kinds():
    sites = {(d.reads, d.writes, d.W_skip is None) for d in EVERY}
    expected = set()
    for layer in range(4):
        expected |= {
            (Site(kind, layer), (Site(kind, layer),), True)
            for kind in ("z", "mlp_out", "resid_post")
        }
        mlp = Site("mlp_normalized", layer), (Site("mlp_out", layer),)
        expected |= {(*mlp, True), (*mlp, False)}
    assert sites == expected
    assert {d.name for d in [*EVERY, *SECOND]} == FIGURES.keys()
    assert sum(path.stat().st_size for path in FOLDER.rglob("*")) < 15e6


def test_second_dictionaries_come_by_name_only_and_differ_in_architecture():
    assert len(load_saes("demo")) == len(load_saes("demo", kind="sae")) == 12
    assert not {d.name for d in EVERY} & {d.name for d in SECOND}
    for d in SECOND:
        (first,) = load_saes("demo", [d.name.removesuffix("-jumprelu")])
        assert (first.reads, first.writes, first.n_features) == (d.reads, d.writes, d.n_features)
        assert (type(first.gate), type(d.gate)) == (TopK, Threshold)
        assert (first.competes, d.competes) == (True, False)


@pytest.mark.parametrize(("site", "node"), [("mlp_out.1", "m1.f3"), ("resid_post.1", "post1.f3")])
def test_a_graph_takes_one_of_two_at_a_site(site, node, model):
    both = load_saes("demo", [site, f"{site}-jumprelu"])
    graph = sc.TensorGraph.from_model(model, saes=both[1:])
    assert f"{node}->logits" in graph.edges
    with pytest.raises(GraphError, match="take one of them"):
        sc.TensorGraph.from_model(model, saes=both)


@pytest.mark.parametrize(
    ("second", "by_decoder", "by_firing", "pair"),
    [(SECOND[0], 0.016, 0.43, (38, 39)), (SECOND[1], 0.043, 0.18, (148, 137))],
    ids=lambda x: getattr(x, "name", None),
)
def test_what_two_of_a_site_share(second, by_decoder, by_firing, pair, script, model, held):
    (first,) = load_saes("demo", [second.name.removesuffix("-jumprelu")])
    corpus = sc.demo_corpus(20_000)
    activities = [extract(DictionarySource.of(model, d), corpus) for d in (first, second)]
    found = compare(first, second, (activities[0], activities[1]))
    assert found.matched_by_decoder == pytest.approx(by_decoder, abs=0.005)
    assert found.matched_by_activity == pytest.approx(by_firing, abs=0.03)
    one, other = pair
    row = found.table.loc[one]
    assert row.by_decoder == row.by_activity == other
    x = held[script.hook(first.reads.kind, first.reads.layer)]  # other tokens than the corpus's
    f = torch.stack([first.encode(x)[:, one], second.encode(x)[:, other]])
    assert row.pearson == pytest.approx(torch.corrcoef(f)[0, 1].item(), abs=0.02)
    directions = first.W_dec[one], second.W_dec[other]
    assert row.cosine == pytest.approx(torch.cosine_similarity(*directions, dim=0).item())


@pytest.mark.parametrize("d", [*EVERY, *SECOND], ids=lambda d: d.name)
def test_it_fits_the_model_and_its_figures_hold_on_other_tokens(d: Dictionary, script, model, held):
    d.require_fits(sc.Architecture.of(model))
    x, y = (held[script.hook(s.kind, s.layer)] for s in (d.reads, d.writes[0]))
    found = script.measure(d, x, y)
    assert found["L0"] == pytest.approx(FIGURES[d.name]["L0"], rel=0.1)
    assert found["explained variance"] == pytest.approx(
        FIGURES[d.name]["explained variance"], abs=0.03
    )


@pytest.mark.parametrize("d", [*EVERY, *SECOND], ids=lambda d: d.name)
def test_output_and_error_together_are_what_stood_there(d: Dictionary, model, script):
    task = sc.tasks.ioi(model, n=8, seed=0)
    held = {}

    def read(x, hook):
        held["x"] = x.flatten(2)

    def write(y, hook):
        flat = y.flatten(2)
        return (d(held["x"]) + d.error(held["x"], flat)).view_as(y)

    where = [(d.reads, read), (d.writes[0], write)]
    hooks = [(script.hook(site.kind, site.layer), does) for site, does in where]
    with torch.no_grad():
        spliced = model.run_with_hooks(task.clean, fwd_hooks=hooks)
        torch.testing.assert_close(spliced, model(task.clean), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_two_trainings_with_one_seed_give_the_same_files(script, tmp_path):
    weights = []
    for name in ("one", "other"):
        out = tmp_path / name
        command = [sys.executable, script.__file__, "--out", str(out)]
        options = ["--tokens", "5000", "--steps", "10", "--examples", "8"]
        subprocess.run([*command, *options], check=True, capture_output=True, timeout=300)
        assert (out / "README.md").read_text().count("|") > 100
        weights.append([path.read_bytes() for path in sorted(out.rglob("*.safetensors"))])
    assert len(weights[0]) == 22
    assert weights[0] == weights[1]
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    chosen = ["transcoder.1", "mlp_out.1-jumprelu"]
    again = [*command, *options, "--only", *chosen]
    subprocess.run(again, check=True, capture_output=True, timeout=300)
    changed = {p.parent.name for p, time in before.items() if p.stat().st_mtime_ns != time}
    assert changed == set(chosen)
    assert [path.read_bytes() for path in sorted(before)] == weights[1]
