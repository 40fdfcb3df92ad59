"""`sae-circuits dashboard`: pages of features and prompts, from a store on the disk."""

from __future__ import annotations

import gzip
import json
import os
import shlex
import stat
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import command_line
import sae_circuits as sc
from command_line import refused
from sae_circuits.cli.dashboard import COMMANDS
from sae_circuits.dashboards.prompt_view import PromptView
from sae_circuits.dashboards.views import FeatureView

call, done = (partial(run, "dashboard") for run in (command_line.call, command_line.done))
SAE = "mlp_out.1"
WITH_MODEL = ("--model", "demo", "--sae", SAE)


@pytest.fixture(scope="module")
def features() -> sc.FeatureDictionary:
    model, (sae,) = sc.load_model("demo"), sc.load_saes("demo", [SAE])
    return sc.FeatureDictionary.build(model, sae, sc.demo_corpus(2_000))


@pytest.fixture(scope="module")
def store(features: sc.FeatureDictionary) -> Path:
    """A store of the bundled model, to be read and not changed."""
    return features.folder


def data_of(page: Path, name: str) -> Any:
    """The page's own JSON of a name."""
    _, _, after = page.read_text().partition(f'data-name="{name}">')
    return json.loads(after.partition("</script>")[0])


@pytest.mark.parametrize(("command", "example"), [(c.__name__, e) for c, e in COMMANDS.items()])
def test_help_says_what_it_does_and_ends_with_an_example(command: str, example: str) -> None:
    said = done(command, "--help")
    assert " ".join(example.split()) in " ".join(said.split())
    assert "Show " in said
    program, group, name, *_ = shlex.split(example)
    assert (program, group, name) == ("sae-circuits", "dashboard", command)


# -- features --------------------------------------------------------------------------------------


def test_a_page_of_some_features(
    features: sc.FeatureDictionary, store: Path, tmp_path: Path
) -> None:
    out = tmp_path / "x.html"
    said = done("feature", store, "--feature", 3, "--feature", 42, "--out", out, *WITH_MODEL)
    assert said.startswith(f"{out}: 2 features, ")
    assert said.endswith(" kB\n")
    view = FeatureView.build(features, [3, 42])
    assert out.read_text() == view.render(tmp_path / "same.html").read_text()
    assert any(one.effects for one in view.profiles[0].groups[0].windows)


def test_json_is_the_view_to_load_again(store: Path, tmp_path: Path) -> None:
    without_model = sc.FeatureDictionary.load(store)
    plain = FeatureView.build(without_model, [3], loss_effects=False, title="Mine")
    what = ["feature", store, "--feature", 3, "--no-loss-effects", "--title", "Mine"]
    done(*what, "--out", tmp_path / "x.json")
    assert FeatureView.load(tmp_path / "x.json") == plain
    printed = done(*what, "--json")
    assert printed == (tmp_path / "x.json").read_text()


def test_options_reach_the_view(
    features: sc.FeatureDictionary, store: Path, tmp_path: Path
) -> None:
    out = tmp_path / "x.json"
    done("feature", store, "--feature", 3, "--ablation", "--hover", 2, "--out", out, *WITH_MODEL)
    view = FeatureView.load(out)
    assert view == FeatureView.build(features, [3], ablation=True, hover=2)
    window = view.profiles[0].groups[0].windows[0]
    assert window.ablation is not None
    assert window.effects is not None
    assert {len(one) for one in window.effects.helped} == {2}


def test_without_the_model_there_are_no_effects_on_the_loss(store: Path, tmp_path: Path) -> None:
    done("feature", store, "--feature", 3, "--out", tmp_path / "x.json")
    (profile,) = FeatureView.load(tmp_path / "x.json").profiles
    assert not any(one.effects for group in profile.groups for one in group.windows)


def test_layouts_by_name_and_by_file(store: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[[columns]]\n[[columns.panels]]\npanel = "tokens"\nn = 4\n')
    for layout, panels in {"compact": ["activations", "tokens", "examples"],
                           str(file): ["tokens"]}.items():  # fmt: skip
        out = tmp_path / "x.html"
        done("feature", store, "--feature", 3, "--layout", layout, "--out", out)
        columns = data_of(out, "layout")["columns"]
        assert [panel["panel"] for one in columns for panel in one["panels"]] == panels


def test_files_for_other_viewers(store: Path, tmp_path: Path) -> None:
    what = ["feature", store, "--feature", 3, "--feature", 5, "--format"]
    said = done(*what, "neuronpedia", "--out", tmp_path / "np")
    assert said == f"{tmp_path / 'np'}: 2 features\n"
    assert sorted(path.name for path in (tmp_path / "np").iterdir()) == ["3.json", "5.json"]
    assert json.loads((tmp_path / "np" / "3.json").read_text())["layer"] == SAE
    done(*what, "circuit-tracer", "--out", tmp_path / "ct")
    packed = (tmp_path / "ct" / "features" / "index.json.gz").read_bytes()
    assert list(json.loads(gzip.decompress(packed))) == ["1"]  # the layer of the dictionary


# -- a prompt --------------------------------------------------------------------------------------


def test_a_page_of_a_prompt(features: sc.FeatureDictionary, store: Path, tmp_path: Path) -> None:
    text, out = "When Mary and John went", tmp_path / "x.html"
    said = done("prompt", store, "--prompt", text, *WITH_MODEL, "--out", out, "--k", 3)
    assert said.startswith(f"{out}: 6 tokens, ")
    view = PromptView.build(features, text, k=3)
    assert out.read_text() == view.render(tmp_path / "same.html").read_text()
    what = ["prompt", store, "--prompt", text, *WITH_MODEL, "--k", 3]
    done(*what, "--out", tmp_path / "x.json", "--metric", "logit_diff", "--answer", "Mary",
         "--wrong", "John", "--no-bos")  # fmt: skip
    view = PromptView.build(
        features, text, k=3, metric="logit_diff", answer=["Mary"], wrong=["John"],
        prepend_bos=False,
    )  # fmt: skip
    assert PromptView.load(tmp_path / "x.json") == view
    assert len(view.tokens) == 5
    assert view.score("attribution").features[-1].ids


# -- many features ---------------------------------------------------------------------------------


def test_an_index_and_going_on(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "pages"
    what = ["index", store, "--out", out, "--block", 2]
    some = [x for feature in range(5) for x in ("--feature", feature)]
    said = done(*what, *some)
    assert said.startswith(f"{out / 'index.html'}: a table of all features; beside it 3 files of ")
    assert data_of(out / "index.html", "index")["feature"] == list(range(5))
    before = {path: path.read_bytes() for path in out.rglob("*.*")}
    assert len(before) == 4
    (out / "data" / "00001.js").unlink()
    done(*what, *some)
    assert {path: path.read_bytes() for path in out.rglob("*.*")} == before
    (out / "data" / "00002.js").unlink()
    done(*what, *some, "--ray", "none")
    assert {path: path.read_bytes() for path in out.rglob("*.*")} == before
    refused(call(*what, *some, "--workers", 0), "0 workers: give one or more")
    done(*what, *some, "--one-file")
    assert [path.name for path in out.iterdir()] == ["index.html"]
    done("index", store, "--out", out, *some, "--no-loss-effects", "--layout", "compact",
         *WITH_MODEL)  # fmt: skip
    assert [path.name for path in (out / "data").iterdir()] == ["00000.js"]
    (out / "notes.txt").touch()
    refused(call(*what, *some), "others' files are left alone: choose another folder")


# -- what is refused, before the model runs --------------------------------------------------------


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may load a model or begin to gather from here on."""
    monkeypatch.setattr("sae_circuits.cli.options.open_model", lambda *_: pytest.fail("loaded"))
    monkeypatch.setattr(FeatureView, "build", lambda *_, **__: pytest.fail("gathered"))


@pytest.mark.usefixtures("never")
def test_bad_requests_are_noticed_first(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.html"
    broken = tmp_path / "broken.toml"
    broken.write_text("[[columns]\n")
    unknown = tmp_path / "unknown.toml"
    unknown.write_text('[[columns]]\n[[columns.panels]]\npanel = "tokns"\n')
    one = ["feature", store, "--feature", 3, *WITH_MODEL]
    for command, message in {
        (*one, "--out", out, "--layout", broken): "is not TOML: ",
        (*one, "--out", out, "--layout", unknown): "unknown panel 'tokns': did you mean 'tokens'",
        (*one, "--out", out, "--layout", "compat"): "did you mean 'compact'",
        (*one, "--out", out, "--layout", tmp_path / "no.toml"): "cannot read",
        (*one, "--out", tmp_path / "x.pdf"): "end the name in .html, or in .json",
        (*one, "--out", tmp_path / "no" / "x.html"): "there is no folder",
        (*one,): "give --out for a page, or --json to print the view: one of both",
        (*one, "--json", "--out", out): "give --out for a page, or --json",
        (*one, "--out", out, "--format", "neuronpedai"): "did you mean 'neuronpedia'",
        (*one, "--out", broken, "--format", "neuronpedia"): "a file stands where a folder is",
        (*one, "--out", out, "--dtype", "float3"): "unknown dtype 'float3'",
        ("feature", store, "--feature", 999, "--out", out): "no feature 999: there are 256",
        ("feature", store, "--feature", "nams", "--out", out): "no feature 'nams': those of",
        ("feature", store, "--feature", 3, "--out", out, "--ablation"): "--ablation needs the mode",
        ("feature", tmp_path, "--feature", 3, "--out", out): "no store at ",
        ("feature", store, "--out", out, "--model", "demo"): "give --model and --sae together",
        ("prompt", store, "--prompt", "", *WITH_MODEL, "--out", out): "the prompt is empty",
        ("prompt", store, "--prompt", "a", *WITH_MODEL, "--out", out, "--metric", "logit_dif"):
            "did you mean 'logit_diff'",
        ("prompt", store, "--prompt", "a", *WITH_MODEL, "--out", out, "--answer", "Mary"):
            "--answer and --wrong are of a metric",
        ("prompt", store, "--prompt", "a", *WITH_MODEL): "give --out for a page",
        ("index", store, "--feature", 999, "--out", tmp_path / "pages"): "no feature 999",
        ("index", tmp_path / "none", "--out", tmp_path / "pages"): "no store at ",
    }.items():  # fmt: skip
        refused(call(*command), message)
    assert not out.exists()
    assert not (tmp_path / "pages").exists()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="all is allowed to root")
@pytest.mark.usefixtures("never")
def test_a_folder_that_cannot_be_written(store: Path, tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        what = ["feature", store, "--feature", 3, *WITH_MODEL]
        refused(call(*what, "--out", tmp_path / "x.html"), "permission denied")
    finally:
        tmp_path.chmod(stat.S_IRWXU)


def test_a_dictionary_that_is_not_the_stores(store: Path, tmp_path: Path) -> None:
    what = ["feature", store, "--feature", 3, "--model", "demo", "--sae", "mlp_out.0"]
    refused(call(*what, "--out", tmp_path / "x.html"), "and this is")
