"""Corpora from texts, data sets and tokens; their parts, and their files."""

from __future__ import annotations

import json

import datasets
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import sae_circuits as sc
from sae_circuits.disk.arrays import write_arrays
from sae_circuits.errors import (
    CorpusError,
    FileFormatError,
    OptionError,
    OutputError,
    UnknownName,
)
from sae_circuits.features.corpus import Corpus
from sae_circuits.features.vocabulary import Vocabulary
from sae_circuits.models.small import random_model
from small_tokenizers import byte_level, word_level

# The shape checks pick a random element of each list, which Hypothesis takes for ours.
pytestmark = pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")
# One folder serves all examples of a property: each overwrites the file of the last.
REUSED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
TOKENIZER = byte_level()
WORDS = Vocabulary(("<s>", "a", "b", "c", "d"), frozenset({0}), " ")


@pytest.fixture(scope="module")
def demo():
    return sc.load_model("demo")


def rows_of(corpus: Corpus) -> list[list[int]]:
    return [prompt.tolist() for prompt in corpus]


prompts = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=6), min_size=1, max_size=6)


# -- texts -----------------------------------------------------------------------------------------


def test_texts_become_prompts_that_begin_as_the_tokenizer_has_them(demo):
    texts = ["The keys near the cabinet are", "Then, Mary"]
    corpus = Corpus.from_texts(texts, demo)
    encode = demo.tokenizer.encode
    assert rows_of(corpus) == [[0, *encode(text, add_special_tokens=False)] for text in texts]
    assert (corpus.tokens.dtype, corpus.starts.tolist()) == (np.int32, [0, 7, 11])
    assert corpus.text(corpus.prompt(1)) == "<|endoftext|> Then , Mary"
    bare = Corpus.from_texts(texts, demo, prepend_bos=False)
    assert rows_of(bare) == [row[1:] for row in rows_of(corpus)]
    assert rows_of(Corpus.from_texts(texts[0], demo)) == rows_of(corpus)[:1]
    assert rows_of(Corpus.from_texts(iter(texts), demo.tokenizer)) == rows_of(corpus)


def test_long_texts_are_cut_and_short_ones_kept():
    tokenizer = word_level(("a", "b", "c", "d"))
    corpus = Corpus.from_texts(["a b c d a", "", "b", " ", "c d"], tokenizer, n_ctx=3)
    texts = [corpus.vocabulary.read(prompt) for prompt in corpus]
    assert texts == ["<s> a b", "<s> c d", "<s> a", "<s> b", "<s> c d"]
    whole = Corpus.from_texts(["a b c d a"], tokenizer, n_ctx=5, prepend_bos=False)
    assert rows_of(whole) == [[2, 3, 4, 5, 2]]


def test_prompts_are_as_long_as_the_model_reads(demo, caplog):
    corpus = Corpus.from_texts(["the " * 100], demo)
    assert np.diff(corpus.starts).tolist() == [32, 32, 32, 8]  # 31 words each, and 7
    assert np.diff(Corpus.from_texts(["the " * 3000], TOKENIZER).starts)[:-1].tolist() == [1024] * 2
    assert not caplog.records  # transformers has nothing to say about long texts


def test_many_texts_come_out_as_one_by_one(demo):
    texts = [f"The keys near the {place} are" for place in ("car", "bridge")] * 1100 + ["", "is"]
    corpus = Corpus.from_texts(texts, demo)
    assert corpus.n_prompts == 2201
    assert rows_of(corpus[2198:]) == rows_of(Corpus.from_texts(texts[2198:], demo))


@settings(deadline=None)
@given(
    texts=st.lists(st.text("abc é\n", min_size=1), min_size=1, max_size=5),
    n_ctx=st.integers(2, 9),
    bos=st.booleans(),
)
def test_the_pieces_of_texts_are_the_texts(texts, n_ctx, bos):
    corpus = Corpus.from_texts(texts, TOKENIZER, n_ctx=n_ctx, prepend_bos=bos)
    assert corpus.longest <= n_ctx
    each = [TOKENIZER.encode(text, add_special_tokens=False) for text in texts]
    assert [t for row in rows_of(corpus) for t in row[bos:]] == [t for ids in each for t in ids]
    assert corpus.n_prompts == sum(-(-len(ids) // (n_ctx - bos)) for ids in each)
    assert all(row[0] == TOKENIZER.bos_token_id for row in rows_of(corpus)) or not bos


@pytest.mark.parametrize(
    ("texts", "options", "error", "said"),
    [
        ([], {}, CorpusError, "'texts': no text has a token"),
        (["", "  \n"], {}, CorpusError, "no text has a token that the tokenizer knows: give texts"),
        (["xyzzy plugh", "1"], {}, CorpusError, "in the language of the model"),
        (["the"], {"n_ctx": 33}, OptionError, "n_ctx=33 is more than the 32 tokens"),
        (["the"], {"n_ctx": 1}, OptionError, "n_ctx=1 leaves no room .* at least 2 tokens"),
        (["the"], {"n_ctx": 0, "prepend_bos": False}, OptionError, "n_ctx=0 .* at least 1 tokens"),
    ],
)
def test_texts_that_make_no_corpus(demo, texts, options, error, said):
    with pytest.raises(error, match=said):
        Corpus.from_texts(texts, demo, **options)


def test_texts_are_strings_and_need_a_tokenizer(demo):
    with pytest.raises(CorpusError, match="text 1 of 'mine' is a int, 5: give strings"):
        Corpus.from_texts((text for text in ["the", 5]), demo, name="mine")
    with pytest.raises(CorpusError, match="HookedTransformer has no tokenizer: pass a model with"):
        Corpus.from_texts(["the"], random_model())


# -- data sets -------------------------------------------------------------------------------------


def test_data_sets_in_memory_and_on_disk(demo, tmp_path):
    texts = ["The keys are", "Mary went to the store", "The capital of France is Paris"]
    expected = rows_of(Corpus.from_texts(texts, demo))
    data = datasets.Dataset.from_dict({"said": texts, "n": [1, 2, 3]})
    splits = datasets.DatasetDict({"train": data.select([0]), "test": data})
    splits.save_to_disk(str(tmp_path / "saved"))
    data.to_parquet(tmp_path / "rows.parquet")
    for place, options in (
        (data, {}),
        ([{"said": text} for text in texts], {}),
        (data.to_iterable_dataset(), {}),
        (splits, {"split": "test"}),
        (tmp_path / "saved", {"split": "test"}),
        (tmp_path / "rows.parquet", {}),
    ):
        corpus = Corpus.from_dataset(place, demo, column="said", **options)
        assert rows_of(corpus) == expected
    some = Corpus.from_dataset(str(tmp_path / "saved"), demo, column="said", split="test", n=2)
    assert (rows_of(some), some.name) == (expected[:2], "saved")


def test_token_ids_in_a_data_set_are_taken_as_they_are(demo):
    rows = [[5, 6, 7], [0], [], [8] * 70]
    data = datasets.Dataset.from_dict({"input_ids": rows})
    cut = [[5, 6, 7], [0], [8] * 32, [8] * 32, [8] * 6]
    for form in (None, "numpy", "torch"):
        corpus = Corpus.from_dataset(data.with_format(form), demo, column="input_ids", name="ids")
        assert (rows_of(corpus), corpus.name) == (cut, "ids")
    without = Corpus.from_dataset(data, random_model(), column="input_ids", n=1)
    assert without.text(without.prompt(0)) == "<id 5><id 6><id 7>"


@pytest.mark.parametrize(
    ("data", "options", "error", "said"),
    [
        ([{"text": "the"}], {"column": "txt"}, UnknownName, "column of the data set 'txt'"),
        ({"train": []}, {"split": "tset"}, UnknownName, "unknown split 'tset'"),
        ([], {}, CorpusError, "the data set has no row"),
        ([{"text": "the"}], {"n": 0}, OptionError, "n=0: ask for at least one row"),
        ([{"text": "the"}, {"text": None}], {}, CorpusError, "text 1 of 'dataset' is a NoneType"),
        (
            [{"text": None}],
            {},
            CorpusError,
            "row 0 of the data set holds None in the column 'text'",
        ),
        ([{"text": [5]}, {"text": [1.5]}], {}, CorpusError, r"row 1 .* holds \[1.5\]"),
        ([{"text": [5, 553]}], {}, CorpusError, "row 0 .* token id 553, and .* ids 0 to 552"),
        ("no/such-data", {}, CorpusError, "cannot load the data set 'no/such-data'"),
    ],
)
def test_data_sets_that_make_no_corpus(demo, data, options, error, said):
    with pytest.raises(error, match=said):
        Corpus.from_dataset(data, demo, **options)


# -- tokens ----------------------------------------------------------------------------------------


@given(rows=prompts, left=st.booleans(), filler=st.integers(-1, 4), kind=st.booleans())
def test_padding_on_either_side_is_dropped(rows, left, filler, kind):
    width = max(map(len, rows))
    tokens = np.full((len(rows), width), filler)
    mask = np.zeros((len(rows), width), dtype=bool)
    for i, row in enumerate(rows):
        where = slice(width - len(row), None) if left else slice(len(row))
        tokens[i, where], mask[i, where] = row, True
    if kind:
        corpus = Corpus.from_tokens(torch.as_tensor(tokens), WORDS, mask=torch.as_tensor(mask))
    else:
        corpus = Corpus.from_tokens(tokens, WORDS, mask=mask)
    expected = Corpus.of_prompts(rows, WORDS)
    assert corpus.fingerprint == expected.fingerprint
    assert (corpus.tokens.dtype, corpus.starts.dtype) == (np.int32, np.int64)


def test_tokens_without_padding(demo):
    assert rows_of(Corpus.from_tokens([[1, 2], [3, 4]], WORDS)) == [[1, 2], [3, 4]]
    assert rows_of(Corpus.from_tokens(torch.tensor([5, 6, 7]), demo)) == [[5, 6, 7]]
    assert rows_of(Corpus.from_tokens([0, 6, 7], demo, mask=[False, True, True])) == [[6, 7]]
    small = Corpus.from_tokens(np.array([[4]], dtype=np.uint8), WORDS)
    assert (rows_of(small), small.tokens.dtype) == ([[4]], np.int32)


@pytest.mark.parametrize(
    ("tokens", "mask", "said"),
    [
        ([[1.0, 2.0]], None, "torch.float32: token ids are whole numbers"),
        ([[True]], None, "torch.bool: token ids are whole numbers"),
        ([[1, 2], [3]], None, "is no table of token ids: .* unequal length to Corpus.of_prompts"),
        (["the"], None, "is no table of token ids"),
        ([], None, r"has the shape \(0,\)"),
        (np.zeros((1, 1, 1), dtype=int), None, r"has the shape \(1, 1, 1\)"),
        ([[1, 5]], None, "token id 5, and the vocabulary has ids 0 to 4"),
        ([[1, -1]], None, "token id -1"),
        ([[1, 2**32 + 1]], None, "token id 4294967297"),
        ([[1, 2, 3]], [[1, 0, 1]], "the mask of prompt 0 has a hole"),
        ([[1, 2], [3, 4]], [[1, 1], [0, 0]], "prompt 1 has no token"),
        ([[1, 2]], [[1]], r"the mask's shape \(1, 1\) is not that of the tokens \(1, 2\)"),
    ],
)
def test_tokens_that_make_no_corpus(tokens, mask, said):
    with pytest.raises(CorpusError, match=said):
        Corpus.from_tokens(tokens, WORDS, mask=mask)


# -- parts -----------------------------------------------------------------------------------------


@given(rows=prompts, data=st.data())
def test_parts_of_a_corpus_make_it_again(rows, data):
    corpus = Corpus.of_prompts(rows, WORDS)
    at = data.draw(st.integers(0, len(rows)))
    if 0 < at < len(rows):
        both = corpus[:at] + corpus[at:]
        assert (both.fingerprint, both.name) == (corpus.fingerprint, "corpus")
    low = data.draw(st.integers(0, len(rows) - 1))
    high = data.draw(st.integers(low + 1, len(rows)))
    assert rows_of(corpus[low:high]) == rows[low:high]
    twice = corpus + corpus
    assert rows_of(twice) == rows + rows
    each = [(i, pos) for i, row in enumerate(rows) for pos in range(len(row))]
    found = corpus.locate(np.arange(corpus.n_tokens))
    assert list(zip(*(half.tolist() for half in found), strict=True)) == each
    assert corpus.positions.tolist() == [pos for _, pos in each]


def test_a_fingerprint_hangs_on_all_that_a_corpus_says():
    made = [
        Corpus.of_prompts([[1, 2], [3]], WORDS),
        Corpus.of_prompts([[1], [2, 3]], WORDS),
        Corpus.of_prompts([[1, 2], [4]], WORDS),
        Corpus.of_prompts([[1, 2], [3]], Vocabulary(WORDS.texts[:4], WORDS.special, " ")),
        Corpus.of_prompts([[1, 2], [3]], Vocabulary(WORDS.texts, frozenset(), " ")),
        Corpus.of_prompts([[1, 2], [3]], Vocabulary(WORDS.texts, WORDS.special)),
    ]
    assert len({corpus.fingerprint for corpus in made}) == 6
    assert Corpus.of_prompts([[1, 2], [3]], WORDS, "b").fingerprint == made[0].fingerprint


def test_what_is_no_corpus():
    corpus = Corpus.of_prompts([[1, 2], [3]], WORDS)
    with pytest.raises(CorpusError, match="has no prompt"):
        corpus[2:]
    with pytest.raises(CorpusError, match="only prompts in a row"):
        corpus[::2]
    with pytest.raises(CorpusError, match="prompt 1 has no token"):
        Corpus.of_prompts([[1], []], WORDS)
    with pytest.raises(CorpusError, match="of different tokenizers"):
        corpus + Corpus.of_prompts([[1]], Vocabulary(("x", "y")))


# -- files -----------------------------------------------------------------------------------------


@REUSED
@given(
    rows=prompts,
    texts=st.lists(st.text(), min_size=5, max_size=7),
    special=st.frozensets(st.integers(0, 4)),
    gap=st.sampled_from(["", " "]),
    name=st.text(st.characters(blacklist_categories=("Cs",))),
)
def test_files_give_the_corpus_back(rows, texts, special, gap, name, tmp_path):
    corpus = Corpus.of_prompts(rows, Vocabulary(tuple(texts), special, gap), name)
    held = Corpus.load(corpus.save(tmp_path / "c.safetensors"))
    assert rows_of(held) == rows
    assert held.vocabulary.texts == tuple(texts)
    assert (held.vocabulary.special, held.vocabulary.gap) == (special, gap)
    assert (held.name, held.fingerprint) == (name, corpus.fingerprint)
    assert (held.tokens.dtype, held.starts.dtype) == (np.int32, np.int64)


@pytest.fixture
def saved(tmp_path):
    return Corpus.of_prompts([[1, 2, 3], [4, 0]], WORDS, "mine").save(tmp_path / "c.safetensors")


def test_files_that_were_cut_or_changed_are_refused(saved):
    whole = saved.read_bytes()
    for size in (0, 5, len(whole) // 2, len(whole) - 1):
        saved.write_bytes(whole[:size])
        with pytest.raises(FileFormatError, match=r"c\.safetensors' is damaged"):
            Corpus.load(saved)
    arrays = load_file(save_again(saved, whole))
    arrays["tokens"][0] = 2
    rewrite(saved, whole, arrays)
    with pytest.raises(FileFormatError, match="its tokens are not those that were saved"):
        Corpus.load(saved)
    arrays["tokens"][0] = 99
    rewrite(saved, whole, arrays)
    with pytest.raises(FileFormatError, match=r"does not hold what it says: .* token id 99"):
        Corpus.load(saved)
    del arrays["tokens"]
    rewrite(saved, whole, arrays)
    with pytest.raises(FileFormatError, match="lacks 'tokens'"):
        Corpus.load(saved)


def save_again(path, data: bytes):
    path.write_bytes(data)
    return path


def rewrite(path, data: bytes, arrays: dict[str, np.ndarray]) -> None:
    """Other arrays with the same metadata."""
    size = int.from_bytes(data[:8], "little")
    save_file(arrays, path, metadata=json.loads(data[8 : 8 + size])["__metadata__"])


def test_other_files_are_refused(saved, tmp_path):
    with pytest.raises(FileFormatError, match=r"no file .*missing"):
        Corpus.load(tmp_path / "missing.safetensors")
    some = {"tokens": np.zeros(1, dtype=np.int32)}
    other = write_arrays(tmp_path / "o.safetensors", "shard", 1, some, {})
    with pytest.raises(FileFormatError, match="holds a 'shard', and not a 'corpus'"):
        Corpus.load(other)
    newer = write_arrays(tmp_path / "n.safetensors", "corpus", 2, some, {})
    with pytest.raises(FileFormatError, match="is of schema 2"):
        Corpus.load(newer)
    with pytest.raises(FileFormatError, match=r"a corpus is read by Corpus\.load"):
        sc.load(saved)
    with pytest.raises(OutputError, match=r"end the name in '\.safetensors'"):
        Corpus.load(saved).save(tmp_path / "c.json")
    with pytest.raises(OutputError, match="does not exist"):
        Corpus.load(saved).save(tmp_path / "none" / "c.safetensors")
