"""The models with known circuits: each does what it says, and its circuit is the whole of it."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sae_circuits import prune
from sae_circuits.attribution import Method, attribute
from sae_circuits.errors import OptionError, UnknownName
from sae_circuits.evaluation import against, evaluate
from sae_circuits.graph import Circuit
from sae_circuits.testing import table, truth, truths
from sae_circuits.testing.frac_prevs import N_CTX, N_TOKENS, X
from sae_circuits.testing.gates import FALSE, PLACES, TRUE
from sae_circuits.testing.reverse import N_CTX as REVERSE_CTX
from sae_circuits.testing.reverse import N_TOKENS as REVERSE_TOKENS
from sae_circuits.testing.reverse import SEP

# -- what holds for all --------------------------------------------------------------------------


@pytest.mark.parametrize("name", truths())
@pytest.mark.parametrize("seed", [0, 1])
def test_the_true_circuit_is_the_model_and_all_but_it_the_corrupt_run(name, seed):
    known = truth(name, seed=seed)
    report = evaluate(known.model, known.circuit, known.task, metric=known.metric)
    assert report.faithfulness == pytest.approx(1, abs=1e-10)
    assert report.completeness == pytest.approx(0, abs=1e-10)
    assert abs(report.clean - report.corrupt) > 0.3
    assert prune.drop_dead_nodes(known.circuit) == known.circuit


@pytest.mark.parametrize("name", sorted(set(truths()) - {"or", "or-apart"}))
def test_no_true_edge_can_be_left_out(name):
    known = truth(name)
    whole = evaluate(known.model, known.circuit, known.task).examples["circuit"]
    for edge in known.circuit.edges:
        less = known.circuit - Circuit.from_edges(known.graph, [edge])
        kept = evaluate(known.model, less, known.task).examples["circuit"]
        assert (kept - whole).abs().max() > 1e-3, edge.name


@pytest.mark.parametrize("name", truths())
def test_eps_lets_the_rest_leak_and_the_seed_changes_it(name):
    def outside(**dials):
        known = truth(name, **dials)
        return known.scores("exact").values[~known.circuit.mask].abs()

    assert outside(eps=0.0).max() < 1e-12
    assert outside(eps=0.05).max() > 1e-6

    weights = [truth(name, eps=0.05, seed=seed).model.blocks[0].attn.W_V for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_misspelt_names_and_dials_are_refused_with_suggestions():
    with pytest.raises(UnknownName, match=r"did you mean .*'induction'"):
        truth("inductoin")
    with pytest.raises(UnknownName, match="did you mean 'sharpness'"):
        truth("reverse", sharpnes=3)
    with pytest.raises(UnknownName, match="option of ground truth 'linear'"):
        truth("linear", sharpness=3)
    with pytest.raises(OptionError, match="n_layers=1"):
        truth("induction", n_layers=1)


# -- the programs --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["and", "or"])
@pytest.mark.parametrize("apart", [False, True])
def test_gates_compute_their_truth_tables(kind, apart):
    model = truth(kind, apart=apart).model
    for x, y in itertools.product((FALSE, TRUE), repeat=2):
        tokens = torch.randint(2, model.cfg.d_vocab, (5, model.cfg.n_ctx))
        tokens[:, PLACES["x"]], tokens[:, PLACES["y"]] = x, y
        expected = float((x and y) if kind == "and" else (x or y))
        assert (model(tokens)[:, -1, TRUE] - expected).abs().max() < 1e-12
        assert (model(tokens)[:, -1, FALSE] - 0.5).abs().max() < 1e-12


def test_reverse_reverses_every_sequence_of_every_length():
    model = truth("reverse").model
    for size in range(1, REVERSE_CTX // 2 + 1):
        sequences = torch.randint(1, REVERSE_TOKENS, (50, size))
        prompts = torch.cat([sequences, torch.full((50, 1), SEP)], 1)
        for _ in range(size):  # the model says the reversal, token by token
            said = model(prompts)[:, -1].argmax(-1, keepdim=True)
            prompts = torch.cat([prompts, said], 1)
        assert torch.equal(prompts[:, size + 1 :], sequences.flip(1))


def test_frac_prevs_is_the_fraction_at_every_place():
    model = truth("frac_prevs").model
    tokens = torch.randint(N_TOKENS, (50, N_CTX))
    expected = (tokens == X).double().cumsum(1) / torch.arange(1, N_CTX + 1)
    logits = model(tokens)
    assert (logits[..., X] - expected).abs().max() < 1e-12
    assert logits[..., [i for i in range(N_TOKENS) if i != X]].abs().max() == 0


def test_tasks_of_programs_have_the_programs_answers():
    task = truth("reverse", n=40, seed=3).task
    for prompts, answers in ((task.clean, task.answer), (task.corrupt, task.wrong)):
        rows = (prompts.tolist(), task.lengths.tolist(), answers.tolist())
        for tokens, size, answer in zip(*rows, strict=True):
            at = tokens.index(SEP)
            reversal = tokens[:at][::-1]
            written = size - at - 1
            assert tokens[at + 1 : size] == reversal[:written]
            assert answer == [reversal[written]]
    assert len(set(task.lengths.tolist())) > 3


def test_the_closed_form_of_the_linear_model_is_what_patching_gives():
    for seed, eps in itertools.product(range(3), (0.0, 0.3)):
        known = truth("linear", seed=seed, eps=eps)
        exact = known.scores("exact").values
        torch.testing.assert_close(exact, known.effects.values, rtol=1e-9, atol=1e-12)
        ports = [edge.dest.port for edge in known.graph.edges]
        assert all(known.effects.values[[p in ("q", "k") for p in ports]] == 0)
        assert exact.abs()[known.circuit.mask].min() > 1e-6


# -- what methods make of gates ------------------------------------------------------------------

INPUTS = ("input->a0.h0<v>", "input->a0.h1<v>", "a0.h0->m0", "a0.h1->m0")


def on_gate(method, kind, swapped=False, **options):
    """The scores of the four edges that carry the inputs, and of the output's."""
    known = truth(kind)
    task = known.task.swapped() if swapped else known.task
    found = attribute(known.model, known.graph, task, method=method, **options)
    inputs = {round(found[edge], 10) for edge in INPUTS}
    assert len(inputs) == 1  # the two inputs are alike
    return inputs.pop() + 0.0, round(found["m0->logits"], 10)


def test_single_patches_see_both_inputs_of_and_and_none_of_or():
    assert on_gate("exact", "and") == (-1, -1)
    assert on_gate("exact", "or") == (0, -1)


def test_from_the_corrupt_side_it_is_the_other_way_round():
    assert on_gate("exact", "and", swapped=True) == (0, 1)
    assert on_gate("exact", "or", swapped=True) == (1, 1)


@pytest.mark.parametrize(
    ("method", "options", "and_", "or_"),
    [  # slopes of relu(1.5 (x + y) - 2) and 1 - relu(1 - 1.5 (x + y)) at x = y = 1, at 0, between
        ("eap", {}, -1.5, 0),
        ("clean-corrupted", {}, -0.75, -0.75),
        ("eap-ig", {"steps": 6}, -0.5, -0.5),
        ("eap-ig-activations", {"steps": 6}, -0.5, -0.5),
    ],
)
def test_gradients_share_out_what_they_see_on_their_way(method, options, and_, or_):
    assert on_gate(method, "and", **options) == (and_, -1)
    assert on_gate(method, "or", **options) == (or_, -1)


def test_moving_one_layer_at_a_time_misses_an_or_across_layers():
    known = truth("or-apart")
    alone = known.scores("eap-ig-activations", steps=6)
    assert alone["a0.h0->m1"] == alone["a1.h1->m1"] == 0
    together = known.scores("eap-ig", steps=6)
    assert together["a0.h0->m1"] == pytest.approx(-0.5)
    assert together["a1.h1->m1"] == pytest.approx(-0.5)


def test_either_branch_of_or_is_a_circuit_and_neither_can_be_left_out_with_the_other():
    known = truth("or")
    branches = [[f"input->{h}<v>", f"{h}->m0"] for h in ("a0.h0", "a0.h1")]

    def faithfulness(*left_out):
        less = known.circuit - Circuit.from_edges(known.graph, itertools.chain(*left_out))
        return evaluate(known.model, less, known.task).faithfulness

    assert [faithfulness(branch) for branch in branches] == pytest.approx([1, 1])
    assert faithfulness(*branches) == pytest.approx(0)


# -- the table -----------------------------------------------------------------------------------


def test_the_table_holds_every_cell_and_is_reproducible():
    cells = {"methods": ["eap", "eap-ig"], "truths": ["and", "frac_prevs"], "seeds": [2, 3]}
    found = table(**cells, options={"eap-ig": {"steps": 3}})
    assert [(row.method, row.truth) for row in found.rows] == list(
        itertools.product(cells["methods"], cells["truths"])
    )
    assert found == table(**cells, options={"eap-ig": {"steps": 3}})
    assert all(len(row.auroc) == len(row.auprc) == 2 for row in found.rows)
    known = truth("frac_prevs", eps=0.05, seed=3)
    ranked = against(known.scores("eap-ig", steps=3), known.circuit)
    row = found["eap-ig", "frac_prevs"]
    assert (row.auroc[1], row.auprc[1]) == (ranked.auroc, ranked.auprc)
    assert row.interval()[0] <= row.mean() <= row.interval()[1]
    assert len(str(found).splitlines()) == 4


def test_at_eps_0_a_method_is_only_asked_what_it_misses():
    found = table(["exact", "eap", "eap-ig"], ["and", "or", "linear"], seeds=2, eps=0)
    missed = (1 + 4 / 2) / 5  # the output's edge is found, and four edges tie with all others
    for method, expected in {"exact": missed, "eap": missed, "eap-ig": 1}.items():
        assert found[method, "or"].mean() == pytest.approx(expected)
        assert found[method, "and"].mean() == found[method, "linear"].mean() == 1
    precision = (1 + 4 * 5 / 75) / 5
    assert found["exact", "or"].mean("auprc") == pytest.approx(precision)


def test_a_table_takes_methods_of_ones_own():
    nothing = Method("nothing", lambda problem: problem.zeros())
    assert table([nothing], ["and"], seeds=1)["nothing", "and"].auroc == (0.5,)


@pytest.mark.slow
def test_the_page_shows_the_table_that_its_code_makes():
    page = (Path(__file__).parents[1] / "docs" / "ground-truth.md").read_text()
    (code,) = re.findall(r"<!-- not run.*-->\n```python\n(.*?)```", page, re.DOTALL)
    # In a process of its own, where no shapes are checked: a third of the time.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("|  | linear | and | or |")
    assert done.stdout in page
