"""`PromptView.build`: the features that do something at each token of a prompt, by some scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from sae_circuits.dashboards.numbers import short
from sae_circuits.dashboards.profile import Firing, Neighbours, Profile
from sae_circuits.dashboards.profiles import shown_tokens
from sae_circuits.dashboards.prompt_view import Active, PromptView, Ranked, Tokens
from sae_circuits.dashboards.views import FeatureView
from sae_circuits.dashboards.window import Values
from sae_circuits.errors import OptionError, StoreError, UnknownName, unknown
from sae_circuits.features.asked import check_k
from sae_circuits.features.dictionary import FeatureDictionary
from sae_circuits.features.effects.on_prompt import Measured, OnPrompt
from sae_circuits.features.sources import DictionarySource
from sae_circuits.features.vocabulary import Vocabulary
from sae_circuits.metrics import Metric, get, metric_name

SCORES = ("activation", "quantile", "loss effect", "logit effect", "attribution")
LIKELY, TOKENS = 5, 24  # tokens whose logits are looked at: those predicted, and all
EXAMPLES, FIRST = 5, 5  # windows of a compact panel, entries of its lists
TITLE = 80  # letters
_ANSWERED = ("logit_diff", "prob_diff", "cross_entropy", "accuracy")  # by a right answer
AnyColumns = TypeVar("AnyColumns", Firing, Neighbours)
_OPPOSED = ("logit_diff", "prob_diff")  # to a wrong one


@dataclass(frozen=True)
class Asked:
    """What to rank by: see `PromptView.build`."""

    metric: str | Metric | None = None
    answer: Tokens = ()
    wrong: Tokens = ()
    tokens: Tokens | None = None
    scores: Sequence[str] | None = None
    k: int = 10

    def __post_init__(self) -> None:
        check_k(self.k)
        for name in self.scores or ():
            if name not in SCORES:
                raise unknown("score", name, SCORES)
        if self.metric is None and "attribution" in (self.scores or ()):
            raise OptionError("attribution is to a metric: give metric='logit_diff' or another")
        if self.metric is None and (_ids(self.answer) or _ids(self.wrong)):
            raise OptionError("answers are for a metric: give metric='logit_diff' or another")

    @property
    def names(self) -> list[str]:
        """Of the scores, in the order in which they are shown."""
        possible = SCORES if self.metric is not None else SCORES[:-1]
        return [name for name in possible if self.scores is None or name in self.scores]

    def measured(self, vocabulary: Vocabulary) -> Measured | None:
        """The metric, where there is one.

        Raises:
            UnknownName: no such metric, or a text that no token reads.
            OptionError: it compares answers, and there are none.
        """
        if self.metric is None or "attribution" not in self.names:
            return None
        metric = get(self.metric)
        answer, wrong = (token_ids(given, vocabulary) for given in (self.answer, self.wrong))
        name = metric_name(metric)
        for what, given, needed in (("answer", answer, _ANSWERED), ("wrong", wrong, _OPPOSED)):
            if name in needed and metric is get(name) and not given:
                raise OptionError(f"{name} compares answers: give {what}=, such as ' Mary'")
        return Measured(metric, tuple(answer), tuple(wrong))


def build(
    features: FeatureDictionary,
    prompt: str | Sequence[int] | Int64[Tensor, "pos"],
    asked: Asked,
    prepend_bos: bool,
    panels: dict[str, Any],
) -> PromptView:
    """A view of a prompt: see `PromptView.build`."""
    source, vocabulary = _source(features), features.corpus.vocabulary
    measured = asked.measured(vocabulary)
    chosen = None if asked.tokens is None else token_ids(asked.tokens, vocabulary)
    if not isinstance(prompt, str):
        prompt = torch.as_tensor(prompt)
    model = source.adapter.model
    found = OnPrompt.of(model, source.dictionary, prompt, measured, prepend_bos=prepend_bos)
    ids, chances = found.likely(LIKELY)
    likely, tokens = Values(tuple(ids), tuple(short(np.array(chances)))), found.tokens.tolist()
    if chosen is None:
        chosen = list(dict.fromkeys([*ids, *tokens[1:]]))[:TOKENS]
    ranking = _Ranking(found, asked.k, vocabulary)
    values = _values(found, features, asked.names)
    scores = tuple(ranking.all_of(asked.names, values, chosen, measured))
    active = _active(found, scores, values)
    text = vocabulary.read([t for t in tokens if t not in vocabulary.special])
    title = {"title": text if len(text) <= TITLE else f"{text[: TITLE - 1]}…"}
    ranked = sorted({f for here in active for f in here.ids})
    view = _compact(features, ranked, {**title, **panels})
    texts = {token: vocabulary[token] for token in (*tokens, *chosen, *ids)}
    return PromptView(
        replace(view, texts=dict(sorted({**view.texts, **texts}.items()))),
        tuple(tokens),
        tuple(sorted(set(tokens) & vocabulary.special)),
        (None, *short(found.log_probs().exp().double().cpu().numpy())),
        likely,
        scores,
        active,
    )


def token_ids(given: Tokens, vocabulary: Vocabulary) -> list[int]:
    """Ids of tokens that are given by id or by what they read.

    Raises:
        UnknownName: no such id, or no token that reads so.
    """
    found = []
    for one in _ids(given):
        token = one if not isinstance(one, str) else _token(one, vocabulary)
        if not 0 <= token < len(vocabulary):
            raise UnknownName(f"no token {token}: ids are 0 to {len(vocabulary) - 1}")
        found.append(int(token))
    return list(dict.fromkeys(found))


def _token(text: str, vocabulary: Vocabulary) -> int:
    for form in (text, text.strip() if vocabulary.gap else text):
        if form in vocabulary.texts:
            return vocabulary.texts.index(form)
    raise unknown("token", text, {t for t in vocabulary.texts if t.strip() == text.strip()})


def _ids(given: Tokens) -> Sequence[int | str]:
    return [given] if isinstance(given, int | str) else given


def _source(features: FeatureDictionary) -> DictionarySource:
    if features.source is None:
        raise StoreError(
            f"{features!r} was loaded without its model, which a prompt is run on: "
            "FeatureDictionary.load(folder, model, sae)"
        )
    if not isinstance(features.source, DictionarySource):
        raise StoreError(
            f"{features!r} is of a {type(features.source).__name__}, which writes nothing: what "
            "features do on a prompt is for an SAE or a transcoder"
        )
    return features.source


# -- scores ----------------------------------------------------------------------------------------

_Values = dict[str, Float64[np.ndarray, "active"]]
_SAID = {
    "activation": "how strongly the feature is active",
    "quantile": "share of the corpus's counted tokens with an activation no larger",
    "loss effect": (
        "how much the feature's own write raises the log probability of the token that comes "
        "next; above 0 it helps"
    ),
    "logit effect": (
        "what the feature's own write adds to the logit of {}, less the mean over all tokens"
    ),
    "attribution": "activation times the gradient of {}",
}
_UNITS = {"loss effect": "nats", "logit effect": "logits"}


def _values(found: OnPrompt, features: FeatureDictionary, names: Sequence[str]) -> _Values:
    """Activations, and what else has one value for each of them."""
    values: _Values = {"activation": found.activations.double().cpu().numpy()}
    if "quantile" in names:
        values["quantile"] = found.quantiles(features.activations)[0]
    if "loss effect" in names:
        values["loss effect"] = found.loss_effects()
    if "attribution" in names:
        values["attribution"] = found.attributions()
    return values


@dataclass(frozen=True, eq=False)
class _Ranking:
    """Features at each position of a prompt, by scores that are not made yet."""

    found: OnPrompt
    k: int
    vocabulary: Vocabulary

    def all_of(
        self,
        names: Sequence[str],
        values: _Values,
        tokens: Sequence[int],
        measured: Measured | None,
    ) -> Iterator[Ranked]:
        """By all scores, in order; by the logit effect once for each token."""
        metric = "" if measured is None else _named(measured, self.vocabulary)
        for name in names:
            if name == "logit effect":
                yield from self._logit_effects(tokens)
            else:
                signs = name in ("loss effect", "attribution") or bool((values[name] < 0).any())
                yield self._by(name, values[name], metric, signs=signs)

    def _logit_effects(self, tokens: Sequence[int]) -> Iterator[Ranked]:
        """On the token that comes next, and on each of some tokens."""
        after = self.found.tokens[1:].tolist()
        every = list(dict.fromkeys([*tokens, *after]))
        effects = self.found.logit_effects(every)
        column = np.array([*(every.index(token) for token in after), -1])
        at = column[self.found.positions.cpu().numpy()]
        following = np.where(at >= 0, effects[np.arange(len(at)), at], np.nan)
        yield self._by("logit effect", following, "the token that comes next", signs=True)
        for i, token in enumerate(tokens):
            text = repr(self.vocabulary[token])
            yield self._by("logit effect", effects[:, i], text, signs=True, token=token)

    def _by(
        self,
        name: str,
        values: Float64[np.ndarray, "active"],
        of: str,
        *,
        signs: bool,
        token: int | None = None,
    ) -> Ranked:
        """By some values: the k largest at each position, and the k smallest of what has signs."""
        ends: tuple[list[Values], list[Values]] = ([], [])
        for own in _by_position(self.found):
            known = own[~np.isnan(values[own])]
            for end, key in zip(ends, (-values[known], values[known]), strict=True):
                best = known[np.argsort(key, kind="stable")[: self.k]]
                ids = self.found.features[torch.from_numpy(best)].tolist()
                end.append(Values(tuple(ids), tuple(short(values[best]))))
        unit, said = _UNITS.get(name, ""), _SAID[name].format(of)
        return Ranked(name, unit, said, tuple(ends[0]), tuple(ends[1]) if signs else (), token)


def _by_position(found: OnPrompt) -> Iterator[Int64[np.ndarray, "some"]]:
    """Which activations are at each position."""
    bounds = np.searchsorted(found.positions.cpu().numpy(), np.arange(len(found.tokens) + 1))
    return (np.arange(first, stop) for first, stop in pairwise(bounds))


def _active(found: OnPrompt, scores: Sequence[Ranked], values: _Values) -> tuple[Active, ...]:
    """What the features that some score ranks do, at each position."""
    features, at_each = found.features.cpu().numpy(), []
    for p, own in enumerate(_by_position(found)):
        ends = (end for score in scores for end in (score.features, score.lowest) if end)
        ranked = {f for end in ends for f in end[p].ids}
        kept = own[np.isin(features[own], list(ranked))]
        numbers = {name: tuple(short(column[kept])) for name, column in values.items()}
        at_each.append(Active(tuple(features[kept].tolist()), numbers))
    return tuple(at_each)


def _named(measured: Measured, vocabulary: Vocabulary) -> str:
    """A metric, with what it compares."""
    sides = [
        ", ".join(repr(vocabulary[token]) for token in ids)
        for ids in (measured.answer, measured.wrong)
    ]
    between = f" ({' against '.join(side for side in sides if side)})" if any(sides) else ""
    return f"{metric_name(measured.metric)}{between} at the prompt's last token"


# -- panels ----------------------------------------------------------------------------------------


def _compact(features: FeatureDictionary, ids: list[int], panels: dict[str, Any]) -> FeatureView:
    """What a page shows of features beside their scores."""
    view = FeatureView.build(features, ids, **panels)
    found = tuple(map(_short_form, view.profiles))
    shown = {token: view.texts[token] for token in shown_tokens(found)}
    return replace(view, profiles=found, texts=shown)


def _short_form(profile: Profile) -> Profile:
    """The profile with the first of its top examples alone, and the nearest of its neighbours."""
    groups = tuple(
        replace(group, windows=group.windows[:EXAMPLES])
        for group in profile.groups
        if group.kind == "top"
    )
    tokens = {token for group in groups for one in group.windows.tokens for token in one}
    kept = [i for i, token in enumerate(profile.effects.ids) if token in tokens]
    return replace(
        profile,
        groups=groups,
        effects=_some(profile.effects, kept),
        firing=_first(profile.firing),
        neighbours=tuple(map(_first, profile.neighbours)),
    )


def _first(columns: AnyColumns) -> AnyColumns:
    """The first entries of columns of equal length."""
    every = {field.name: getattr(columns, field.name) for field in fields(columns)}
    cut = {name: column[:FIRST] for name, column in every.items() if isinstance(column, tuple)}
    return replace(columns, **cut)


def _some(values: Values, kept: Sequence[int]) -> Values:
    return Values(tuple(values.ids[i] for i in kept), tuple(values.values[i] for i in kept))
