from __future__ import annotations

import contextlib
import hashlib
import json
import math
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sae_circuits._version import __version__
from sae_circuits.errors import FileFormatError, OutputError, UnknownName
from sae_circuits.evaluation import Curve, Minimality, Report
from sae_circuits.graph import (
    Architecture,
    AttributionGraph,
    Circuit,
    Provenance,
    Scores,
    TensorGraph,
)
from sae_circuits.graph.out import Saved
from sae_circuits.io import load, save
from sae_circuits.io.codec import from_plain, kinds, to_plain
from sae_circuits.io.files import SAVED
from small_circuits import by_hand, graph_of, small_curve, small_minimality, small_report
from small_graphs import EDGES, assert_same_graph, traced, traced_graphs

# The shape checks pick a random element of each list, which Hypothesis takes for ours.
pytestmark = pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")

# One folder serves all examples of a property: each overwrites the file of the last.
REUSED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@st.composite
def graphs(draw: st.DrawFn) -> TensorGraph:
    n_kv = draw(st.integers(1, 2))
    shape = Architecture(
        model=draw(st.text(max_size=8)),
        n_layers=draw(st.integers(1, 3)),
        n_heads=n_kv * draw(st.integers(1, 2)),
        n_kv_heads=n_kv,
        d_model=8,
        d_head=4,
        d_vocab=10,
        n_ctx=16,
        parallel=draw(st.booleans()),
        has_mlps=draw(st.booleans()),
    )
    return TensorGraph.from_model(shape, split_kv=draw(st.booleans()))


@st.composite
def all_scores(draw: st.DrawFn) -> Scores:
    graph = draw(graphs())
    dtype = draw(st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]))
    some = draw(st.lists(st.floats(width=16), min_size=1, max_size=8))  # NaN and infinity too
    values = torch.tensor((some * graph.n_edges)[: graph.n_edges])
    option = st.one_of(
        st.integers(), st.text(), st.floats(allow_nan=False), st.booleans(), st.none()
    )
    made = Provenance(
        method=draw(st.text(max_size=8)),
        seed=draw(st.none() | st.integers(0, 2**63)),
        options=draw(st.dictionaries(st.text(min_size=1, max_size=5), option, max_size=3)),
    )
    return Scores(graph, values.to(dtype), made)


def assert_same_scores(a: Scores, b: Scores) -> None:
    assert a.graph == b.graph
    assert a.provenance == b.provenance
    assert a.values.dtype == b.values.dtype
    assert torch.allclose(a.values, b.values, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(
        a.values.signbit() & ~a.values.isnan(), b.values.signbit() & ~b.values.isnan()
    )


def test_options_may_be_called_as_tags_are(tmp_path: Path) -> None:
    graph = graph_of(1, 1)
    options = {"$kind": "edge", "$": 1, "$$float": {"$tensor": "none"}}
    scores = Scores(graph, torch.zeros(graph.n_edges), Provenance(options=options))
    found = load(save(scores, tmp_path / "scores.safetensors"))
    assert dict(found.provenance.options) == options


@REUSED
@given(scores=all_scores())
def test_scores_come_back(tmp_path: Path, scores: Scores) -> None:
    save(scores, tmp_path / "scores.safetensors")
    assert_same_scores(load(tmp_path / "scores.safetensors", Scores), scores)


@REUSED
@given(scores=all_scores(), seed=st.integers(0, 99), known=st.booleans())
def test_circuits_come_back(tmp_path: Path, scores: Scores, seed: int, known: bool) -> None:
    chance = torch.rand(len(scores), generator=torch.Generator().manual_seed(seed))
    circuit = Circuit(scores.graph, chance < 0.3, scores if known else None)
    save(circuit, tmp_path / "circuit.json")
    loaded = load(tmp_path / "circuit.json", Circuit)
    assert loaded == circuit
    assert loaded.graph == circuit.graph
    if loaded.scores is None or circuit.scores is None:
        assert loaded.scores is circuit.scores
    else:
        assert (
            torch.equal(loaded.scores.values, circuit.scores.values) or scores.values.isnan().any()
        )
        assert loaded.scores.provenance == circuit.scores.provenance


@REUSED
@given(graph=traced_graphs())
def test_attribution_graphs_come_back(tmp_path: Path, graph: AttributionGraph) -> None:
    save(graph, tmp_path / "graph.json")
    assert_same_graph(load(tmp_path / "graph.json", AttributionGraph), graph)


def test_an_attribution_graph_is_read_by_other_programs(tmp_path: Path) -> None:
    odd = replace(traced(), replacement=math.nan)
    odd.save(tmp_path / "graph.json")
    assert_same_graph(load(tmp_path / "graph.json"), odd)
    content = json.loads((tmp_path / "graph.json").read_text(), parse_constant=pytest.fail)
    assert content["kind"] == "attribution_graph"
    assert content["content"]["nodes"][6] == "m1.f17@2"
    weights = dict(
        zip(content["content"]["edges"], content["content"]["weight"]["values"], strict=True)
    )
    assert weights == EDGES
    assert "src" not in content["content"]


def test_a_run_of_numbers_takes_no_room() -> None:
    plain = to_plain({"members": range(3, 24576)})
    assert plain == {"members": {"$range": [3, 24576]}}
    assert from_plain(plain) == {"members": range(3, 24576)}


def test_reports_and_curves_come_back(tmp_path: Path) -> None:
    report = small_report(small_curve())
    save(report, tmp_path / "report.json")
    loaded = load(tmp_path / "report.json", Report)
    assert loaded.of == report.of
    assert loaded.provenance == report.provenance
    assert dict(loaded.intervals) == dict(report.intervals)
    assert loaded.examples.keys() == report.examples.keys()
    for name, values in report.examples.items():
        assert torch.allclose(loaded.examples[name], values, rtol=0, atol=0, equal_nan=True)
        assert loaded.examples[name].dtype == values.dtype
    assert loaded.faithfulness == report.faithfulness == 0.8
    save(small_curve(), tmp_path / "curve.json")
    for curve in (loaded.curve, load(tmp_path / "curve.json", Curve)):
        assert curve is not None
        assert repr(curve) == repr(small_curve())
        for name in (
            "values",
            "random_values",
            "degrees_values",
            "band",
            "weighted_edges",
            "pruner",
        ):
            assert getattr(curve, name) == getattr(small_curve(), name)
        assert curve.intervals == small_curve().intervals
        for name, values in small_curve().examples.items():
            assert torch.equal(curve.examples[name], values)
    assert "NaN" not in (tmp_path / "report.json").read_text()


def test_a_minimality_comes_back_alone_and_in_a_report(tmp_path: Path) -> None:
    made = small_minimality()
    report = small_report().with_minimality(made)
    save(made, tmp_path / "minimality.json")
    save(report, tmp_path / "report.json")
    for found in (
        load(tmp_path / "minimality.json", Minimality),
        load(tmp_path / "report.json", Report).minimality,
    ):
        assert found is not None
        assert found.of == made.of
        for name in ("ids", "change", "lost", "change_interval", "lost_interval"):
            assert torch.equal(getattr(found, name), getattr(made, name)), name
        assert (repr(found), found.faithfulness) == (repr(made), 0.8)


def test_files_of_the_schema_before_are_read(tmp_path: Path) -> None:
    """A curve and a report of schema 1, which had neither intervals nor random degrees."""
    report = small_report(small_curve())
    for value, kind in ((small_curve(), "curve"), (report, "report")):
        content = to_plain(value)
        for part in (content, content.get("curve") or {}):
            for name in (
                "degrees_values", "band", "weighted_edges", "pruner", "minimality",
                *(("intervals", "examples") if part.get("$kind") == "curve" else ()),
            ):  # fmt: skip
                part.pop(name, None)
        header = {
            "format": "sae-circuits", "schema": 1, "kind": kind, "written_by": "0.1.0",
            "content": content,
        }  # fmt: skip
        said = json.dumps(header, sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(said.encode()).hexdigest()
        (tmp_path / "old.json").write_text(json.dumps({**header, "sha256": digest}))
        loaded = load(tmp_path / "old.json")
        curve = loaded if kind == "curve" else loaded.curve
        assert curve.faithfulness == small_curve().faithfulness
        assert (curve.degrees, curve.band, dict(curve.intervals)) == ((), (), {})
        assert repr(curve).startswith(f"Curve(3 sizes by 'abs', CPR {small_curve().cpr:.3f}, CMD")
        with pytest.raises(UnknownName, match="area with an interval 'cpr'"):
            curve.interval("cpr")


def test_the_same_value_makes_the_same_bytes(tmp_path: Path) -> None:
    circuit = by_hand()
    for name, value in (("c.json", circuit), ("s.safetensors", circuit.scores)):
        first = save(value, tmp_path / name).read_bytes()
        assert save(load(tmp_path / name), tmp_path / name).read_bytes() == first


def test_saving_is_a_method_too(tmp_path: Path) -> None:
    circuit = by_hand()
    assert circuit.scores is not None
    assert circuit.save(tmp_path / "c.json") == tmp_path / "c.json"
    circuit.scores.save(tmp_path / "s.safetensors")
    assert load(tmp_path / "c.json") == circuit
    assert_same_scores(load(tmp_path / "s.safetensors"), circuit.scores)
    without = {name for name in SAVED if not issubclass(kinds()[name], Saved)}
    assert without == {"report", "cell"}  # a folder of its own; a part of a benchmark


def test_the_circuits_file_is_readable_by_others(tmp_path: Path) -> None:
    save(by_hand(), tmp_path / "c.json")
    document = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))
    assert {name: document[name] for name in ("format", "schema", "kind", "written_by")} == {
        "format": "sae-circuits", "schema": 2, "kind": "circuit", "written_by": __version__,
    }  # fmt: skip
    content = document["content"]
    assert content["edges"] == [
        "input->a0.h1<v>", "input->m0", "m0->a1.h0<q>", "a0.h1->a1.h0<k>", "a1.h0->logits",
    ]  # fmt: skip
    assert content["edge_scores"]["values"] == [-2.0, 0.5, 0.0, -1.0, -4.0]
    assert content["graph"]["architecture"]["n_layers"] == 2
    assert content["scores"]["provenance"]["metric"] == "logit_diff"


def test_the_scores_file_is_read_by_safetensors_alone(tmp_path: Path) -> None:
    from safetensors import safe_open

    circuit = by_hand()
    save(circuit.scores, tmp_path / "s.safetensors")
    with safe_open(tmp_path / "s.safetensors", framework="pt") as file:
        assert torch.equal(file.get_tensor("values"), circuit.scores.values)  # type: ignore[union-attr]
        assert json.loads(file.metadata()["sae-circuits"])["content"]["provenance"]["task"] == "ioi"


# -- what is not as it was written ---------------------------------------------------------------


@pytest.fixture
def both(tmp_path: Path) -> list[Path]:
    """A circuit's file and a scores' file, as small as they get."""
    graph = graph_of(1, 1)
    scores = Scores(graph, torch.arange(float(graph.n_edges)))
    save(Circuit.from_edges(graph, ["input->m0"], scores), tmp_path / "circuit.json")
    save(scores, tmp_path / "scores.safetensors")
    return [tmp_path / "circuit.json", tmp_path / "scores.safetensors"]


def test_a_file_cut_at_any_byte_is_refused(both: list[Path]) -> None:
    for path in both:
        whole = path.read_bytes()
        for size in range(len(whole)):
            if path.suffix == ".json" and size == len(whole) - 1:
                continue  # only the final newline is gone: nothing is missing
            path.write_bytes(whole[:size])
            with pytest.raises(FileFormatError, match=path.name):
                load(path)


def test_a_flipped_bit_anywhere_is_refused_or_harmless(both: list[Path]) -> None:
    for path in both:
        whole, value = path.read_bytes(), load(path)
        for i in range(len(whole)):
            damaged = bytearray(whole)
            damaged[i] ^= 1 << (i % 8)
            path.write_bytes(bytes(damaged))
            with contextlib.suppress(FileFormatError):
                assert_same_value(load(path), value)  # such as another kind of white space


def assert_same_value(loaded: Any, value: Any) -> None:
    if isinstance(value, Scores):
        assert_same_scores(loaded, value)
    else:
        assert loaded == value
        assert_same_scores(loaded.scores, value.scores)


def rewritten(path: Path, **changes: object) -> Path:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return path


def test_a_newer_schema_asks_for_an_upgrade(both: list[Path]) -> None:
    path = rewritten(both[0], schema=3, written_by="9.1.0")
    with pytest.raises(FileFormatError, match=r"schema 3, written by sae-circuits 9\.1\.0.*pip"):
        load(path)


def test_a_changed_file_says_so(both: list[Path]) -> None:
    document = json.loads(both[0].read_text())
    document["content"]["edges"] = ["m0->logits"]
    with pytest.raises(FileFormatError, match="changed by hand: its checksum does not fit"):
        load(rewritten(both[0], content=document["content"]))


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b"\x00" * 20, b"not json", b'{"format": NaN}', b"[" * 100_000, b"\xff\xfe"],
)
def test_what_is_no_file_of_ours_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(FileFormatError, match=r"x\.json"):
        load(tmp_path / "x.json")


def test_pickles_are_refused_unread(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (pytest.fail, ("the pickle ran",))

    torch.save({"edges": torch.zeros(2)}, tmp_path / "a.pt")
    (tmp_path / "b.pkl").write_bytes(pickle.dumps(Bomb()))
    for name in ("a.pt", "b.pkl"):
        with pytest.raises(FileFormatError, match="is a pickle"):
            load(tmp_path / name)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"cannot read '.*none\.json': no such file"):
        load(tmp_path / "none.json")
    with pytest.raises(FileFormatError, match="is a directory"):
        load(tmp_path)


def test_another_kind_than_expected_is_named(both: list[Path]) -> None:
    with pytest.raises(FileFormatError, match="holds scores, and circuit is needed"):
        load(both[1], Circuit)


def test_the_suffix_fits_the_value(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"end the name in '\.safetensors'"):
        save(by_hand().scores, tmp_path / "s.pt")
    with pytest.raises(OutputError, match=r"end the name in '\.json'"):
        save(by_hand(), tmp_path / "c.safetensors")


def test_what_files_do_not_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="cannot save a TensorGraph"):
        save(by_hand().graph, tmp_path / "g.json")
    scores = by_hand().scores
    assert scores is not None
    odd = replace(scores, provenance=Provenance(options={"model": object()}))
    with pytest.raises(FileFormatError, match="not a object"):
        save(odd, tmp_path / "s.safetensors")
    assert list(tmp_path.iterdir()) == []
