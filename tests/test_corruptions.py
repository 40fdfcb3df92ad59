"""Corrupt prompts made from clean ones, and whether a task is worth explaining."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace

import pytest
import torch

import sae_circuits as sc
import small_tokenizers
from sae_circuits import metrics, tasks
from sae_circuits.errors import AlignmentError, MetricError, OptionError, TaskError, WeakTask
from sae_circuits.tasks import Task, corrupt
from sae_circuits.tasks.words import NAMES

IOI = "When Mary and John went to the store, John gave a drink to"
FACT = "The capital of France is, in France,"


@pytest.fixture(scope="module", params=["word_level", "byte_level", "sentence_piece"])
def tokenizer(request):
    return getattr(small_tokenizers, request.param)()


@pytest.fixture(scope="module")
def plain():
    return small_tokenizers.word_level()


def check_corrupted(tokenizer, task: Task, given: Task) -> None:
    """All but the corrupt prompts is as it was, and these are what their text says."""
    for name in ("clean", "answer", "wrong", "position", "lengths"):
        assert torch.equal(getattr(task, name), getattr(given, name)), name
    assert (task.name, task.clean_text) == (given.name, given.clean_text)
    for i, text in enumerate(task.corrupt_text):
        ids = [tokenizer.bos_token_id, *tokenizer.encode(text, add_special_tokens=False)]
        assert task.corrupt[i, : int(task.lengths[i])].tolist() == ids
    assert (task.corrupt != task.clean).any(1).all()


# -- swap ------------------------------------------------------------------------------------------


def test_swap_exchanges_two_words(tokenizer):
    swapped = "When John and Mary went to the store, Mary gave a drink to"
    assert corrupt.swap(tokenizer, IOI, ("Mary", "John")) == swapped
    assert corrupt.swap(tokenizer, swapped, ("Mary", "John")) == IOI
    texts = [IOI, "Tom and Anna went to Tom"]
    assert corrupt.swap(tokenizer, texts, [("Mary", "John"), ("Tom", "Anna")]) == [
        swapped,
        "Anna and Tom went to Anna",
    ]


def test_swap_of_a_task_exchanges_its_answers(tokenizer):
    given = tasks.ioi(tokenizer, n=8)
    task = corrupt.swap(tokenizer, given)
    check_corrupted(tokenizer, task, given)
    for i, (clean, other) in enumerate(zip(task.clean_text, task.corrupt_text, strict=True)):
        right, wrong = (tokenizer.decode(ids[i]).strip() for ids in (task.answer, task.wrong))
        assert other == clean.replace(right, "?").replace(wrong, right).replace("?", wrong)


def test_words_within_words_are_left_alone(plain):
    assert corrupt.swap(plain, "key keys car cars", ("key", "car")) == "car keys key cars"


# -- ABC -------------------------------------------------------------------------------------------


def test_abc_puts_another_name_for_each(tokenizer):
    given = tasks.ioi(tokenizer, n=20)
    task = corrupt.abc(tokenizer, given, seed=3)
    check_corrupted(tokenizer, task, given)
    for clean, other in zip(task.clean_text, task.corrupt_text, strict=True):
        names, others = (
            [w for w in re.findall(r"\w+", text) if w in NAMES] for text in (clean, other)
        )
        assert len(others) == len(set(others)) == len(names) == 3
        assert not set(names) & set(others)
        assert [w for w in clean.split() if w.strip(",.") not in names] == [
            w for w in other.split() if w.strip(",.") not in others
        ]


# -- symmetric token replacement -------------------------------------------------------------------


def test_symmetric_puts_the_same_word_wherever_one_stands(tokenizer):
    pool = ("France", "Italy", "Japan")
    found = {corrupt.symmetric(tokenizer, FACT, pool, seed) for seed in range(12)}
    assert found == {"The capital of Italy is, in Italy,", "The capital of Japan is, in Japan,"}


@pytest.mark.parametrize("name", ["abc", "symmetric"])
def test_a_seed_gives_one_draw(name, plain):
    make = getattr(corrupt, name)
    texts = [IOI, "Tom and Anna went to the store"]
    first, again = (make(plain, texts, NAMES, 4) for _ in range(2))
    assert first == again
    assert len({tuple(make(plain, texts, NAMES, seed)) for seed in range(8)}) > 4


def test_only_words_of_as_many_tokens_are_put():
    tokenizer = small_tokenizers.byte_level()
    long = "Ulaanbaatarville"  # in pieces
    assert len(tokenizer.encode(f" {long}")) > 1
    pool = ("France", long, "Italy")
    assert {
        corrupt.symmetric(tokenizer, "The capital of France is", pool, s) for s in range(9)
    } == {"The capital of Italy is"}
    with pytest.raises(AlignmentError, match=r"nothing can be put for 'France' .* a larger pool"):
        corrupt.symmetric(tokenizer, "The capital of France is", ("France", long))
    with pytest.raises(AlignmentError, match="nothing can be put for 'Mary'"):
        corrupt.abc(tokenizer, IOI, ("Mary", "John", long))


def test_a_swap_that_does_not_align_is_shown(plain):
    with pytest.raises(
        AlignmentError, match="pair 0 does not align: its clean prompt has 4 tokens"
    ) as caught:
        corrupt.swap(plain, "Mary and Mary, ", ("Mary", "the capital of"))
    assert "the capital of and the capital of" in str(caught.value)


# -- random ----------------------------------------------------------------------------------------


def test_random_words_have_as_many_tokens(tokenizer):
    given = tasks.ioi(tokenizer, n=6)
    names = sorted({w for text in given.clean_text for w in re.findall(r"\w+", text) if w in NAMES})
    task = corrupt.random(tokenizer, given, names, seed=1)
    check_corrupted(tokenizer, task, given)
    assert not any(name in other.split() for other in task.corrupt_text for name in names)
    again = corrupt.random(tokenizer, given, names, seed=1)
    assert again.fingerprint == task.fingerprint
    assert corrupt.random(tokenizer, given, names, seed=2).fingerprint != task.fingerprint
    assert corrupt.random(tokenizer, IOI, ["Mary"]) != IOI


def test_random_tokens_stand_where_the_prompts_differed(plain):
    given = tasks.facts(plain, n=12)
    task = corrupt.random(plain, given, seed=5)
    assert torch.equal(task.corrupt != task.clean, given.corrupt != given.clean)
    assert len(set(task.corrupt[task.corrupt != task.clean].tolist())) > 6
    assert not set(task.corrupt[task.corrupt != task.clean].tolist()) & set(plain.all_special_ids)
    assert corrupt.random(plain, given, seed=5).fingerprint == task.fingerprint
    bare = replace(given, clean_text=(), corrupt_text=())
    assert torch.equal(corrupt.random(plain, bare, seed=5).corrupt, task.corrupt)


# -- what cannot be corrupted ----------------------------------------------------------------------


def test_prompts_without_the_words_are_refused(plain):
    for make, arguments in (
        (corrupt.swap, (("Tom", "Anna"),)),
        (corrupt.abc, (("Tom", "Anna", "Jane", "Lisa"),)),
        (corrupt.symmetric, (("Tom", "Anna", "Jane", "Lisa"),)),
        (corrupt.random, (["Tom"],)),
    ):
        with pytest.raises(TaskError, match="prompt 1 has none of the words to be replaced: 'When"):
            make(
                plain,
                ["Tom and Anna", IOI] if make is not corrupt.random else ["Tom and", IOI],
                *arguments,
            )


def test_options_that_say_too_little_are_refused(plain):
    with pytest.raises(OptionError, match="name the two words to swap"):
        corrupt.swap(plain, IOI)
    with pytest.raises(OptionError, match="there are 2 pairs of words for 1 prompts"):
        corrupt.swap(plain, IOI, [("Mary", "John")] * 2)
    with pytest.raises(OptionError, match="name the words to replace"):
        corrupt.random(plain, IOI)
    with pytest.raises(OptionError, match="there is no word to look for"):
        corrupt.symmetric(plain, IOI, ())
    with pytest.raises(TaskError, match="there is no prompt"):
        corrupt.abc(plain, [])
    given = replace(tasks.ioi(plain, n=2), clean_text=(), corrupt_text=())
    with pytest.raises(TaskError, match="task 'ioi' was made from tokens and has no text"):
        corrupt.abc(plain, given)
    same = replace(given, corrupt=given.clean)
    with pytest.raises(TaskError, match="has a pair whose prompts are the same: name the words"):
        corrupt.random(plain, same)


# -- is it worth explaining? -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo():
    return sc.load_model("demo")


@pytest.mark.parametrize("name", tasks.DEMO)
def test_the_bundled_models_tasks_are_worth_explaining(name, demo):
    metric = "prob_diff" if name == "greater_than" else "logit_diff"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        worth = tasks.make(name, demo, n=32).check(demo, metric)
    assert worth.problems == ()
    assert worth.accuracy > 0.75
    assert worth.gap > 0.4


def test_the_figures_are_those_of_an_evaluation(demo):
    task = tasks.facts(demo, n=12)
    worth = task.check(demo, batch_size=5)
    report = sc.evaluate(demo, sc.Circuit.empty(sc.TensorGraph.from_model(demo)), task)
    assert torch.allclose(worth.clean, report.examples["clean"], atol=1e-4)
    assert torch.allclose(worth.corrupt, report.examples["corrupt"], atol=1e-4)
    assert worth.accuracy == report.clean_accuracy
    assert worth.corrupt_accuracy == report.corrupt_accuracy
    assert worth.gap == pytest.approx(report.clean - report.corrupt, abs=1e-4)
    each = (report.examples["clean"] - report.examples["corrupt"]).double()
    error = (each - each.mean()).square().sum() / 11 / 12
    assert worth.gap_error == pytest.approx(float(error.sqrt()), rel=1e-4)
    assert "Worth(logit_diff" in repr(worth)


def test_a_corruption_that_changes_nothing_is_warned_of(demo):
    task = tasks.facts(demo, n=12)
    with pytest.warns(
        WeakTask, match=r"task 'facts': its mean logit_diff is .*too small to explain"
    ):
        worth = replace(task, corrupt=task.clean).check(demo)
    assert (len(worth.problems), worth.gap) == (1, 0.0)


def test_a_model_that_does_not_do_the_task_is_warned_of(demo):
    task = tasks.facts(demo, n=12)
    reversed_ = replace(task, answer=task.wrong, wrong=task.answer)
    with pytest.warns(WeakTask, match=r"the model is right on \d+% of the clean prompts") as caught:
        worth = reversed_.check(demo)
    assert len(worth.problems) == 1  # the gap is as large as ever
    assert worth.accuracy == 1 - task.check(demo).accuracy < 0.2
    assert "clean_right" in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reversed_.check(demo, least_accuracy=0.0)


def test_what_the_model_gets_right_can_be_kept(demo):
    task = tasks.country_capital(demo, n=24)  # it has learnt capitals, but not in these words
    with pytest.warns(WeakTask):
        worth = task.check(demo)
    assert 0 < worth.accuracy < 0.75
    kept = task[worth.clean_right]
    assert len(kept) == int(worth.clean_right.sum())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert kept.check(demo).accuracy == 1


def test_a_gap_within_its_error_is_small_and_one_beyond_is_not():
    """Two examples whose gaps are 1 and 3, then -1 and 3: means 2 and 1, errors 1 and 2."""
    from sae_circuits.evaluation.worth import Worth, _problems

    right = torch.ones(2, dtype=torch.bool)

    def problems(clean, corrupted):
        return _problems(
            Worth("m", torch.tensor(clean), torch.tensor(corrupted), right, right), 0.5
        )

    assert problems([1.0, 3.0], [0.0, 0.0]) == []  # 2 is not below 2 errors
    assert len(problems([-1.0, 3.0], [0.0, 0.0])) == 1
    assert problems([10.0, 10.0], [9.0, 9.0]) == []  # a tenth of the larger side, not below
    assert len(problems([10.0, 10.0], [9.5, 9.5])) == 1
    assert problems([-9.0, -9.0], [-10.0, -10.0]) == []
    assert len(problems([0.0, 0.0], [0.0, 0.0])) == 1


@pytest.mark.parametrize("kind", ["hooked", "bridge"])
def test_the_model_is_left_as_it_was(kind):
    model = sc.load_model("demo", kind=kind)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    asking = [p.requires_grad for p in model.parameters()]
    tasks.facts(model, n=4).check(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == asking
    assert all(not point.fwd_hooks for point in model.hook_dict.values())


def test_metrics_that_are_none_are_refused(demo):
    task = tasks.facts(demo, n=4)
    with pytest.raises(MetricError, match="one number per example"):
        task.check(demo, lambda logits, targets: logits.sum())
    with pytest.raises(sc.errors.NumericalError, match="not finite"):
        task.check(demo, lambda logits, targets: logits[:, 0] * float("nan"))
    with pytest.raises(OptionError, match="least_accuracy=2 is no share"):
        task.check(demo, least_accuracy=2)
    with pytest.raises(sc.errors.UnknownName, match="did you mean 'kl'"):
        task.check(demo, "kll")
    with pytest.raises(MetricError, match="needs a wrong answer"):
        replace(task, wrong=task.wrong[:, :0]).check(demo)
    assert replace(task, wrong=task.wrong[:, :0]).check(demo, metrics.cross_entropy).gap < 0
