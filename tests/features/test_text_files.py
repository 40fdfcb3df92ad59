"""Corpora from files of text."""

from __future__ import annotations

import json

import pytest

import sae_circuits as sc
from sae_circuits.errors import CorpusError, FileFormatError
from sae_circuits.features.corpus import Corpus
from small_tokenizers import byte_level

ONE, OTHER = "The keys are", "Mary went to the café"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "whole.txt").write_text(f"{ONE}\n\n{OTHER}\n")
    rows = [{"text": ONE, "id": 1}, {"text": OTHER}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    (tmp_path / "list.json").write_text(json.dumps([ONE, {"text": OTHER}]))
    (tmp_path / "other.jsonl").write_text(json.dumps({"said": ONE}) + "\n")
    return tmp_path


def texts(*paths: object, **options: object) -> list[str]:
    """Each prompt's text, of bytes that read as they are."""
    corpus = Corpus.from_files([*paths], byte_level(), prepend_bos=False, **options)
    return [corpus.text(prompt).replace("<0xC3><0xA9>", "é") for prompt in corpus]


def test_text_files_as_a_whole_and_by_lines(folder):
    assert texts(folder / "whole.txt") == [f"{ONE}\n\n{OTHER}\n"]
    assert texts(folder / "whole.txt", lines=True) == [ONE, OTHER]


def test_json_by_lines_and_as_a_list(folder):
    assert texts(folder / "rows.jsonl") == texts(folder / "list.json") == [ONE, OTHER]
    assert texts(folder / "other.jsonl", field="said") == [ONE]


def test_several_files_are_one_corpus(folder):
    assert texts(folder / "list.json", folder / "rows.jsonl") == [ONE, OTHER] * 2
    corpus = Corpus.from_files(str(folder / "list.json"), byte_level())
    assert (corpus.name, corpus.n_prompts) == ("list", 2)


def test_encodings(folder):
    (folder / "latin.txt").write_bytes(OTHER.encode("latin-1"))
    (folder / "marked.txt").write_bytes(OTHER.encode("utf-16"))
    assert texts(folder / "latin.txt", encoding="latin-1") == [OTHER]
    assert texts(folder / "marked.txt") == [OTHER]
    (folder / "latin.txt").write_bytes(f"{ONE}\n{OTHER}".encode("latin-1"))
    with pytest.raises(FileFormatError, match=r"latin\.txt is not UTF-8 text: line 2 has .* 0xe9"):
        texts(folder / "latin.txt")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", "", "a.txt holds no text: it is empty"),
        ("a.txt", "\n \n", "a.txt holds no text"),
        ("a.jsonl", "", "a.jsonl holds no text"),
        ("a.json", "", "a.json holds no text"),
        ("a.jsonl", '{"text": "the"}\n{"text": ', "line 2 of .*a.jsonl is not JSON: "),
        ("a.jsonl", '"the"\n\n{"said": 1}', r"line 3 of .* has the fields 'said', not 'text'"),
        ("a.jsonl", '{"text": null}', "line 1 of .*a.jsonl holds None where a text is needed"),
        ("a.jsonl", "5", "line 1 of .*a.jsonl holds 5 where a text"),
        ("a.json", '["the", {"text": 5}]', "entry 2 of .*a.json holds 5 where a text"),
        ("a.json", '{"text": "the"}', "a.json holds a dict: it must hold a list"),
        ("a.json", "[1, ", "a.json is not JSON: .* line 1"),
        ("a.csv", "text\nthe", "a.csv is neither text nor JSON by its name: give files that end"),
    ],
)
def test_files_that_make_no_corpus(tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    with pytest.raises(FileFormatError, match=said):
        texts(tmp_path / name)


def test_an_empty_file_among_others_is_named(folder):
    (folder / "empty.txt").write_text("")
    with pytest.raises(FileFormatError, match=r"empty\.txt holds no text"):
        texts(folder / "whole.txt", folder / "empty.txt")


def test_places_that_are_no_file(tmp_path):
    with pytest.raises(FileFormatError, match=r"cannot read .*none\.txt': there is no such file"):
        texts(tmp_path / "none.txt")
    with pytest.raises(FileFormatError, match=r"is a folder: .* Corpus\.from_dataset"):
        texts(tmp_path)
    with pytest.raises(CorpusError, match="there is no file: give at least one"):
        texts()


def test_words_that_the_model_lacks_are_special(tmp_path):
    (tmp_path / "a.txt").write_text("The xyzzy are")
    corpus = Corpus.from_files(tmp_path / "a.txt", sc.load_model("demo"))
    assert corpus.text(corpus.prompt(0)) == "<|endoftext|> The <|unknown|> are"
    assert corpus.vocabulary.is_special[corpus.tokens].tolist() == [True, False, True, False]
