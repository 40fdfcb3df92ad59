"""What holds for the package as a whole: names, imports, shapes, what is inside the wheel."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch

import sae_circuits as sc
from type_checks import FIRST, at_first_calls, begin, check

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "sae_circuits"
MODULES = sorted(PACKAGE.rglob("*.py"))

PUBLIC = """
    Architecture AttributionGraph Circuit CircuitView Clusters Connections ConnectomeView Corpus
    Dictionary Edge FeatureDictionary FeatureView Layout Masks Method Node NodeScores NodeValues
    PairConnections PairScores Plan PromptView SampledScores Scores SpanCircuit SpanPairScores
    SpanScores Task TensorGraph VirtualWeights __version__ ablate active_features against
    agreement attribute attribute_nodes attribute_pairs attribute_spans benchmark cluster
    combine connections curve demo_corpus directions errors evaluate head_connections intervene
    learn_constants load load_model load_saes methods metrics minimality overlap
    pair_connections plan prune render_index save stability steer steering tasks trace
    virtual_weights viz workers
"""


def test_public_names_are_these_and_each_says_what_it_is():
    assert sorted(sc.__all__) == sorted(PUBLIC.split())
    assert {"__version__", *dir(sc)} >= set(sc.__all__)
    for name in set(sc.__all__) - {"__version__"}:
        assert getattr(sc, name).__doc__, f"sae_circuits.{name} has no docstring"


def test_a_wrong_shape_is_refused_while_tests_run():
    answer, wrong = torch.zeros(2, 1, dtype=torch.int64), torch.ones(2, 1, dtype=torch.int64)
    targets = sc.metrics.Targets(answer, wrong, torch.zeros(2, 5))
    assert sc.metrics.logit_diff(torch.zeros(2, 5), targets).tolist() == [0.0, 0.0]
    with pytest.raises(jaxtyping.TypeCheckError, match="logits"):
        sc.metrics.logit_diff(torch.zeros(2, 3, 5), targets)


def test_shapes_are_checked_in_each_test() -> None:
    """In functions, in those made anew by another one, and where a dataclass is made."""
    with pytest.raises(jaxtyping.TypeCheckError, match="'mask'"):
        sc.Circuit(sc.TensorGraph.from_model(sc.load_model("demo")), torch.zeros(2, 3).bool())
    with pytest.raises(jaxtyping.TypeCheckError, match="'values'"):
        sc.prune.keys.ranked(torch.zeros(2, 3), "abs")

    def made() -> Any:
        @at_first_calls(typechecker=check)
        def inner(x: jaxtyping.Float[torch.Tensor, "batch pos"]) -> torch.Tensor:
            return x

        return inner

    for _ in range(2):
        for _ in range(FIRST):
            with pytest.raises(jaxtyping.TypeCheckError, match="'x'"):
                made()(torch.zeros(2))
        assert made()(torch.zeros(2)).shape == (2,)
        begin()


def test_importing_the_package_and_asking_for_help_load_nothing_heavy():
    heavy = (
        "torch matplotlib networkx graphviz pandas jinja2 transformer_lens sae_lens transformers"
    )
    code = (
        "import sys, sae_circuits.cli.app; "
        f"print(*sorted(sys.modules.keys() & set({heavy.split()})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == []
    assert done.stderr == ""


def test_the_version_stands_in_one_place():
    assert sc.__version__ == importlib.metadata.version("sae-circuits")
    stated = [p for p in MODULES if f'"{sc.__version__}"' in p.read_text()]
    assert stated == [PACKAGE / "_version.py"]
    assert sc.__version__ not in (ROOT / "pyproject.toml").read_text()


def code_lines(function: ast.FunctionDef) -> int:
    """Count a function's lines from its `def` on, without its docstring."""
    first = function.body[0]
    has_docstring = ast.get_docstring(function, clean=False) is not None
    docstring = first.end_lineno - first.lineno + 1 if has_docstring else 0
    return function.end_lineno - function.lineno + 1 - docstring


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_functions_and_modules_stay_small(path):
    text = path.read_text()
    assert text.count("\n") <= 400
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef)]
    assert {f.name: code_lines(f) for f in functions if code_lines(f) > 60} == {}


@pytest.fixture(scope="module")
def archives(tmp_path_factory) -> dict[str, list[str]]:
    """Build wheel and source archive; return the paths inside each."""
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(out)],
        cwd=ROOT,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"},
        capture_output=True,
        check=True,
        timeout=120,
    )
    (wheel,), (source,) = out.glob("*.whl"), out.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as z, tarfile.open(source) as t:
        return {"wheel": z.namelist(), "sdist": [n.partition("/")[2] for n in t.getnames()]}


@pytest.mark.parametrize(("kind", "prefix"), [("wheel", ""), ("sdist", "src/")])
def test_archives_hold_the_whole_package_and_its_data(archives, kind, prefix):
    tracked = subprocess.run(
        ["git", "ls-files", "--", "src/sae_circuits"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    expected = {path.removeprefix("src/") for path in tracked}
    assert {"sae_circuits/py.typed", "sae_circuits/data/demo/model.safetensors"} <= expected
    assert expected <= {path.removeprefix(prefix) for path in archives[kind]}


def test_console_script_and_licence_are_declared(archives):
    assert any(path.endswith("licenses/LICENSE") for path in archives["wheel"])
    (script,) = importlib.metadata.distribution("sae-circuits").entry_points
    assert (script.name, script.value) == ("sae-circuits", "sae_circuits.cli:main")


def test_the_lock_pins_every_dependency_at_an_allowed_version():
    from packaging.requirements import Requirement

    lock = [
        Requirement(line)
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    declared = [Requirement(r) for r in importlib.metadata.requires("sae-circuits") or []]
    extras = importlib.metadata.metadata("sae-circuits").get_all("Provides-Extra") or []
    for wanted in declared:
        if wanted.name == "sae-circuits":
            continue
        for minor in range(10, 14):
            here = {"python_version": f"3.{minor}", "python_full_version": f"3.{minor}.0"}
            marker = wanted.marker
            if marker and not any(marker.evaluate({**here, "extra": x}) for x in ("", *extras)):
                continue
            pins = [
                p
                for p in lock
                if p.name.lower() == wanted.name.lower()
                and (p.marker is None or p.marker.evaluate(here))
            ]
            assert len(pins) == 1, f"{wanted.name} on Python 3.{minor}: {pins}"
            (spec,) = pins[0].specifier
            assert spec.operator == "=="
            assert wanted.specifier.contains(spec.version)
