"""Files for other viewers say, field by field, what the view says."""

from __future__ import annotations

import dataclasses
import gzip
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from sae_circuits.dashboards.formats import export
from sae_circuits.dashboards.profile import Group
from sae_circuits.dashboards.window import Windows
from sae_circuits.errors import FileFormatError, OptionError, OutputError, UnknownName
from sae_circuits.io.neuronpedia import read_explanations
from view_by_hand import alive, dead, view, window

# The columns of Neuronpedia's models without its own bookkeeping: schema.prisma, commit 008d504.
STR, INT, FLOAT, LIST_S, LIST_I, LIST_F = "str int float [str] [int] [float]".split()
NEURON = {
    "modelId": STR, "layer": STR, "index": STR, "sourceSetName": STR, "maxActApprox": FLOAT,
    "neuron_alignment_indices": LIST_I, "neuron_alignment_values": LIST_F,
    "neuron_alignment_l1": LIST_F, "correlated_neurons_indices": LIST_I,
    "correlated_neurons_pearson": LIST_F, "correlated_neurons_l1": LIST_F,
    "correlated_features_indices": LIST_I, "correlated_features_pearson": LIST_F,
    "correlated_features_l1": LIST_F, "neg_str": LIST_S, "neg_values": LIST_F, "pos_str": LIST_S,
    "pos_values": LIST_F, "frac_nonzero": FLOAT, "freq_hist_data_bar_heights": LIST_F,
    "freq_hist_data_bar_values": LIST_F, "logits_hist_data_bar_heights": LIST_F,
    "logits_hist_data_bar_values": LIST_F, "decoder_weights_dist": LIST_F,
}  # fmt: skip
ACTIVATION = {
    "tokens": LIST_S, "dataIndex": STR, "index": STR, "layer": STR, "modelId": STR,
    "dataSource": STR, "maxValue": FLOAT, "maxValueTokenIndex": INT, "minValue": FLOAT,
    "values": LIST_F, "dfaValues": LIST_F, "dfaTargetIndex": INT, "dfaMaxValue": FLOAT,
    "lossValues": LIST_F, "logitContributions": STR, "binMin": FLOAT, "binMax": FLOAT,
    "binContains": FLOAT, "qualifyingTokenIndex": INT,
}  # fmt: skip
EXPLANATION = dict.fromkeys(("modelId", "layer", "index", "description", "typeName"), STR)
OPTIONAL = {"sourceSetName", "dfaTargetIndex", "dfaMaxValue", "logitContributions"}


def fits(value: dict[str, Any], columns: dict[str, str]) -> None:
    """Every column is there, of its type, and nothing else is."""
    assert value.keys() == columns.keys()
    for name, kind in columns.items():
        each = value[name] if kind.startswith("[") else [value[name]]
        wanted = {"str": str, "int": int, "float": (int, float)}[kind.strip("[]")]
        for one in each:
            assert isinstance(one, wanted) or (one is None and name in OPTIONAL), name
            assert not isinstance(one, bool), name


def neuron(folder: Path, feature: int = 3, **options: str) -> dict[str, Any]:
    return json.loads((folder / f"{feature}.json").read_text())


@pytest.fixture
def found(tmp_path: Path) -> dict[str, Any]:
    return neuron(export(view(), tmp_path, "neuronpedia"))


def test_neuronpedia_has_every_column_and_no_other(tmp_path: Path) -> None:
    export(view(), tmp_path, "neuronpedia", model="gemma-2-2b", source="20-gemmascope-res-16k")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3.json", "4.json"]
    for feature in (3, 4):
        said = neuron(tmp_path, feature)
        for name, columns in {"activations": ACTIVATION, "explanations": EXPLANATION}.items():
            for one in said.pop(name):
                fits(one, columns)
                assert (one["modelId"], one["index"]) == ("gemma-2-2b", str(feature))
        fits(said, NEURON)
        assert said["layer"] == "20-gemmascope-res-16k"
        assert said["sourceSetName"] == "gemmascope-res-16k"


def test_neuronpedia_numbers_of_a_feature(found: dict[str, Any]) -> None:
    assert (found["modelId"], found["layer"], found["index"]) == ("demo", "mlp_out.2", "3")
    assert (found["frac_nonzero"], found["maxActApprox"]) == (0.01, 2.0)
    assert (found["pos_str"], found["pos_values"]) == (["John", "</script>"], [3.0, 1.5])
    assert (found["neg_str"], found["neg_values"]) == (["é\u2028"], [-1.0])
    assert found["freq_hist_data_bar_values"] == [0.75, 1.5]  # the middles of the bins
    assert found["freq_hist_data_bar_heights"] == [4, 1]
    assert found["logits_hist_data_bar_values"] == [-0.5, 1.5]
    assert found["logits_hist_data_bar_heights"] == [2, 3]
    assert found["neuron_alignment_indices"] == [9, 4]
    assert found["neuron_alignment_values"] == [-0.5, 0.25]
    assert found["neuron_alignment_l1"] == [0.6, 0.3]
    assert found["correlated_neurons_indices"] == [1, 3]  # neuron 2 has no known cosine
    assert found["correlated_neurons_pearson"] == [0.5, 0.3]
    assert found["correlated_neurons_l1"] == [0.55, 0.35]
    assert found["correlated_features_indices"] == [5, 6]
    assert found["correlated_features_pearson"] == [0.8, 0.7]
    assert found["correlated_features_l1"] == [0.9, 0.6]
    assert found["decoder_weights_dist"] == [0.75, 0.25]


def test_neuronpedia_examples_with_their_bins(found: dict[str, Any]) -> None:
    bins = [(one["binMin"], one["binMax"], one["binContains"]) for one in found["activations"]]
    assert bins == [(-1, 2.0, -1), (0.0, 1.0, 0.8), (1.0, 2.0, 0.2), (0, 0, 0)]
    top, *_, drawn = found["activations"]
    assert top["tokens"] == ["John", " </script>", " é\u2028"]
    assert top["values"] == [0.5, 2.0, 0.0]
    assert (top["maxValue"], top["maxValueTokenIndex"], top["minValue"]) == (2.0, 1, 0.0)
    assert top["lossValues"] == [0.0, 0.125, -0.25]
    assert top["qualifyingTokenIndex"] == 1
    assert (top["dataSource"], top["dataIndex"]) == ("stories", "7:12")
    assert (top["dfaValues"], top["dfaTargetIndex"], top["dfaMaxValue"]) == ([], None, None)
    assert drawn["lossValues"] == []  # not asked for, and not 0
    assert drawn["dfaValues"] == [0.5, 0.0, 0.0]  # position 10 is outside of the window
    assert (drawn["dfaTargetIndex"], drawn["dfaMaxValue"]) == (1, 0.5)


def test_neuronpedia_takes_quantile_groups_where_there_are_no_intervals(tmp_path: Path) -> None:
    half = Group("quantile", 0, 0.5, 1.5, 2, Windows.from_rows([window()]))
    only = dataclasses.replace(alive(), groups=(half,))
    (one,) = neuron(export(view(only), tmp_path, "neuronpedia"))["activations"]
    assert (one["binMin"], one["binMax"], one["binContains"]) == (0.5, 1.5, 0.4)


def test_neuronpedia_explanations_are_read_back(tmp_path: Path) -> None:
    export(view(), tmp_path, "neuronpedia")
    read = read_explanations(tmp_path / "3.json")
    assert [(one.feature, one.text, one.kind) for one in read] == [
        (3, "names of people", "tokens"), (3, "John", "manual"),
    ]  # fmt: skip
    assert {(one.model, one.source) for one in read} == {("demo", "mlp_out.2")}


def test_a_dead_feature_is_a_whole_file_of_zeros(tmp_path: Path) -> None:
    export(view(), tmp_path, "neuronpedia")
    said = neuron(tmp_path, 4)
    assert (said["maxActApprox"], said["frac_nonzero"], said["activations"]) == (0, 0, [])
    assert said["freq_hist_data_bar_values"] == said["pos_str"] == said["explanations"] == []
    export(view(), tmp_path, "circuit-tracer")
    said = json.loads((tmp_path / f"{pair(2, 4)}.json").read_text())
    assert said["examples_quantiles"][0]["examples"] == []  # the viewer reads the first one
    assert (said["act_min"], said["act_max"]) == (0, 0)


# -- circuit-tracer -------------------------------------------------------------------------------


def pair(x: int, y: int) -> int:
    """Cantor's diagonals, counted: along x + y = 0, then x + y = 1, and so on."""
    places = [(total - b, b) for total in range(x + y + 1) for b in range(total + 1)]
    return places.index((x, y))


def from_bin(folder: Path, layer: int, feature: int) -> Any:
    """As the viewer does: a range of bytes, four of them a length, and what inflates after it."""
    index = json.loads(gzip.decompress((folder / "features" / "index.json.gz").read_bytes()))
    start, stop = index[str(layer)]["offsets"][feature : feature + 2]
    some = (folder / "features" / index[str(layer)]["filename"]).read_bytes()[start : stop + 1]
    (length,) = struct.unpack("<I", some[:4])
    return json.loads(gzip.decompress(some[4 : 4 + length]))


def test_circuit_tracer_files_say_what_the_view_says(tmp_path: Path) -> None:
    export(view(), tmp_path, "circuit-tracer")
    said = json.loads((tmp_path / f"{pair(2, 3)}.json").read_text())
    assert said["index"] == pair(2, 3)
    assert (said["top_logits"], said["bottom_logits"]) == (["John", "</script>"], ["é\u2028"])
    assert (said["act_min"], said["act_max"], said["activation_frequency"]) == (0, 2.0, 0.01)
    assert said["label"] == "names of people"
    assert [one["quantile_name"] for one in said["examples_quantiles"]] == [
        "Top activations",
        "Interval 0: 0 to 1, 80.0% of activations",
        "Interval 1: 1 to 2, 20.0% of activations",
        "Quantile group 0: 0.5 to 1.5, 40.0% of activations",
        "Random",
    ]
    assert said["examples_quantiles"][0]["examples"] == [
        {
            "tokens": ["John", " </script>", " é\u2028"],
            "tokens_acts_list": [0.5, 2.0, 0.0],
            "train_token_ind": 1,
            "is_repeated_datapoint": False,
            "prompt": 7,
            "position": 12,
        }
    ]


def test_circuit_tracer_reads_the_same_from_the_binary_file(tmp_path: Path) -> None:
    export(view(), tmp_path, "circuit-tracer")
    for feature in (3, 4):
        plain = json.loads((tmp_path / f"{pair(2, feature)}.json").read_text())
        assert from_bin(tmp_path, 2, feature) == plain


def test_circuit_tracer_keeps_other_layers_of_a_folder(tmp_path: Path) -> None:
    export(view(), tmp_path, "circuit-tracer")
    export(view(dead(0), alive(5)), tmp_path, "circuit-tracer", layer=7)
    assert from_bin(tmp_path, 2, 3)["index"] == pair(2, 3)
    assert from_bin(tmp_path, 7, 5)["index"] == pair(7, 5)
    assert from_bin(tmp_path, 7, 0)["act_max"] == 0
    (tmp_path / "features" / "index.json.gz").write_bytes(b"?")
    with pytest.raises(FileFormatError, match=r"no index of circuit-tracer's: .*; remove it"):
        export(view(), tmp_path, "circuit-tracer")


def test_the_layer_must_be_known(tmp_path: Path) -> None:
    about = dataclasses.replace(view().about, dictionary="probes", provenance={})
    with pytest.raises(OptionError, match=r"no known layer.*give layer="):
        export(dataclasses.replace(view(), about=about), tmp_path / "x", "circuit-tracer")
    assert not (tmp_path / "x").exists()


# -- both -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["neuronpedia", "circuit-tracer"])
def test_texts_without_a_gap_stand_as_they_are_and_files_are_the_same_each_time(
    format: str, tmp_path: Path
) -> None:
    for name in "ab":
        assert view(gap="").export(tmp_path / name, format) == tmp_path / name
    files = [path for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert files
    for path in files:
        again = tmp_path / "b" / path.relative_to(tmp_path / "a")
        assert path.read_bytes() == again.read_bytes()
    first = min(files, key=lambda path: len(path.name))
    assert '"tokens":["John","</script>","é\u2028"]' in first.read_text()


@pytest.mark.parametrize("format", ["neuronpedia", "circuit-tracer"])
def test_halves_of_characters_are_written(format: str, tmp_path: Path) -> None:
    half = dataclasses.replace(view(alive()), texts={1: "\ud83d", 2: "\ude00", 3: "a"})
    half.export(tmp_path, format)
    said = json.loads(min(tmp_path.glob("*.json")).read_text())
    groups = said.get("examples_quantiles")
    example = groups[0]["examples"][0] if groups else said["activations"][0]
    assert example["tokens"] == ["\ud83d", " \ude00", " a"]


def test_bad_requests(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="unknown format 'neuronpedai': did you mean 'neuronpedi"):
        export(view(), tmp_path, "neuronpedai")
    with pytest.raises(OptionError, match=r"format 'neuronpedia' has no such option: .*'layer'"):
        export(view(), tmp_path, "neuronpedia", layer=3)
    with pytest.raises(OptionError, match=r"model='a/b' is no name of Neuronpedia's"):
        export(view(), tmp_path, "neuronpedia", model="a/b")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="a file stands where a folder is needed"):
        export(view(), tmp_path / "file", "circuit-tracer")
