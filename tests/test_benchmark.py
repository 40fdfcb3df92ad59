from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import sae_circuits as sc
from sae_circuits.attribution.methods import METHODS
from sae_circuits.benchmarking.page import benchmark_page, markdown
from sae_circuits.benchmarking.subjects import whole_nodes
from sae_circuits.errors import GraphError, OptionError, OutputError, UnknownName
from sae_circuits.evaluation import Benchmark, Cell
from sae_circuits.io import import_eap_ig
from sae_circuits.testing import truth

SMALL = {"seeds": 2, "n": 6}


def counting(name="counted", score=METHODS["eap"].score_batch):
    """EAP that notes how often it is asked."""
    calls: list[int] = []

    def score_batch(problem, **options):
        calls.append(len(problem.batch))
        return score(problem, **options)

    return sc.Method(name, score_batch), calls


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table") / "made"
    how = {"methods": ["eap", "random", "exact"], "tasks": ["ioi"], "known": ["or"], **SMALL}
    return sc.benchmark(folder, levels=["edges", "nodes"], **how), folder


@pytest.fixture(scope="module")
def demo():
    return sc.load_model("demo")


def test_numbers_are_those_of_the_calls_that_make_them(made, demo):
    table, _ = made
    for seed in (0, 1):
        task, graph = sc.tasks.ioi(demo, n=6, seed=seed), sc.TensorGraph.from_model(demo)
        exact = sc.attribute(demo, graph, task, method="exact")
        scores = sc.attribute(demo, graph, task, method="eap")
        (cell,) = (c for c in table.of("eap", ("demo", "ioi", "edges")) if c.seed == seed)
        helps = sc.curve(demo, scores, task, by="help", n_random=0)
        sizes = sc.curve(demo, scores, task, by="abs", n_random=0)
        close = sc.agreement(scores, exact)
        assert cell.measures["cpr"] == pytest.approx(helps.cpr, abs=1e-9)
        assert cell.measures["cmd"] == pytest.approx(sizes.cmd, abs=1e-9)
        assert cell.measures["pearson"] == pytest.approx(close.pearson, abs=1e-9)
        assert cell.measures["sign"] == pytest.approx(close.sign, abs=1e-9)
        assert cell.curves["abs"].faithfulness == pytest.approx(sizes.faithfulness, abs=1e-9)
        assert cell.n_edges == 479
        assert cell.measures["seconds"] > 0


def test_known_circuits_give_auroc_over_seeds(made):
    table, _ = made
    found = []
    for seed in (0, 1):
        known = truth("or", n=6, eps=0.05, seed=seed)
        found.append(sc.against(known.scores("eap"), known.circuit).auroc)
    assert table.mean("auroc", "eap", ("known", "or", "edges")) == pytest.approx(sum(found) / 2)
    assert table.mean("auroc", "eap", ("demo", "ioi", "edges")) != table.mean(
        "auroc", "eap", ("demo", "ioi", "edges")
    )  # NaN: the circuit is not known
    assert table.mean("pearson", "exact", ("known", "or", "edges")) == pytest.approx(1)


def test_the_interval_is_that_of_resampled_examples(made):
    table, _ = made
    place = ("demo", "ioi", "edges")
    low, high = table.interval("cpr", "eap", place)
    assert low < table.mean("cpr", "eap", place) < high
    alone = Benchmark(table.of("eap", place)[:1])
    assert alone.interval("cpr", "eap", place) == pytest.approx(
        alone.cells[0].curves["help"].interval("cpr"), abs=1e-9
    )
    assert (
        low > alone.interval("cpr", "eap", place)[0]
        or high < alone.interval("cpr", "eap", place)[1]
    )  # two seeds are surer than one


def test_circuits_of_whole_nodes_are_the_largest_that_fit(demo):
    graph = sc.TensorGraph.from_model(demo)
    scores = sc.attribute(demo, graph, sc.tasks.ioi(demo, n=6, seed=0), method="eap")
    order = scores.dense().sum(1)[1:].abs().argsort(descending=True)
    sizes = [
        len(sc.Circuit.from_nodes(graph, [graph.src_nodes[i + 1] for i in order[:k].tolist()]))
        for k in range(graph.n_src)
    ]
    for n in (0, 1, 2, 50, 200, 478, 479):
        fitting = [size for size in sizes if size <= n]
        assert len(whole_nodes(scores, n)) == (max(fitting) if fitting else 0)


def test_a_table_goes_on_where_it_stopped(tmp_path):
    method, calls = counting()
    stopped = dict(SMALL, methods=[method], tasks=["ioi", "induction"])

    def stops(problem, **options):
        if len(calls) == 2:
            raise KeyboardInterrupt
        return method.score_batch(problem, **options)

    broken = replace(method, score_batch=stops)
    with pytest.raises(KeyboardInterrupt):
        sc.benchmark(tmp_path, **{**stopped, "methods": [broken]})
    assert len(calls) == 2
    table = sc.benchmark(tmp_path, **stopped)
    assert len(calls) == 4
    again = sc.benchmark(tmp_path, **stopped)
    assert len(calls) == 4
    assert [c.measures for c in again.cells] == [c.measures for c in table.cells]
    assert len(sc.benchmark(tmp_path, **{**stopped, "seeds": 3}).cells) == 6
    assert len(calls) == 6


def test_a_folder_of_something_else_is_refused(tmp_path, made):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(OutputError, match=r"mine\.txt"):
        sc.benchmark(tmp_path, methods=["eap"], **SMALL)
    with pytest.raises(OutputError, match="n: 6, now 7"):
        sc.benchmark(made[1], methods=["eap"], seeds=1, n=7)
    assert (tmp_path / "mine.txt").read_text() == "x"


def test_a_method_that_refuses_says_why_in_its_cell(tmp_path):
    def score_batch(problem, **options):
        raise GraphError("only for <odd> models")

    method = sc.Method("picky", score_batch)
    table = sc.benchmark(tmp_path, methods=[method, "eap"], seeds=1, n=6)
    assert table.refusals() == {"picky on ioi, edges": "only for <odd> models"}
    assert table.best("cmd", ("demo", "ioi", "edges")) == "eap"
    assert "only for &lt;odd&gt; models" in (tmp_path / "table.html").read_text()
    assert "picky |" not in (tmp_path / "table.md").read_text()


def test_bad_input_is_refused_before_anything_runs(tmp_path):
    method, calls = counting()
    bad = [
        ({"tasks": ["iio"]}, UnknownName, "ioi"),
        ({"levels": ["edge"]}, UnknownName, "edges"),
        ({"known": ["nor"]}, UnknownName, "or"),
        ({"methods": []}, OptionError, "none"),
        ({"methods": [method, method]}, OptionError, "each once"),
        ({"tasks": ["ioi", "ioi"]}, OptionError, "name of its own"),
        ({"options": {"eap-ig": {"steps": 3}}}, OptionError, "not among"),
        ({"options": {"counted": {"steps": 3}}}, UnknownName, "steps"),
        ({"intervention": "zero"}, OptionError, "not defined"),
    ]
    for given, error, match in bad:
        with pytest.raises(error, match=match):
            sc.benchmark(tmp_path / "t", **{"methods": [method], **SMALL, **given})
    assert not calls
    assert not (tmp_path / "t" / "record.json").exists()


def test_files_hold_the_table(made):
    table, folder = made
    loaded = sc.load(folder / "benchmark.json", Benchmark)
    assert [c.measures for c in loaded.cells] == [c.measures for c in table.cells]
    assert isinstance(loaded.cells[0], Cell)
    rows = (folder / "mib-cmd.csv").read_text().splitlines()
    assert rows[0] == 'method,ioi (demo),"ioi (demo, nodes)",or (known)'
    assert [row.split(",")[0] for row in rows[1:]] == ["exact", "eap", "random"]
    assert float(rows[2].split(",")[1]) == pytest.approx(
        table.mean("cmd", "eap", ("demo", "ioi", "edges"))
    )
    record = json.loads((folder / "record.json").read_text())
    assert record["finished"] is not None
    assert record["settings"]["n"] == 6
    frame = table.to_pandas()
    assert len(frame) == 9
    assert set(frame.method) == {"eap", "random", "exact"}


def test_mib_reads_the_circuit_files(made, demo):
    _, folder = made
    circuit = import_eap_ig(folder / "mib" / "eap" / "ioi_demo" / "importances.json")
    task = sc.tasks.ioi(demo, n=6, seed=0)
    scores = sc.attribute(demo, sc.TensorGraph.from_model(demo), task, method="eap")
    assert circuit.scores is not None
    torch.testing.assert_close(circuit.scores.values, scores.values)


def test_the_best_of_a_column_is_bold(made):
    table, _ = made
    lines = markdown(table).splitlines()
    start = lines.index("## CMD")
    head = [cell.strip() for cell in lines[start + 4].split("|")[1:-1]]
    body = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[1:-1]]
        for line in lines[start + 6 : start + 9]
    }
    for column, place in zip(range(1, len(head)), table.places, strict=True):
        bold = [method for method, cells in body.items() if cells[column].startswith("**")]
        means = {method: f"{table.mean('cmd', method, place):.2f}" for method in body}
        assert bold == [method for method, mean in means.items() if mean == min(means.values())]
        assert table.best("cmd", place) in bold


def test_the_page_has_every_table_and_a_curve_for_each_place(made):
    table, folder = made
    page = benchmark_page(table)
    assert page.count("<svg") == len(table.places)
    assert not re.search(r'(src|href)="(http|//)|@import|url\((?!#)', page)  # no network
    for name in ("CPR", "CMD", "AUROC", "pearson", "peak MB"):
        assert f"<h2>{name}</h2>" in page
    written = (folder / "table.html").read_text()
    assert written.startswith(page.split("<svg")[0])  # all tables; a drawing's ids are its own
    assert "<code>benchmark</code>" in written


def test_data_sets_in_a_folder_are_tasks(tmp_path, demo):
    data = Path(tmp_path / "data")
    data.mkdir()
    for name, seed in (("first", 0), ("second", 5)):
        sc.tasks.facts(demo, n=12, seed=seed).save(data / f"{name}.json", model=demo)
    table = sc.benchmark(tmp_path / "t", methods=["eap"], models=[demo], tasks=[data], **SMALL)
    assert table.places == (("demo", "first", "edges"), ("demo", "second", "edges"))
    one, other = table.of("eap", ("demo", "first", "edges"))
    assert one.curves["abs"].provenance.n_examples == 6
    ids = {c.curves["abs"].provenance.task_id for c in (one, other)}
    assert len(ids) == 2  # each seed draws other prompts
