from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sae_circuits import prune
from sae_circuits.errors import OutputError
from sae_circuits.evaluation import Report
from sae_circuits.explorer.folder import save_report
from sae_circuits.graph import Circuit
from sae_circuits.io import Record, load
from sae_circuits.tasks import Task
from sae_circuits.viz import dot
from sae_circuits.viz.report_page import report_page, verdict
from small_circuits import small_curve, small_minimality, small_report

EVIL = "<script>alert('x')</script>"


def evil_task() -> Task:
    tokens = torch.zeros(4, 2, dtype=torch.int64)
    task = Task.from_tokens(tokens, tokens, answer=tokens[:, 0])
    return replace(task, clean_text=(EVIL,) * 4, corrupt_text=("corrupt & more",) * 4)


def text_of(html: str) -> str:
    """What a reader reads: no styles, no tags, one space between words."""
    html = re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def test_the_verdict_is_a_sentence_of_numbers() -> None:
    assert verdict(small_report()) == (
        "A circuit of 5 of 46 edges (10.9%) recovers 80% of the gap in logit_diff between the "
        "clean and the corrupt run (faithfulness 0.8, 95% interval [0.25, 0.75]); the other edges "
        "recover 20%."
    )


def test_the_page_shows_measures_edges_curve_and_origin() -> None:
    record = Record.start(["sae-circuits", "discover", "--edges", "5"], {})
    text = text_of(report_page(small_report(small_curve()), record=record))
    for said in (
        "faithfulness 0.8 [0.25, 0.75]",
        "complement 1 [0.25, 0.75]",
        "a1.h0-&gt;logits −4 helps yes",
        "input-&gt;m0 +0.5 hurts yes",
        "10% 4 0.8 [0.625, 0.875] 0.1, 0 0.4",
        "CPR 0.",
        "CPR from 0%",
        "CMD, random of equal degrees",
        "1 3 0.5 2.5 0.8 yes",
        "4 3 0 2 – no",
        "eap-ig (steps=5)",
        "sae-circuits discover --edges 5",
        f"torch {torch.__version__}",
    ):
        assert said in text, said


def test_the_page_shows_random_circuits_and_the_least_useful_edges() -> None:
    report = small_report().with_minimality(small_minimality())
    text = text_of(report_page(report))
    assert "input-&gt;m0 −0.125 [−0.188, −0.0625]" in text
    assert text.index("input-&gt;m0 −0.125") < text.index("m0-&gt;a1.h0&lt;q&gt; 0 [")
    assert "3 of its 5 edges lose something for sure" in text
    assert "The least useful edges" not in text_of(report_page(small_report()))
    added = {
        "random": 0.75,
        "degrees": 1.0,
        "faithfulness_random": 0.1,
        "faithfulness_degrees": 0.2,
    }
    examples = {name: torch.full((4,), value).double() for name, value in added.items()}
    page = text_of(
        report_page(
            replace(
                report,
                examples={**report.examples, **examples},
                intervals={**report.intervals, **dict.fromkeys(added, (0.125, 0.5))},
            )
        )
    )
    assert "faithfulness_random 0.1 [0.125, 0.5] the same share for random circuits" in page
    assert "degrees 1 [0.125, 0.5] the metric on random circuits" in page


def test_prompts_are_shown_and_escaped() -> None:
    page = report_page(small_report(), task=evil_task())
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;") == 4
    assert page.count("corrupt &amp; more") == 4


def test_everything_from_the_record_is_escaped() -> None:
    report = small_report(small_curve())
    made = replace(report.provenance, task=EVIL, model=EVIL, method=EVIL, metric=EVIL)
    curve = replace(small_curve(), provenance=made)
    page = report_page(replace(report, provenance=made, curve=curve))
    assert "<script" not in page


def test_the_page_is_self_contained() -> None:
    page = report_page(small_report(small_curve()))
    links = set(re.findall(r"https?://[^\s\"'<]+", page))
    namespaces = ("http://www.w3.org/", "http://purl.org/", "http://creativecommons.org/")
    assert all(link.startswith(namespaces) or "matplotlib.org" in link for link in links)
    assert not re.findall(r"<(?:link|img|iframe|script)\b", page)


def test_a_report_without_scores_or_prompts_has_a_page() -> None:
    report = small_report()
    bare = replace(report, of=Circuit(report.of.graph, report.of.mask))
    text = text_of(report_page(bare))
    assert "The strongest edges" not in text
    assert "no score" in text


def test_a_folder_holds_values_pictures_and_the_page(tmp_path: Path) -> None:
    folder = small_report(small_curve()).save(tmp_path / "new" / "run")
    expected = {
        "report.json", "circuit.json", "scores.safetensors", "circuit.html", "circuit.dot",
        "curve.svg", "curve.png", "report.html", "explorer.html",
    }  # fmt: skip
    if dot.has_dot():
        expected.add("circuit.svg")
    assert {path.name for path in folder.iterdir()} == expected
    report = load(folder / "report.json", Report)
    assert report.of == load(folder / "circuit.json")
    assert torch.equal(report.of.scores.values, load(folder / "scores.safetensors").values)


def test_the_report_links_to_the_explorer_that_stands_beside_it(tmp_path: Path) -> None:
    folder = small_report(small_curve()).save(tmp_path / "run")
    assert 'href="explorer.html"' in (folder / "report.html").read_text(encoding="utf-8")
    assert 'href="explorer.html"' not in report_page(small_report())


@pytest.mark.parametrize("best", [True, False])
def test_the_explorer_has_the_curve_where_it_is_of_its_circuits(tmp_path: Path, best: bool) -> None:
    report = small_report(small_curve())
    assert report.of.scores is not None
    of = prune.top_n(report.of.scores, len(report.of)) if best else report.of
    folder = replace(report, of=of).save(tmp_path / "run")
    html = (folder / "explorer.html").read_text(encoding="utf-8")
    view = json.loads(html.partition('data-name="view">')[2].partition("</script>")[0])
    assert view["size"] == len(of)
    assert ("curve" in view) is best


def test_without_dot_the_folder_lacks_the_svg_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    folder = small_report().save(tmp_path / "run")
    assert not (folder / "circuit.svg").exists()
    assert (folder / "report.html").exists()


def test_a_folder_in_use_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(OutputError, match=r"is not empty \(it has 'mine\.txt'\)"):
        save_report(small_report(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.browser
def test_a_browser_reads_the_page(tmp_path: Path, chromium: str) -> None:
    page = tmp_path / "report.html"
    page.write_text(report_page(small_report(small_curve()), task=evil_task()), encoding="utf-8")
    done = subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "<script" not in done.stdout
    assert done.stdout.count('class="edge ') == 5
    assert done.stdout.rstrip().endswith("</html>")
