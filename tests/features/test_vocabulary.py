"""What tokens read, for each kind of tokenizer."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

import sae_circuits as sc
from sae_circuits.errors import CorpusError
from sae_circuits.features.vocabulary import Vocabulary
from sae_circuits.models.small import random_model
from sae_circuits.tracing.prompt import strings
from small_tokenizers import byte_level, sentence_piece, word_level

BYTE = re.compile(r"<0x([0-9A-F]{2})>")


@pytest.fixture(scope="module")
def demo():
    return sc.load_model("demo")


def bytes_of(text: str) -> bytes:
    """A text's bytes, with those that are spelt out as themselves."""
    parts = BYTE.split(text)
    return b"".join(
        bytes([int(part, 16)]) if i % 2 else part.encode() for i, part in enumerate(parts)
    )


def byte_fallback() -> PreTrainedTokenizerFast:
    """A tokenizer like Llama's: a mark for the space, and bytes for what it has no piece for."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", *"abcdefghijklmnopqrstuvwxyz", "▁the", "▁cup"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    merges = [("▁", "c"), ("▁c", "u"), ("▁cu", "p"), ("▁", "t"), ("▁t", "h"), ("▁th", "e")]
    for left, right in merges:
        vocabulary.setdefault(left + right, len(vocabulary))
    core = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    core.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", unk_token="<unk>")


def test_the_bundled_models_words_are_those_that_a_trace_shows(demo):
    vocabulary = Vocabulary.of(demo)
    assert vocabulary.texts == strings(demo, torch.arange(553))
    assert vocabulary.special == {0, 1, 2}
    ids = demo.tokenizer.encode("The keys near the cabinet", add_special_tokens=False)
    assert vocabulary.read(ids) == demo.tokenizer.decode(ids) == "The keys near the cabinet"


def test_byte_level_tokens_are_decoded():
    tokenizer = byte_level()
    vocabulary = Vocabulary.of(tokenizer)
    assert (len(vocabulary), vocabulary.gap) == (len(tokenizer), "")
    plain = [i for i in range(len(tokenizer)) if "\ufffd" not in tokenizer.decode([i])]
    assert len(plain) > len(tokenizer) - 200
    assert [vocabulary[i] for i in plain] == [tokenizer.decode([i]) for i in plain]
    assert not any(letter in text for text in vocabulary.texts for letter in "ĠĊ\ufffd")
    (went,) = tokenizer.encode(" went", add_special_tokens=False)
    assert vocabulary[went] == " went"
    parts = [vocabulary[i] for i in tokenizer.encode("é\n", add_special_tokens=False)]
    assert parts == ["<0xC3>", "<0xA9>", "\n"]


@settings(deadline=None)
@given(text=st.text(st.characters(blacklist_characters="<", blacklist_categories=("Cs",))))
def test_byte_level_tokens_read_as_the_text_that_they_are_of(text):
    tokenizer = byte_level()
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert bytes_of(VOCABULARY.read(ids)) == text.encode()


VOCABULARY = Vocabulary.of(byte_level())


def test_a_mark_for_the_space_is_a_space():
    tokenizer = sentence_piece()
    vocabulary = Vocabulary.of(tokenizer)
    ids = tokenizer.encode("Mary went to", add_special_tokens=False)
    assert [vocabulary[i] for i in ids] == [" Mary", " went", " to"]
    assert not any("▁" in text for text in vocabulary.texts)


def test_bytes_that_are_a_character_are_it_and_others_are_shown():
    tokenizer = byte_fallback()
    vocabulary = Vocabulary.of(tokenizer)
    ids = tokenizer.encode("the cup\né", add_special_tokens=False)
    assert [vocabulary[i] for i in ids] == [" the", " cup", "\n", "<0xC3>", "<0xA9>"]
    assert vocabulary.special == {0, 1}


def test_a_tokenizer_in_plain_python_is_read_too():
    tokenizer = ByT5Tokenizer(extra_ids=2)
    vocabulary = Vocabulary.of(tokenizer)
    ids = tokenizer.encode("a é", add_special_tokens=False)
    assert [vocabulary[i] for i in ids] == ["a", " ", "<0xC3>", "<0xA9>"]
    assert vocabulary.special == {0, 1, 2, 259, 260}


def test_ids_that_the_tokenizer_lacks_show_themselves():
    model = random_model()
    assert Vocabulary.of(model).texts == tuple(f"<id {i}>" for i in range(30))
    model.tokenizer = word_level(("the", "cup", "a"))
    vocabulary = Vocabulary.of(model)
    assert vocabulary.texts[:6] == ("<s>", "<unk>", "the", "cup", "a", "<id 5>")
    assert len(vocabulary) == 30


def test_ids_that_the_model_lacks_are_no_part_of_its_vocabulary():
    model = random_model()
    model.tokenizer = byte_level()
    assert len(Vocabulary.of(model)) == 30


def test_a_vocabulary_stays_and_nothing_has_none():
    assert Vocabulary.of(VOCABULARY) is VOCABULARY
    with pytest.raises(CorpusError, match="NoneType has no vocabulary: pass a model"):
        Vocabulary.of(None)


def test_special_tokens_are_those_added_as_such():
    tokenizer = word_level(("the", "cup"))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|reserved|>"]})
    vocabulary = Vocabulary.of(tokenizer)
    assert vocabulary.texts == ("<s>", "<unk>", "the", "cup", "<|reserved|>")
    assert vocabulary.is_special.tolist() == [True, True, False, False, True]


def test_half_a_character_is_refused():
    with pytest.raises(CorpusError, match=r"token 1, '\\ud83d', holds half a character"):
        Vocabulary(("a", "\ud83d"))
    assert Vocabulary(("a", "\U0001f600")).texts[1] == "\U0001f600"
