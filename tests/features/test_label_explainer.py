"""The explainer against a server of its own, in all the ways in which a server can fail."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from explaining import Server, serving
from made_corpus import activity_of, firing, sentences
from sae_circuits.errors import LabelsLeftOut, OptionError
from sae_circuits.features.labels import label
from sae_circuits.features.labels.strategies.explainer import EXPLAIN, JUDGE

CORPUS = sentences(n_prompts=60)
DOGS = firing(CORPUS, lambda texts, i: texts[i] == " dog")
CATS = firing(CORPUS, lambda texts, i: texts[i] == " cat")
ACTIVITY = activity_of(CORPUS, DOGS)


def honest(prompt: str) -> str:
    """What somebody would answer who sees that the feature fires on dogs, or cats."""
    if prompt.startswith(JUDGE[:40]):
        wanted = "dog" if "on dogs" in prompt else "cat"
        texts = re.findall(r"Text (\d+): (.*)", prompt)
        said = {n: re.findall(rf"(\d+)=' {wanted}'", text) for n, text in texts}
        return "Here:\n```json\n" + json.dumps({k: list(map(int, v)) for k, v in said.items()})
    return json.dumps({"label": " on dogs. " if "<<dog>>" in prompt else "on cats"})


@pytest.fixture
def server() -> Iterator[Server]:
    yield from serving(honest)


def explained(server: Server, activity=ACTIVITY, **options):
    quick = {"base_url": server.url, "model": "small", "backoff": 0.0, "retries": 2, "timeout": 5.0}
    return label(activity, "explainer", explainer={**quick, **options})


def failing(times: int, answer: object) -> Callable[[str, int], object]:
    return lambda prompt, n: answer if n < times else honest(prompt)


def test_a_label_is_asked_for_and_tested_on_prompts_that_it_was_not_made_from(server, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "secret")
    (found,) = explained(server, key="SOME_KEY")
    assert (found.text, found.strategy) == ("on dogs", "explainer")
    assert (found.precision, found.recall, found.shown) == (1.0, 1.0, True)
    explain, judge = server.prompts
    assert explain.startswith(EXPLAIN[:40])
    assert explain.count("\n\nText ") >= 9
    assert "described so: on dogs" in judge
    assert judge.count("Text ") >= 20
    made = set(re.findall(r"Text \d+: (.*)", explain))
    assert not any(line.replace("<<", "").replace(">>", "") in judge for line in made)
    assert server.requests[0]["path"] == "/v1/chat/completions"
    assert (server.requests[0]["model"], server.requests[0]["temperature"]) == ("small", 0)
    assert server.headers[0]["authorization"] == "Bearer secret"
    assert "secret" not in json.dumps(dict(found.provenance))
    assert found.provenance["prompt"] == explain


def test_it_is_the_same_each_time_and_draws_by_the_feature_only(server):
    both = activity_of(CORPUS, DOGS, CATS)
    one = explained(server, both)
    assert one == explained(server, both)
    assert [found.text for found in one] == ["on dogs", "on cats"]
    assert explained(server) == one[:1]
    assert server.prompts[0] == server.prompts[4]


def test_a_wrong_label_is_kept_and_not_shown(server):
    server.answer = lambda prompt, n: '{"label": "on cats"}' if n == 0 else honest(prompt)
    (found,) = explained(server)
    assert (found.text, found.precision, found.recall, found.shown) == ("on cats", 0.0, 0.0, False)


def test_a_label_that_fires_everywhere_is_weighed_as_on_the_corpus(server):
    def everywhere(prompt, n):
        sizes = [len(re.findall(r"\d+='", t)) for t in re.findall(r"Text \d+: (.*)", prompt)]
        said = {str(i): list(range(size)) for i, size in enumerate(sizes, 1)}
        return json.dumps(said) if n else '{"label": "words"}'

    server.answer = everywhere
    (found,) = explained(server, tests=1000)  # all windows, so that the sample is the whole
    assert found.precision == pytest.approx(found.base_rate)
    assert (found.recall, found.shown) == (1.0, False)
    server.prompts.clear()
    (few,) = explained(server, tests=20, window=6)
    assert few.precision == pytest.approx(found.base_rate, rel=0.5)
    assert not few.shown


@pytest.mark.parametrize(
    "answer",
    [
        (500, {}, "oh"),
        (503, {"retry-after": "0"}, ""),
        (429, {"retry-after": "soon"}, "slow down"),
        (200, {}, "<html>"),
        (200, {}, '{"choices": []}'),
        (200, {}, "[1]"),
        "I would rather not.",
        '{"label": 3}',
        '{"label": " "}',
        '{"label": ',
        None,
    ],
    ids=str,
)
def test_failures_that_may_pass_are_tried_again(server, answer):
    server.answer = failing(2, answer)
    (found,) = explained(server)
    assert (found.text, found.precision) == ("on dogs", 1.0)
    assert len(server.prompts) == 4


@pytest.mark.parametrize("answer", ['{"1": [0]}', '{"1": "none"}', '{"1": [99]}', "none"])
def test_rubbish_in_the_test_leaves_a_label_untested(server, answer):
    server.answer = lambda prompt, n: honest(prompt) if n == 0 else answer
    (found,) = explained(server)
    assert (found.text, found.precision, found.recall, found.score) == ("on dogs", *(None,) * 3)
    assert not found.shown
    assert "in 3 tries" in found.provenance["untested"]
    assert len(server.prompts) == 4


def test_the_server_says_how_long_to_wait(server):
    server.answer = failing(1, (429, {"retry-after": "0.5"}, ""))
    begun = time.monotonic()
    assert explained(server)[0].text == "on dogs"
    assert time.monotonic() - begun > 0.5


def test_timeouts_are_tried_again_and_then_given_up(server):
    def slow(prompt, n):
        time.sleep(0.4)
        return honest(prompt)

    server.answer = slow
    with pytest.warns(LabelsLeftOut, match="feature 0: .*ReadTimeout.*in 2 tries"):
        assert explained(server, timeout=0.1, retries=1) == []
    assert len(server.prompts) == 2


def test_one_feature_without_an_answer_does_not_lose_the_others(server):
    both = activity_of(CORPUS, DOGS, CATS)
    server.answer = lambda prompt, n: (500, {}, "") if "<<dog>>" in prompt else honest(prompt)
    with pytest.warns(LabelsLeftOut, match="feature 0: .*answered 500, in 3 tries"):
        (found,) = explained(server, both)
    assert found.feature == 1


def test_a_server_that_never_answers_is_no_use(server):
    server.answer = lambda prompt, n: (500, {}, "")
    five = activity_of(CORPUS, *[DOGS] * 5)
    with pytest.raises(OptionError, match=r"first 3 features.*500"):
        explained(server, five, retries=0)
    assert len(server.prompts) == 3
    with pytest.warns(LabelsLeftOut, match="ConnectError"):
        explained(server, base_url="http://127.0.0.1:9", retries=0)


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_refusal_is_said_at_once(server, status):
    server.answer = lambda prompt, n: (status, {}, "bad key")
    with pytest.raises(OptionError, match=f"answered {status}: 'bad key': look at .*'NO_KEY'"):
        explained(server, key="NO_KEY")
    assert len(server.prompts) == 1
    assert "authorization" not in server.headers[0]


def test_the_budget_of_calls_and_of_tokens_is_kept(server):
    five = activity_of(CORPUS, *[DOGS] * 5)
    with pytest.warns(LabelsLeftOut, match="features 2, 3, 4: .*4 of 4 calls"):
        found = explained(server, five, max_calls=4)
    assert [one.feature for one in found] == [0, 1]
    assert len(server.prompts) == 4
    with pytest.warns(LabelsLeftOut, match="300 of 250 tokens"):
        found = explained(server, five, max_tokens=250)
    assert [one.precision for one in found] == [1.0, None]
    assert "budget is spent" in found[1].provenance["untested"]


def test_prompts_can_be_seen_and_changed(server):
    server.answer = lambda prompt, n: '{"label": "x"}'
    explained(server, explain="For $$5, name this:\n$examples", tests=0)
    assert server.prompts[0].startswith("For $5, name this:\nText 1: ")
    for wrong, message in (
        ({"explain": "nothing"}, "'explain' lacks \\$examples"),
        ({"judge": "$examples"}, "'judge' lacks \\$label"),
        ({"explain": "$examples $more"}, "something else after a \\$"),
        ({"explain": "$examples 5$"}, "something else after a \\$"),
        ({"base_url": "localhost:80"}, "give the address"),
        ({"model": ""}, "the name that the server knows"),
        ({"timeout": 0}, "timeout=0"),
        ({"examples": 0}, "examples=0"),
    ):
        with pytest.raises(OptionError, match=message):
            explained(server, **wrong)
    assert len(server.prompts) == 1


def test_strengths_run_from_1_to_10_and_marks_leave_the_space_outside(server):
    strengths = DOGS * np.random.default_rng(0).uniform(0.1, 5, len(DOGS)).astype(np.float32)
    explained(server, activity_of(CORPUS, strengths))
    said = [int(n) for n in re.findall(r"'dog' (\d+)", server.prompts[0])]
    assert max(said) == 10
    assert min(said) >= 1
    assert len(set(said)) > 2
    assert " <<dog>>" in server.prompts[0]
    assert "<< dog" not in server.prompts[0]


def test_without_tests_a_label_has_no_numbers_and_is_not_shown(server):
    (found,) = explained(server, tests=0)
    assert (found.text, found.precision, found.shown) == ("on dogs", None, False)
    assert len(server.prompts) == 1
