r"""What a language model says that a feature fires on, tested by what it then foretells.

The model sees windows of text in which the tokens that fire are marked, and answers with a label.
To test it, it gets the label and other windows, of held-out prompts, and says which of their tokens
fire: windows with and without activity, each weighted by how many it stands for.

Reference: Bills et al. (2023), openaipublic.blob.core.windows.net/neuron-explainer/paper; in the
form of detection on tokens of Paulo et al. (2024), arXiv:2410.13928.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from string import Template
from typing import Any

import numpy as np

from sae_circuits.errors import OptionError
from sae_circuits.features.columns import Columns
from sae_circuits.features.labels.asking import BadForm, Budget, BudgetSpent, Endpoint, Unanswered
from sae_circuits.features.labels.parts import Part, Places
from sae_circuits.features.labels.strategy import (
    LeftOut,
    Proposal,
    Propose,
    Setting,
    Strategy,
    Untested,
)
from sae_circuits.features.labels.windows import (
    read_marked,
    read_numbered,
    sampled,
    strongest,
    windows_of,
)

EXPLAIN = """\
A feature of a language model fires on some tokens and not on others. Below are texts in which the
tokens that it fires on stand between << and >>; the strength of each, from 1 to 10, comes after the
text. Say in at most twelve words what the feature fires on: be as specific as the texts allow.

$examples

Answer with one JSON object and nothing else: {"label": "..."}
"""

JUDGE = """\
A feature of a language model is described so: $label

Below are texts, each as its tokens with their numbers. Say for each text on which tokens the
feature fires, if the description is right. In most texts there may be none.

$examples

Answer with one JSON object and nothing else, with every text's number and a list of token numbers,
such as {"1": [0, 4], "2": []}
"""

HOPELESS = 3  # features without an answer, before the first one with, after which it is no use


def make(
    setting: Setting,
    *,
    base_url: str,
    model: str,
    key: str,
    explain: str,
    judge: str,
    examples: int,
    tests: int,
    window: int,
    max_calls: int,
    max_tokens: int,
    timeout: float,
    retries: int,
    backoff: float,
    parameters: Mapping[str, Any],
) -> Propose:
    """Labels in a language model's words; texts of the corpus are sent to the address given.

    Args:
        base_url: of an OpenAI-compatible server.
        model: its name there.
        key: the environment variable that holds the key; the key itself is stored nowhere.
        explain: the prompt for a label, with `$examples` in it.
        judge: the prompt for its test, with `$label` and `$examples` in it.
        examples: windows in the first prompt.
        tests: windows in the second one; 0 for no test, and no label that is shown.
        window: tokens in a window.
        max_calls: HTTP calls in all, retries among them, and those for features that an earlier
            run has done; workers have equal shares.
        max_tokens: of questions and answers in all, likewise.
        timeout: seconds for a call.
        retries, backoff: of a call that failed (see `Endpoint`).
        parameters: more fields of the request.

    Raises:
        OptionError: an option out of range, a prompt without its place for examples, a server that
            refuses, or one that answers nothing for the first three features.
        MissingProgram: httpx or tenacity is not installed.
    """
    if examples < 1 or tests < 0 or window < 1 or max_calls < 1 or max_tokens < 1:
        raise OptionError(
            f"examples={examples}, tests={tests}, window={window}, max_calls={max_calls}, "
            f"max_tokens={max_tokens}: each has to be 1 or more, and tests may be 0"
        )
    _check_template("explain", explain, "examples")
    _check_template("judge", judge, "label", "examples")
    budget = _share(max_calls, max_tokens, setting)
    endpoint = Endpoint(base_url, model, key, budget, timeout, retries, backoff, parameters)
    return Explainer(setting, endpoint, explain, judge, examples, tests, window)


def _share(max_calls: int, max_tokens: int, setting: Setting) -> Budget:
    """What one worker may use, beside what has been."""
    calls, tokens = (setting.used.get(name, 0) for name in ("calls", "tokens"))
    left = [max(0, most - used) for most, used in ((max_calls, calls), (max_tokens, tokens))]
    share = [some // setting.workers for some in left]
    return Budget(calls + share[0], tokens + share[1], calls, tokens)


def _check_template(name: str, template: str, *places: str) -> None:
    try:
        Template(template).substitute(dict.fromkeys(places, ""))
    except (KeyError, ValueError) as error:
        known = " and ".join(f"${place}" for place in places)
        raise OptionError(
            f"the prompt {name!r} has something else after a $ than {known}: {error}; write $$ for "
            "the sign itself"
        ) from error
    for place in places:
        if f"${place}" not in template and f"${{{place}}}" not in template:
            raise OptionError(f"the prompt {name!r} lacks ${place}: put it where that should stand")


@dataclass(frozen=True, eq=False)
class Explainer:
    """What `make` gives: it asks for labels, feature by feature."""

    setting: Setting
    endpoint: Endpoint
    explain: str
    judge: str
    examples: int
    tests: int
    window: int
    _tally: dict[str, int] = field(default_factory=lambda: {"answered": 0, "not": 0})

    @property
    def used(self) -> dict[str, int]:
        """Calls and tokens so far."""
        return {"calls": self.endpoint.budget.calls, "tokens": self.endpoint.budget.tokens}

    def __call__(self, columns: Columns) -> Iterator[Proposal | LeftOut]:
        """A label for each feature that fires, as long as the budget lasts."""
        for i in np.flatnonzero(columns.counts).tolist():
            feature = int(columns.features[i])
            prompt = self.prompt(columns, i)
            try:
                text = self.endpoint.ask(prompt, label_in)
            except Unanswered as reason:
                yield self._failed(feature, reason)
                continue
            self._tally["answered"] += 1
            yield self._proposal(feature, text, prompt)

    def prompt(self, columns: Columns, i: int) -> str:
        """The question about one feature, as it is sent."""
        places, values = columns.column(i)
        ground = self.setting.part.ground
        windows = windows_of(ground.corpus, self.window)
        rng = np.random.default_rng([self.setting.seed, int(columns.features[i])])
        chosen = strongest(windows[places], values, self.examples, rng)
        texts = [
            read_marked(ground, np.flatnonzero(windows == w), places, np.abs(values))
            for w in chosen
        ]
        return Template(self.explain).substitute(examples=_texts(texts))

    def _proposal(self, feature: int, text: str, prompt: str) -> Proposal:
        made = {"model": self.endpoint.model, "base_url": self.endpoint.base_url, "prompt": prompt}
        if not self.tests:
            return Proposal(feature, text, None, made)
        judged = Judged(self.endpoint, self.judge, text, self.window)

        def sample(held: Part, active: Places) -> Part:
            rng = np.random.default_rng([self.setting.seed, feature, 1])
            return sampled(held, active, self.window, self.tests, rng)

        return Proposal(feature, text, judged, {**made, "tests": self.tests}, sample=sample)

    def _failed(self, feature: int, reason: Unanswered) -> LeftOut:
        if not isinstance(reason, BudgetSpent):
            self._tally["not"] += 1
            if not self._tally["answered"] and self._tally["not"] >= HOPELESS:
                raise OptionError(
                    f"no answer for the first {HOPELESS} features: {reason}; look at base_url and "
                    "model"
                )
        return LeftOut(feature, str(reason))


@dataclass(frozen=True, eq=False)
class Judged:
    """The places at which a language model says that a feature with some label fires."""

    endpoint: Endpoint
    template: str
    label: str
    window: int

    def __call__(self, part: Part) -> Places:
        """The places, rising.

        Raises:
            Untested: no answer.
        """
        window = windows_of(part.corpus, self.window)
        each = [np.flatnonzero(window == w) for w in np.unique(window[part.places])]
        if not each:
            return np.zeros(0, dtype=np.int64)
        texts = [read_numbered(part.ground, places) for places in each]
        prompt = Template(self.template).substitute(label=self.label, examples=_texts(texts))
        try:
            found = self.endpoint.ask(prompt, tokens_in([len(places) for places in each]))
        except Unanswered as reason:
            raise Untested(str(reason)) from reason
        return np.concatenate([p[said] for p, said in zip(each, found, strict=True)])


def _texts(texts: list[str]) -> str:
    return "\n\n".join(f"Text {i}: {text}" for i, text in enumerate(texts, start=1))


# -- answers ---------------------------------------------------------------------------------------


def _object_in(text: str) -> dict[str, Any]:
    """The JSON object in an answer, which may stand among other words or in a fence."""
    found = re.search(r"\{.*\}", text, re.DOTALL)
    try:
        document = json.loads(found[0]) if found else None
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise BadForm(f"no JSON object in {text[:80]!r}")
    return document


def label_in(text: str) -> str:
    """The label in an answer.

    >>> label_in('Sure! {"label": " names of people. "}')
    'names of people'
    """
    said = _object_in(text).get("label")
    if not isinstance(said, str) or not said.strip(" ."):
        raise BadForm(f"no label in {text[:80]!r}")
    return " ".join(said.split()).strip(" .")[:200]


def tokens_in(sizes: list[int]) -> Callable[[str], list[Places]]:
    """A parser of the tokens said to fire, for texts of some sizes.

    >>> [found.tolist() for found in tokens_in([3, 2])('{"1": [2, 0], "2": []}')]
    [[0, 2], []]
    """

    def parse(text: str) -> list[Places]:
        document, found = _object_in(text), []
        for i, size in enumerate(sizes, start=1):
            said = document.get(str(i))
            if not isinstance(said, list) or not all(
                type(n) is int and 0 <= n < size for n in said
            ):
                raise BadForm(f"text {i} of {size} tokens got {said!r}")
            found.append(np.array(sorted(set(said)), dtype=np.int64))
        return found

    return parse


STRATEGY = Strategy(
    name="explainer",
    make=make,
    options={
        "base_url": "",
        "model": "",
        "key": "OPENAI_API_KEY",
        "explain": EXPLAIN,
        "judge": JUDGE,
        "examples": 10,
        "tests": 20,
        "window": 32,
        "max_calls": 1000,
        "max_tokens": 2_000_000,
        "timeout": 60.0,
        "retries": 4,
        "backoff": 1.0,
        "parameters": {"temperature": 0},
    },
    reference="Bills et al. 2023; arXiv:2410.13928",
    means=("base_url", "key", "max_calls", "max_tokens", "timeout", "retries", "backoff"),
    alone=True,
)
