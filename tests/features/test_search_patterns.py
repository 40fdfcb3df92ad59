"""Regular expressions in searches are those that the store can match."""

from __future__ import annotations

import pytest

import sae_circuits as sc
from sae_circuits.errors import OptionError


@pytest.fixture(scope="module")
def features() -> sc.FeatureDictionary:
    (sae,) = sc.load_saes("demo", ["mlp_out.1"])
    return sc.FeatureDictionary.build(sc.load_model("demo"), sae, sc.demo_corpus(1000))


@pytest.mark.parametrize("pattern", ["(", "(?=a)b", r"(a)\1"])  # Python's own takes the last two
@pytest.mark.parametrize("by", ["token", "logit"])
def test_one_that_the_store_cannot_match_is_refused(features, by, pattern):
    with pytest.raises(OptionError, match="no regular expression"):
        features.search(**{by: pattern}, how="regex")
    with pytest.raises(OptionError, match="no regular expression"):
        features.search(token=["fine", pattern], how="regex")


def test_one_finds_what_its_tokens_find(features):
    by_pattern = features.search(token="^(and|the)$", how="regex", n=300)
    by_words = features.search(token=["and", "the"], n=300)
    assert len(by_words) > 10
    assert by_pattern.equals(by_words)
    assert features.search(token="(", n=300).token_found.str.contains("(", regex=False).all()
