"""`sae-circuits features`: stores are built, labelled, searched, shown, exported and merged."""

from __future__ import annotations

import json
import shlex
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import command_line
import sae_circuits as sc
from command_line import refused
from sae_circuits.cli.features import COMMANDS
from sae_circuits.features.columns import Columns
from sae_circuits.features.dictionary import STORE
from sae_circuits.features.labels.kept import Made
from sae_circuits.features.labels.ready import Ready
from sae_circuits.features.store.schema import TABLES
from small_stores import planted

call, done = (partial(run, "features") for run in (command_line.call, command_line.done))
SAE = "resid_post.1"


def build(out: Path, *arguments: object) -> list[object]:
    return ["build", "--sae", SAE, "--out", out, *arguments]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the bundled model, labelled, to be read and not changed."""
    out = tmp_path_factory.mktemp("stores") / "store"
    done(*build(out, "--corpus", "demo:2000"))
    names = r'patterns.custom={"name": "\\b(?:Mary|John|Linda|Emma|Scott|Susan|Paul)\\b"}'
    done("label", out, "--strategy", "tokens", "--strategy", "patterns", "--option", names)
    return out


# -- what needs no model ---------------------------------------------------------------------------


@pytest.mark.parametrize("command", [None, *(command.__name__ for command in COMMANDS)])
def test_each_help_ends_in_an_example(command: str | None) -> None:
    *_, heading, example = done(*([command] if command else []), "--help").rstrip().splitlines()
    assert heading.strip() == "Example:"
    assert example.strip().startswith(f"sae-circuits features {command or 'build'} ")


@pytest.mark.parametrize("example", COMMANDS.values())
def test_the_examples_parse(example: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sae_circuits.cli.options.open_model", _stop)
    result = call(*shlex.split(example)[2:])
    assert result.exit_code in (2, 77), result.output  # there is no such store
    assert "Usage" not in result.output


def _stop(*_: object, **__: object) -> None:
    raise SystemExit(77)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--corpus", "demo:many"], "--corpus 'demo:many': give a number of tokens"),
        (["--corpus", "demo:0"], "--corpus 'demo:0': give a number of tokens"),
        (["--corpus", "none.txt"], "cannot read 'none.txt': no such file"),
        (["--memory", "lots"], "memory='lots' is no size: give bytes"),
        (["--max-norm", "-1"], "max_norm=-1.0: give a positive number"),
        (["--dtype", "float23"], "unknown dtype 'float23': did you mean 'float32'"),
        (["--sae", "none"], "--sae 'none' is no folder"),
    ],
)
def test_bad_options_are_refused_before_the_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], message: str
) -> None:
    monkeypatch.setattr("sae_circuits.cli.options.open_model", _stop)
    refused(call(*build(tmp_path / "out", "--corpus", "demo:100"), *arguments), message)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--strategy", "tokns"], "unknown strategy 'tokns': did you mean 'tokens'"),
        (["--strategy", "logits"], "strategy 'logits' needs the model: give --model and --sae"),
        (["--option", "most=3"], "--option 'most=3': give STRATEGY.OPTION=VALUE"),
        (["--sae", SAE], "give --model and --sae together"),
        ([], "no store at "),
    ],
)
def test_labels_that_cannot_be_made_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], message: str
) -> None:
    monkeypatch.setattr("sae_circuits.cli.options.open_model", _stop)
    if arguments[:1] == ["--sae"]:
        monkeypatch.setattr("sae_circuits.features.dictionary.FeatureDictionary.load", _any)
    refused(call("label", tmp_path, *arguments), message)


def _any(*_: object) -> Any:
    class Anything:
        def __getattr__(self, name: str) -> Any:
            return self

        def __call__(self) -> None:
            return None

    return Anything()


# -- building --------------------------------------------------------------------------------------


def test_a_store_is_built_once_and_gone_on_with(store: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(store, tmp_path / "store"))
    again = build(folder, "--corpus", "demo:2000")
    said = done(*again).splitlines()
    assert said[0] == f"Nothing to do: {folder} holds this already."
    assert said[1].startswith(f"FeatureDictionary({SAE!r}: 256 features on ")
    counts = [int(part.split()[0]) for part in said[2].removeprefix("Types: ").split(", ")]
    assert sum(counts) == 256
    refused(call(*build(folder, "--corpus", "demo:2001")), "holds a store of other data")
    refused(call(*again, "--skip-position", "1"), "holds a store of other data")
    before = tables(folder)
    (folder / STORE).unlink()  # as after an interruption
    said = done(*again).splitlines()[0]
    done_before = sc.Corpus.load(folder / "corpus.safetensors").n_prompts
    assert said == (
        f"Went on from an earlier run: {done_before:,} of {done_before:,} prompts were done."
    )
    assert tables(folder) == before


def test_workers_are_asked_for_by_options(store: Path, tmp_path: Path) -> None:
    again = build(tmp_path / "again", "--corpus", "demo:2000")
    done(*again, "--ray", "none", "--workers", 1)
    found, whole = (sc.FeatureDictionary.load(path) for path in (tmp_path / "again", store))
    assert found.made == whole.made
    label = ["label", tmp_path / "again", "--strategy", "previous"]
    said = done(*label, "--ray", "none", "--workers", 2)
    assert not (tmp_path / "again" / "labels").exists()
    assert done(*label) == said
    for command in (again, label):
        said = "--gpus-per-worker is of Ray's workers"
        refused(call(*command, "--gpus-per-worker", 1), said)
    refused(call(*again, "--ray", "none", "--workers", 0), "0 workers: give one or more")


def test_labels_that_were_not_all_made_are_gone_on_with(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (shutil.copytree(store, tmp_path / name) for name in "ab")
    command = ["label", other, "--strategy", "previous", "--feature", 3, "--feature", 131]
    made = Ready.made

    def once(self: Ready, columns: Columns) -> Made:
        monkeypatch.setattr(Ready, "made", _stop)
        return made(self, columns)

    monkeypatch.setattr("sae_circuits.features.labels.job.TOGETHER", 1)
    monkeypatch.setattr(Ready, "made", once)
    assert call(*command).exit_code == 77
    (kept,) = (other / "labels").iterdir()
    assert [path.name for path in kept.glob("*.safetensors")] == ["00000.safetensors"]
    monkeypatch.setattr(Ready, "made", made)
    assert done(*command) == done(command[0], one, *command[2:])
    assert not (other / "labels").exists()


def test_files_are_read_and_masks_are_heeded(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("The capital of France is Paris")
    (tmp_path / "b.jsonl").write_text('{"said": "The keys are old"}\n')
    files = ["--corpus", tmp_path / "a.txt", "--corpus", tmp_path / "b.jsonl", "--field", "said"]
    done(*build(tmp_path / "s", *files, "--skip-position", 1, "--skip-token", "is", "--special",
                "--memory", "100MB", "--batch-tokens", 5))  # fmt: skip
    features = sc.FeatureDictionary.load(tmp_path / "s")
    corpus = features.corpus
    assert [corpus.text(prompt) for prompt in corpus] == [
        "<|endoftext|> The capital of France is Paris",
        "<|endoftext|> The keys are old",
    ]
    counted = corpus.tokens[features.activations.counted]
    assert (
        corpus.text(counted) == "<|endoftext|> capital of France Paris <|endoftext|> keys are old"
    )


def test_one_dictionary_is_described_at_a_time(tmp_path: Path) -> None:
    what = ["build", "--corpus", "demo:100", "--out", tmp_path / "s", "--sae", "demo"]
    refused(call(*what), "say which one with --sae-id")
    assert "'z.0': 256 features" in done(*what, "--sae-id", "z.0")


# -- looking up ------------------------------------------------------------------------------------


def test_search_says_what_the_library_finds(store: Path) -> None:
    features = sc.FeatureDictionary.load(store)
    asked = ["search", store, "--token", "john", "--token", "Mary", "--how", "any-case", "--n", 5]
    rows = json.loads(done(*asked, "--json"))
    found = features.search(token=["john", "Mary"], how="any-case", n=5)
    assert [row["feature"] for row in rows] == found.feature.tolist()
    assert [row["token_score"] for row in rows] == pytest.approx(found.token_score.tolist(), 1e-14)
    assert {row["name"] for row in rows} == {None}
    head, *lines = done(*asked).splitlines()
    assert "token_score" in head.split()
    assert "name" not in head.split()  # nothing stands there
    assert [int(line.split()[0]) for line in lines] == found.feature.tolist()
    few = json.loads(done("search", store, "--where", "density < 0.01", "--order", "n_active",
                          "--n", 3, "--json"))  # fmt: skip
    assert [row["feature"] for row in few] == features.search(
        where="density < 0.01", order="n_active", n=3
    ).feature.tolist()
    names = json.loads(done("search", store, "--label", "name", "--n", 1, "--json"))
    assert names[0]["feature"] == features.search(label="name").feature[0]
    assert done("search", store, "--text", "no such text") == "No feature.\n"
    assert json.loads(done("search", store, "--text", "no such text", "--json")) == []
    assert "logit_score" in done("search", store, "--logit", "Mary")


def test_questions_that_make_no_sense_are_refused(store: Path, tmp_path: Path) -> None:
    refused(call("search", store), "nothing to search by: give token, label, logit, text or where")
    refused(call("search", store, "--token", "(", "--how", "regex"), "no regular expression")
    refused(call("search", store, "--token", "a", "--how", "fuzzy"), "unknown way to read a text")
    refused(call("search", tmp_path, "--token", "a"), "no store at ")
    refused(call("show", store, 256), "no feature 256: there are 256, 0 to 255")
    refused(
        call("search", store, "--where", "dense < 1"),
        "--where 'dense < 1' cannot be asked: Binder Error: Referenced column \"dense\" not found",
    )


def test_show_prints_a_feature_and_writes_its_page(store: Path, tmp_path: Path) -> None:
    features = sc.FeatureDictionary.load(store)
    i = int(features.search(label="name").feature[0])
    feature = features.feature(i)
    assert sc.FeatureDictionary.load(store).feature(int(i)).gap == " "  # its tokens are words
    page = tmp_path / "feature.html"
    said = done("show", store, i, "--html", page)
    assert said.startswith(f"Feature({i}: ")
    assert f"Label: {feature.label} (" in said
    assert f"{feature.tokens[0]['text']!r} {feature.tokens[0]['share']:.0%}" in said
    top = feature.top()[0]
    assert f"{top.activation:.4g}  {top.prompt}:{top.position} " in said
    assert f" [{top.tokens[top.position - top.first]}] " in said
    assert said.endswith(f"Page: {page}\n")
    assert "&lt;|endoftext|&gt;" in page.read_text()
    assert f"<title>Feature {i}</title>" in page.read_text()
    in_json = json.loads(done("show", store, i, "--json"))
    assert in_json["statistics"] == dict(feature.statistics)
    assert in_json["examples"][0]["tokens"] == list(top.tokens)
    dead = int(features.of_type("dead").feature[0])
    assert "Never active on this corpus." in done("show", store, dead)
    assert json.loads(done("show", store, dead, "--json"))["statistics"]["mean_active"] is None


def test_export_writes_some_or_all(store: Path, tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    assert done("export", store, path, "--feature", 3, "--feature", 5) == f"{path}\n"
    assert [row["feature"] for row in json.loads(path.read_text())["features"]] == [3, 5]
    done("export", store, tmp_path / "all")
    assert {p.name for p in (tmp_path / "all").iterdir()} == {f"{name}.parquet" for name in TABLES}
    refused(call("export", store, path, "--feature", 999), "no feature 999")
    refused(call("export", store, tmp_path / "all", "--feature", 3), ".json")


def test_features_go_by_their_names_too(tmp_path: Path) -> None:
    folder = planted(tmp_path / "planted").folder
    features = sc.FeatureDictionary.load(folder)
    assert done("show", folder, "names") == done("show", folder, 1)
    assert "<title>Feature 1</title>" in (
        done("show", folder, "names", "--html", tmp_path / "1.html")
        and (tmp_path / "1.html").read_text()
    )
    done("export", folder, tmp_path / "two.json", "--feature", "tags", "--feature", 1)
    rows = json.loads((tmp_path / "two.json").read_text())["features"]
    assert [row["name"] for row in rows] == ["names", "tags"]
    features.database.close()
    texts = 'manual.texts={"names": "given names", "2": "tags"}'
    done("label", folder, "--strategy", "manual", "--option", texts, "--feature", "names")
    assert features.labels()[["feature", "text"]].values.tolist() == [[1, "given names"]]
    refused(call("show", folder, "name"), "names")
    refused(call("label", folder, "--feature", "tag"), "tags")


# -- changing --------------------------------------------------------------------------------------


def tables(store: Path) -> dict[str, Any]:
    """All that follows from the data, in an order of its own."""
    database = sc.FeatureDictionary.load(store).database
    names = sorted(TABLES.keys() - {"meta", "labels"})
    return {name: sorted(map(repr, database.rows(f'FROM "{name}"'))) for name in names}


def test_two_halves_merged_are_the_whole(tmp_path: Path) -> None:
    for name, parts in {"a": ["demo:900:0"], "b": ["demo:900:1"],
                        "whole": ["demo:900:0", "demo:900:1"]}.items():  # fmt: skip
        done(*build(tmp_path / name, *(x for part in parts for x in ("--corpus", part))))
    out = tmp_path / "merged"
    said = done("merge", tmp_path / "a", tmp_path / "b", "--out", out)
    assert said.endswith(f"Store: {out}\n")
    merged, whole = tables(out), tables(tmp_path / "whole")
    assert merged == whole  # what the features write among it, though the model was not there
    assert len(merged["logits"]) == 256 * 20
    both = ["merge", tmp_path / "a", tmp_path / "b", "--out"]
    refused(call(*both, out), "is not empty: choose another folder")
    refused(call("merge", tmp_path / "a", "--out", tmp_path / "c"), "1 store: give two or more")


def test_labels_that_need_the_model_get_it_and_words_of_ones_own_come_first(
    store: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(store, tmp_path / "store"))
    before = len(sc.FeatureDictionary.load(folder).labels(shown=False))
    said = done("label", folder, "--strategy", "logits", "--strategy", "manual", "--option",
                'manual.texts={"7": "my words"}', "--option", "manual.author=ada", "--feature", 7,
                "--feature", 8, "--model", "demo", "--sae", SAE)  # fmt: skip
    labels = sc.FeatureDictionary.load(folder).labels(shown=False)
    mine = labels[labels.strategy.isin(["logits", "manual"])]
    assert said.startswith(f"{len(mine)} labels made; ")
    assert len(labels) == before + len(mine)
    assert set(mine.feature) == {7, 8}
    assert sc.FeatureDictionary.load(folder).feature(7).label == "my words"
    more = ["--option", "logits.named=2", "--feature", 7, "--model", "demo", "--sae", SAE]
    assert "labels made" in done("label", folder, "--strategy", "logits", *more)
    dead = sc.FeatureDictionary.load(folder).of_type("dead").feature[0]
    assert done("label", folder, "--feature", dead).startswith("0 labels made; 0, of 0 features")
    refused(
        call("label", folder, "--strategy", "logits", "--model", "demo", "--sae", "mlp_out.0"),
        "and this is",
    )
