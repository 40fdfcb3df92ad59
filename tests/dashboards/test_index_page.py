"""The page of many features in a browser: files of data are read as they are needed, from disk."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import small_stores
from made_page import HELL, seen
from sae_circuits.dashboards import index, pages_job
from sae_circuits.dashboards.index import render_index
from sae_circuits.dashboards.profile import Profile
from sae_circuits.dashboards.views import FeatureView
from sae_circuits.features.corpus import Corpus, Vocabulary
from sae_circuits.features.dictionary import FeatureDictionary

pytestmark = pytest.mark.browser
MANY = 5_000


@pytest.fixture(scope="module")
def features() -> FeatureDictionary:
    return small_stores.store()


@pytest.fixture(scope="module")
def made(features: FeatureDictionary, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine features in five blocks, to be read and not changed."""
    return render_index(features, tmp_path_factory.mktemp("pages"), range(9), block=2)


def heading(page: Any) -> str:
    return page.locator("h1").inner_text()


def names(visit: Any) -> list[str]:
    """The files that were asked for, in order."""
    return [url.rpartition("/")[2] for url in visit.asked]


def shown(page: Any, feature: int) -> None:
    page.wait_for_function(
        f"document.querySelector('h1').innerText.startsWith('Feature {feature}')"
    )


def test_a_block_is_read_once_when_one_of_its_features_is_first_shown(visit, made) -> None:
    page = visit(made)
    assert names(visit) == ["index.html"]
    page.get_by_role("link", name="4", exact=True).first.click()
    shown(page, 4)
    assert names(visit) == ["index.html", "00002.js"]
    page.get_by_role("link", name="Next feature: 5").click()
    shown(page, 5)
    assert names(visit) == ["index.html", "00002.js"]
    page.get_by_role("link", name="Next feature: 6").click()
    shown(page, 6)
    assert names(visit) == ["index.html", "00002.js", "00003.js"]
    page.go_back()
    shown(page, 5)
    assert names(visit) == ["index.html", "00002.js", "00003.js"]


def test_a_link_leads_to_a_feature_with_its_tokens(visit, made, features) -> None:
    page = visit(made, "#feature=7")
    shown(page, 7)
    view = FeatureView.build(features, [7])
    window = view.profiles[0].groups[0].windows[0]
    said = page.locator(".window").first.locator(".cell").all_inner_texts()
    assert [text.strip(" \u00b7") for text in said] == [
        view.texts[t].strip() for t in window.tokens
    ]
    assert names(visit) == ["index.html", "00003.js"]


def test_one_file_needs_no_other(visit, features, tmp_path) -> None:
    page = visit(render_index(features, tmp_path, range(9), one_file=True), "#feature=7")
    shown(page, 7)
    assert page.locator(".window").count() > 0
    assert names(visit) == ["index.html"]


@pytest.mark.parametrize("why", ["gone", "of another page"])
def test_a_file_that_is_not_the_pages_own_is_named(context, made, features, tmp_path, why) -> None:
    folder = Path(shutil.copytree(made.parent, tmp_path / "pages"))
    if why == "gone":
        (folder / "data" / "00001.js").unlink()
    else:
        render_index(features, tmp_path / "other", range(9), block=2, title="Other")
        shutil.copy(tmp_path / "other" / "data" / "00001.js", folder / "data")
    page = context.new_page()
    page.goto((folder / "index.html").as_uri() + "#feature=2")
    said = page.get_by_text("data/00001.js").inner_text()
    assert said.startswith(
        "data/00001.js is not beside" if why == "gone" else "data/00001.js belongs"
    )
    page.get_by_role("link", name="All features").click()
    page.get_by_role("link", name="0", exact=True).first.click()
    shown(page, 0)
    shutil.copy(made.parent / "data" / "00001.js", folder / "data")
    page.goto((folder / "index.html").as_uri() + "#feature=3")
    shown(page, 3)


def test_five_thousand_features_stay_usable(visit, features, tmp_path, monkeypatch) -> None:
    (one,) = FeatureView.build(features, [1]).profiles

    def copies(_: Any, ids: Any, __: Any) -> Iterator[Profile]:
        """Feature 1 under each of the numbers."""
        return (dataclasses.replace(one, feature=i) for i in ids)

    monkeypatch.setattr(pages_job, "profiles", copies)
    monkeypatch.setattr(index, "asked_features", lambda *_: list(range(MANY)))
    made = render_index(features, tmp_path)
    files = sorted((tmp_path / "data").iterdir())
    assert len(files) == 79
    assert made.stat().st_size < 300 * MANY
    page = visit(made)
    assert page.get_by_text("5,000 of 5,000 features").is_visible()
    assert page.locator("*").count() < 2_500
    page.get_by_role("searchbox").fill("4321")
    page.get_by_role("link", name="4321", exact=True).first.click()
    shown(page, 4321)
    assert names(visit) == ["index.html", "00067.js"]


def of_hell(**options: Any) -> FeatureDictionary:
    """A store whose vocabulary has the tokens from hell; no tokenizer's has half a character."""
    plain = small_stores.store().corpus
    hell = [text for text in HELL.values() if text != "\ud83d"]
    texts = ("<s>", *hell, *(f"w{i}" for i in range(100)))[: len(plain.vocabulary.texts)]
    corpus = Corpus(plain.tokens, plain.starts, Vocabulary(texts, frozenset([0])), "</script>")
    return FeatureDictionary.build(small_stores.model(), small_stores.sae(), corpus, **options)


@pytest.mark.parametrize("one_file", [False, True])
def test_tokens_from_hell_in_the_table_the_search_and_what_floats(
    visit, tmp_path, one_file
) -> None:
    features = of_hell()
    page = visit(render_index(features, tmp_path, range(9), one_file=one_file))
    view = FeatureView.build(features, range(9))
    for row, profile in zip(page.locator(".index tbody tr").all(), view.profiles, strict=True):
        wanted = [seen(view.texts[token]) for token in profile.firing.ids[:4]]
        assert row.locator(".token").all_text_contents()[: len(wanted)] == wanted
    found = [one.feature for one in view.profiles if "</script>" in texts_of(view, one)]
    page.get_by_label("Search").fill("</script>")
    links = page.locator(".index tbody th a").all_inner_texts()
    assert [int(one) for one in links] == found
    page.get_by_role("link", name=f"{found[0]}", exact=True).click()
    shown(page, found[0])
    profile = next(one for one in view.profiles if one.feature == found[0])
    window = profile.groups[0].windows[0]
    page.locator(".window").first.locator(".cell.chosen").focus()
    said = page.locator(".tooltip .tip-head .token").text_content()
    assert said == seen(view.texts[window.tokens[window.position - window.first]])
    assert page.locator("main img, main script").count() == 0


def texts_of(view: FeatureView, profile: Profile) -> list[str]:
    """Tokens by which a feature is found."""
    return [view.texts[i] for i in (*profile.firing.ids[:8], *profile.top.ids[:8])]
