"""Tab completion: the shell asks the program, which answers without loading what it names."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sae_circuits import metrics, tasks
from sae_circuits.ablation import INTERVENTIONS
from sae_circuits.attribution.methods import METHODS
from sae_circuits.cli import names, pipeline
from sae_circuits.connectome.connect import METHODS as CONNECTIONS
from sae_circuits.dashboards.formats import FORMATS
from sae_circuits.dashboards.layout import READY
from sae_circuits.features.labels.strategies import STRATEGIES
from sae_circuits.models import demo_path
from sae_circuits.models.dictionaries.load import KINDS
from sae_circuits.models.places import DTYPES
from sae_circuits.prune.keys import ORDERS


def asked(words: str, shell: str = "bash") -> list[str]:
    """What a shell is told that completes the last of some words."""
    ask = {
        "_SAE_CIRCUITS_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
        "_TYPER_COMPLETE_ARGS": words,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    program = "import sys; from sae_circuits.cli import main; main(); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **ask},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("sae-circuits dis", ["discover"]),
        ("sae-circuits dashboard ", ["feature", "prompt", "index"]),
        ("sae-circuits discover --method eap", ["eap", "eap-ig", "eap-ig-activations"]),
        ("sae-circuits evaluate run/circuit.json --task i", ["ioi", "induction"]),
        ("sae-circuits features build --sae resid_post.1", ["resid_post.1-jumprelu"]),
        ("sae-circuits discover --task-file ", []),  # which the shell completes itself
    ],
)
def test_words_are_completed(words, completed):
    found = asked(words)
    assert set(completed) <= set(found)
    assert all(word.startswith(words.rpartition(" ")[2]) for word in found)
    assert bool(found) == bool(completed)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_answered_too(shell):
    assert any("induction" in line for line in asked("sae-circuits discover --task ind", shell))


@pytest.mark.parametrize(
    ("said", "there"),
    [
        (names.TASKS, tasks.names()),
        (names.METHODS, METHODS),
        (names.METRICS, metrics.names()),
        (names.INTERVENTIONS, INTERVENTIONS),
        (names.DTYPES, DTYPES),
        (names.ORDERS, ORDERS),
        (names.NEURONS, filter(None, pipeline.NEURONS)),
        (names.KINDS, KINDS),
        (names.STRATEGIES, STRATEGIES),
        (names.FORMATS, FORMATS),
        (names.LAYOUTS, READY),
        (names.CONNECTIONS, CONNECTIONS),
        (names.SAES, (path.parent.name for path in demo_path().glob("saes/*/cfg.json"))),
    ],
)
def test_what_is_completed_is_what_there_is(said, there):
    assert sorted(said) == sorted(there)


def test_model_names_are_known():
    from sae_circuits.models.load import _official_names

    assert set(names.MODELS) - {"demo"} <= set(_official_names())
