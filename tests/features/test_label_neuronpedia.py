"""Explanations in Neuronpedia's form become labels, and other files are refused."""

from __future__ import annotations

import gzip
import json

import pytest

from made_corpus import activity_of, firing, sentences
from sae_circuits.errors import FileFormatError, OptionError
from sae_circuits.features.labels import label
from sae_circuits.io.neuronpedia import Explanation, explanations_of, read_explanations

CORPUS = sentences(n_prompts=10)
ACTIVITY = activity_of(CORPUS, *[firing(CORPUS, lambda t, i: t[i] == " dog")] * 3)


def row(index=1, text="dogs", source="6-res-jb", **more):
    return {
        "modelId": "gpt2-small", "layer": source, "index": index, "description": text,
        "explanationModelName": "gpt-4o-mini", "typeName": "oai_token-act-pair",
        "embedding": "[0.0, 1.0]", **more,
    }  # fmt: skip


def written(path, rows):
    text = "\n".join(map(json.dumps, rows)) if ".jsonl" in path.suffixes else json.dumps(rows)
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["a.json", "a.json.gz", "a.jsonl", "batch-0.jsonl.gz"])
def test_files_of_either_form_become_labels(tmp_path, name):
    path = written(tmp_path / name, [row("2", " cats "), row(0), row(0), row(1, ""), row(1, None)])
    found = label(ACTIVITY, "neuronpedia", neuronpedia={"path": path})
    assert [(one.feature, one.text, one.strategy) for one in found] == [
        (0, "dogs", "neuronpedia"),
        (2, "cats", "neuronpedia"),
    ]
    assert all(one.shown and not one.tested for one in found)
    kept = {k: found[0].provenance[k] for k in ("model", "source", "by", "kind")}
    assert kept == {
        "model": "gpt2-small", "source": "6-res-jb", "by": "gpt-4o-mini",
        "kind": "oai_token-act-pair",
    }  # fmt: skip


def test_a_page_of_a_feature_nests_its_explanations():
    page = {"modelId": "m", "layer": "s", "index": "7", "explanations": [{"description": "x"}]}
    wanted = [Explanation(7, "x", "m", "s")]
    assert explanations_of(page) == explanations_of([page]) == wanted
    assert explanations_of({"explanations": [row()]})[0].text == "dogs"


def test_several_files_and_several_dictionaries(tmp_path):
    one = written(tmp_path / "1.jsonl", [row(0), row(1, "one", "7-res-jb")])
    two = written(tmp_path / "2.jsonl", [row(2, "two")])
    with pytest.raises(OptionError, match="one of gpt2-small/6-res-jb, gpt2-small/7-res-jb"):
        label(ACTIVITY, "neuronpedia", neuronpedia={"path": [one, two]})
    for source in ("6-res-jb", "gpt2-small/6-res-jb"):
        found = label(ACTIVITY, "neuronpedia", neuronpedia={"path": [one, two], "source": source})
        assert [found_one.text for found_one in found] == ["dogs", "two"]
    with pytest.raises(OptionError, match=r"no explanation of 8-res-jb.*they have gpt2-small/6"):
        label(ACTIVITY, "neuronpedia", neuronpedia={"path": one, "source": "8-res-jb"})


def test_a_feature_that_is_not_there_means_another_dictionary(tmp_path):
    path = written(tmp_path / "a.json", [row(3)])
    with pytest.raises(OptionError, match="feature 3, and this dictionary has 0 to 2"):
        label(ACTIVITY, "neuronpedia", neuronpedia={"path": path})
    with pytest.raises(OptionError, match="needs neuronpedia="):
        label(ACTIVITY, "neuronpedia")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"features": []}, "holds no list of explanations"),
        ("x", "holds no list"),
        ([1], "object 0 .*1 is no object"),
        ([row(), {k: v for k, v in row().items() if k != "layer"}], "object 1 .*lacks 'layer'"),
        ([row("x7")], "index is 'x7'"),
        ([row(-1)], "index is -1"),
        ([row(True)], "index is True"),
        ([row(text=3)], "description is 3"),
    ],
)
def test_other_files_are_refused_with_what_is_wrong(tmp_path, rows, message):
    with pytest.raises(FileFormatError, match=message):
        read_explanations(written(tmp_path / "a.json", rows))


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row()) + "\n{oh\n")
    with pytest.raises(FileFormatError, match="line 2: no JSON"):
        read_explanations(path)
    cut = tmp_path / "b.jsonl.gz"
    cut.write_bytes(gzip.compress(json.dumps([row()] * 99).encode())[:-20])
    with pytest.raises(FileFormatError, match="damaged or truncated"):
        read_explanations(cut)
    with pytest.raises(FileFormatError, match="cannot read"):
        read_explanations(tmp_path / "none.json")
