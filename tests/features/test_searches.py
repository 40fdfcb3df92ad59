"""Questions to a store of planted features, with known answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sae_circuits.errors import OptionError, StoreError, UnknownName
from small_stores import planted, store


@pytest.fixture(scope="module")
def features():
    found = planted()
    texts = {0: "truth", 1: "first names", 3: "nothing", 4: "ends of lines"}
    found.label("manual", manual={"texts": texts})
    return found


@pytest.mark.parametrize(
    ("asked", "how", "names"),
    [
        ("John", "exact", ["names", "truth"]),  # 2/5 of the firings against 2/4
        (" John", "exact", ["names", "truth"]),
        (1, "exact", ["names", "truth"]),
        ("john", "exact", ["truth", "names"]),
        ("JOHN", "any-case", ["names", "truth"]),
        ("ohn", "substring", ["names", "truth"]),
        ("^ Johnny$", "regex", ["names"]),
        (r"^ \d+$", "regex", ["digits"]),
        (["42", "\n"], "exact", ["digits", "line ends"]),
        ([6, " 42"], "exact", ["digits", "tags"]),
        ("\n", "exact", ["line ends"]),
        ("<script>alert(1)</script>", "exact", ["tags"]),
        ("'; DROP TABLE features; --", "exact", []),
    ],
)
def test_features_by_token(features, asked, how, names):
    found = features.search(token=asked, how=how)
    assert sorted(found.name) == sorted(names)
    scores = found.token_score.tolist()
    assert scores == sorted(scores, reverse=True)


def test_scores_join_the_share_of_firings_and_the_share_of_the_tokens(features):
    found = features.search(token="john", how="any-case").set_index("name")
    assert found.token_share.to_dict() == {"names": 4 / 5, "truth": 1.0}
    assert found.token_recall.to_dict() == {"names": 1.0, "truth": 1.0}
    assert found.token_score.to_dict() == {"names": pytest.approx(8 / 9), "truth": 1.0}
    assert found.index.tolist() == ["truth", "names"]
    assert found.token_found["names"] == " John, john"
    (one,) = features.search(token="Johnny").to_dict("records")
    assert (one["name"], one["token_share"], one["label"]) == ("names", 1 / 5, "first names")
    assert one["token_score"] == pytest.approx(1 / 3)  # of 1/5 and 1


def test_features_by_label_text_and_numbers(features):
    assert features.search(label="NAMES").name.tolist() == ["names"]
    assert features.search(label="t").name.tolist() == ["truth", "names", "silent"]
    assert features.search(text="Script").name.tolist() == ["truth", "tags", "names", "digits"]
    assert features.search(where="density = 0").name.tolist() == ["silent"]
    assert features.search(where="max >= 2", order="max").name.tolist() == [
        "truth", "tags", "line ends"
    ]  # fmt: skip
    assert features.search(where="max >= 2", order="max", n=1).name.tolist() == ["truth"]
    both = features.search(token="John", label="first", where="density < 0.9")
    assert both.name.tolist() == ["names"]
    assert features.search(token="42", label="first").empty
    assert features.top("n_active", 2).name.tolist() == ["names", "truth"]
    assert features.top("max", 1, smallest=True).name.tolist() == ["silent"]
    assert features.of_type("dead").name.tolist() == ["silent"]


def test_features_by_what_they_write():
    found = store()
    (row,) = found.query("FROM logits WHERE feature = 2 AND kind = 'top' AND rank = 1").itertuples()
    for asked in (int(row.token), f"w{row.token}"):
        rows = found.search(logit=asked).set_index("feature")
        assert rows.logit_score[2] == row.effect
        assert rows.logit_score.is_monotonic_decreasing
    assert found.search(logit=f"W{row.token}").empty


def test_features_have_names(features):
    assert features.feature("truth").id == features.feature(0).id == 0
    assert features.similar("truth").feature[0] == features.similar(0).feature[0]
    for wrong, said in (("trut", "did you mean 'truth'"), (6, "0 to 5"), (-1, "no feature -1")):
        with pytest.raises(UnknownName, match=said):
            features.feature(wrong)
    with pytest.raises(UnknownName, match="have no names; give an id, 0 to 8"):
        store().feature("truth")


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({}, OptionError, "nothing to search by"),
        ({"token": []}, OptionError, "no token"),
        ({"token": "a", "n": 0}, OptionError, "n=0"),
        ({"token": "(", "how": "regex"}, OptionError, "no regular expression.*missing"),
        ({"logit": "(?=a)", "how": "regex"}, OptionError, "no regular expression"),
        ({"token": "a", "how": "Exact"}, UnknownName, "did you mean 'exact'"),
        ({"token": "a", "order": "densty"}, UnknownName, "did you mean 'density'"),
        ({"where": "densty < 1"}, StoreError, "densty"),
        ({"where": "1 = 1) --"}, StoreError, "Error"),
    ],
)
def test_questions_that_make_no_sense(features, asked, error, said):
    with pytest.raises(error, match=said):
        features.search(**asked)


def test_other_questions_that_make_no_sense(features):
    for sql in ("", "selekt", "FROM nothing", "DELETE FROM labels", "SELECT ? + 1"):
        with pytest.raises(StoreError):
            features.query(sql)
    for ask in (lambda: features.top("x"), lambda: features.of_type("rare"),
                lambda: features.similar(0, by="cosin")):  # fmt: skip
        with pytest.raises(UnknownName):
            ask()
    with pytest.raises(OptionError, match="n=0"):
        features.top("max", 0)


def test_cards_show_what_tokens_read_and_no_more(features):
    card = features.feature("tags")._repr_html_()
    assert "<script" not in card
    assert "&lt;script&gt;alert(1)" in card
    joined = replace(features.feature("tags"), gap=" ~ ")._repr_html_()
    assert card.count("</span> ~ ") == 0 < joined.count("</span> ~ ")
    assert "Never active" in features.feature("silent")._repr_html_()
    assert "nan" not in features.feature("silent")._repr_html_().lower()
    assert [e.activation for e in features.feature("truth").top()] == [4.0, 2.0, 1.0]
