"""Text and a metric against the strength of steering."""

from __future__ import annotations

import pytest
import torch

import sae_circuits as sc
from sae_circuits.errors import (
    ContextError,
    NumericalError,
    OptionError,
    TaskError,
    UnknownName,
)
from sae_circuits.evaluation.steered import Steered
from sae_circuits.metrics import Targets, logit_diff
from shapes import HOOKED, random_task, random_tokens

PAIR = ("Michael", "Rebecca")
PLACES = ("beach", "park", "village", "lake", "school", "station")


def prompts(places, giver):
    """Prompts in which one of two people, named in both orders, gives something to the other."""
    return [
        f"Afterwards, {one} and {other} went to the {place}, and {giver} gave a map to"
        for place in places
        for one, other in (PAIR, PAIR[::-1])
    ]


@pytest.fixture(scope="module")
def model():
    return sc.load_model("demo")


@pytest.fixture(scope="module")
def to_rebecca(model):
    """What stands where Rebecca comes next, less what stands where Michael does."""
    rebecca, michael = (prompts(PLACES[:4], giver) for giver in PAIR)
    return sc.directions.of_difference(model, "resid_post.3", rebecca, michael, name="to Rebecca")


def both(model):
    """Prompts of other places, with Rebecca as the answer of all, right or not."""
    texts = [text for giver in PAIR for text in prompts(PLACES[4:], giver)]
    n = len(texts)
    return sc.Task.from_strings(
        model, texts, texts, answer=[" Rebecca"] * n, wrong=[" Michael"] * n
    )


def test_a_difference_of_means_moves_the_logit_difference_with_its_strength(model, to_rebecca):
    task, strengths = both(model), [-2, -1, -0.5, 0, 0.5, 1, 2]
    done = sc.steer(model, to_rebecca, {"to Rebecca": ("add", 1.0)}, task=task, strengths=strengths)
    assert done.strengths == tuple(map(float, strengths))
    assert all(a < b for a, b in zip(done.curve, done.curve[1:], strict=False))
    assert bool((done.values.diff(dim=0) > 0).all())  # on every prompt
    assert done.curve[0] < -3 < 3 < done.curve[-1]
    assert torch.equal(done.values[3], done.clean)  # strength 0 is the model by itself
    assert all(low <= mean <= high for mean, (low, high) in zip(done.curve, done.band, strict=True))


def test_setting_it_says_what_comes_next_whatever_the_prompt_says(model, to_rebecca):
    texts = [*prompts(PLACES[4:], "Michael"), *prompts(PLACES[4:], "Rebecca")]
    for value, name in ((1.5, "Rebecca"), (-0.5, "Michael")):
        done = sc.steer(model, to_rebecca, ("set", value), texts, strengths=[0, 1], n_tokens=1)
        assert done.before == ("Rebecca",) * 4 + ("Michael",) * 4
        assert done.texts == (done.before, (name,) * 8)


# -- against slow references ---------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [None, 1, 2])
def test_values_are_the_metric_under_a_hook_on_each_prompt_alone(batch_size):
    model = HOOKED["qwen3"]()
    d = sc.directions.of_vectors("resid_pre.1", {"a": torch.randn(20).double()})
    task = random_task(model, lengths=[6, 4, 5])
    done = sc.steer(
        model, d, ("scale", 2.0), task=task, strengths=[0.5, -1], positions=[1, 2],
        batch_size=batch_size,
    )  # fmt: skip
    for row, strength in zip(done.values, (0.5, -1), strict=True):
        for i, length in enumerate(task.lengths.tolist()):
            tokens = task.clean[i : i + 1, :length]

            def edit(x, hook, strength=strength):
                new = x.clone()
                along = d.encode(x)[..., :1] * d.W_dec[0]
                new[:, 1:3] += strength * along[:, 1:3]
                return new

            logits = model.run_with_hooks(tokens, fwd_hooks=[("blocks.1.hook_resid_pre", edit)])
            targets = Targets(task.answer[i : i + 1], task.wrong[i : i + 1], logits[:, -1])
            torch.testing.assert_close(row[i : i + 1], logit_diff(logits[:, -1], targets))


@pytest.mark.parametrize("kind", ["bridge", "hooked"])
def test_text_is_what_the_model_itself_writes_when_steered(to_rebecca, kind):
    model = sc.load_model("demo", kind=kind)
    text = prompts(PLACES[:1], "Michael")[0]
    done = sc.steer(model, to_rebecca, ("add", 1.0), text, strengths=[-2, 1], n_tokens=5)
    tokens = model.to_tokens(text)
    for strength, (found,) in [(0, done.before), *zip((-2, 1), done.texts, strict=True)]:
        with sc.steering(model, to_rebecca, ("add", 1.0), strength=strength):
            slow = tokens
            for _ in range(5):
                slow = torch.cat([slow, model(slow)[:, -1:].argmax(-1)], 1)
        assert found == model.tokenizer.decode(slow[0, tokens.shape[1] :].tolist())


def test_drawn_text_hangs_on_the_seed_alone(model, to_rebecca):
    text = prompts(PLACES[:1], "Michael")

    def drawn(**more):
        return sc.steer(
            model, to_rebecca, "remove", text, strengths=[0, 1], n_tokens=8, temperature=3.0, **more
        )

    one = drawn()
    assert one.texts == drawn().texts
    assert one.texts[0] == one.before  # the same random numbers at every strength
    assert one.texts != drawn(seed=1).texts


def test_text_ends_with_the_context():
    model = HOOKED["gpt2"]()
    d = sc.directions.of_vectors("resid_post.0", {"a": torch.ones(20)})
    tokens, _ = random_tokens(model, 1, 14)
    done = sc.steer(model, d, "remove", tokens, strengths=[1], n_tokens=9)
    assert len(done.before[0].split()) == 2  # ids, as there is no tokenizer
    assert done.prompts == (" ".join(map(str, tokens[0].tolist())),)


# -- the result ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def done(model, to_rebecca):
    texts = prompts(PLACES[:1], "Michael")
    return sc.steer(
        model, to_rebecca, ("add", 1.0), texts, task=both(model), strengths=[1, 0], n_tokens=1
    )


def test_tables_have_a_row_for_each_strength(done):
    texts = done.to_pandas()
    assert texts.columns.tolist() == ["strength", "prompt", "before", "after"]
    assert texts.strength.tolist() == [1, 1, 0, 0]
    assert texts.prompt.tolist() == list(done.prompts) * 2
    assert texts.after.tolist() == [text for row in done.texts for text in row]
    metric = done.to_pandas("metric")
    assert metric.columns.tolist() == ["strength", "logit_diff", "low", "high"]
    assert metric.logit_diff.tolist() == pytest.approx(list(done.curve))
    with pytest.raises(UnknownName, match="'text'"):
        done.to_pandas("text")


def test_it_says_what_it_is_and_comes_back_from_its_file(done, tmp_path):
    start = "Steered(add 1 to Rebecca at resid_post.3: 2 strengths, 2 prompts, logit_diff "
    assert repr(done).startswith(start)
    assert done.provenance.metric == "logit_diff"
    assert done.provenance.intervention == "add 1 to Rebecca at resid_post.3"
    done.save(tmp_path / "steered.json")
    again = sc.load(tmp_path / "steered.json", Steered)
    for name in ("changes", "strengths", "prompts", "before", "texts"):
        assert getattr(again, name) == getattr(done, name)
    assert torch.equal(again.values, done.values)
    assert torch.equal(again.clean, done.clean)
    assert again.provenance == done.provenance


def test_the_plot_is_drawn_by_ascending_strength(done):
    (axes,) = sc.viz.strengths(done).axes
    line, clean = axes.lines
    assert line.get_xdata().tolist() == [0, 1]
    assert line.get_ydata().tolist() == pytest.approx(list(done.curve[::-1]))
    assert clean.get_ydata() == pytest.approx([float(done.clean.mean())] * 2)
    assert len(sc.viz.strengths({"one": done, "other": done}).axes[0].lines) == 3


# -- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({}, OptionError, "nothing to run"),
        ({"prompts": "Michael", "strengths": []}, OptionError, "no strengths"),
        ({"prompts": "Michael", "strengths": [1, float("nan")]}, OptionError, "strength is nan"),
        ({"prompts": "Michael", "n_tokens": 0}, OptionError, "0 tokens"),
        ({"prompts": "Michael", "temperature": -1.0}, OptionError, "temperature is -1"),
        ({"prompts": "Michael", "positions": 2}, OptionError, "position 2 .* of 2 tokens"),
        ({"prompts": []}, TaskError, "no prompt"),
        ({"prompts": " "}, TaskError, "no token"),
        ({"prompts": "the " * 200}, ContextError, "at most"),
        ({"prompts": "Michael", "metric": "logit"}, UnknownName, "'logit'"),
    ],
)
def test_bad_input_is_refused_before_the_model_runs(
    model, to_rebecca, monkeypatch, given, error, message
):
    def stop(*_):
        raise AssertionError("the model ran")

    monkeypatch.setattr("sae_circuits.connectome.steer_job.changed_run", stop)
    monkeypatch.setattr("sae_circuits.models.adapter.Adapter.forward", stop)
    with pytest.raises(error, match=message):
        sc.steer(model, to_rebecca, "remove", **given)


def test_without_a_task_there_is_no_curve(model, to_rebecca):
    done = sc.steer(model, to_rebecca, "remove", "Michael", strengths=[1], n_tokens=1)
    assert done.values.shape == (1, 0)
    for ask in (lambda: done.curve, lambda: done.band, lambda: done.to_pandas("metric")):
        with pytest.raises(OptionError, match="nothing was measured"):
            ask()
    with pytest.raises(OptionError, match="with a task"):
        sc.viz.strengths(done)


def test_a_strength_that_overflows_is_named(model, to_rebecca):
    with pytest.raises(NumericalError, match="not finite at strength 1e\\+38"):
        sc.steer(model, to_rebecca, ("add", 1e6), task=both(model), strengths=[1, 1e38])
