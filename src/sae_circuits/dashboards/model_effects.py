"""What a page says of features that needs their model, where it is at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from sae_circuits.dashboards.at_tokens import AtTokens
from sae_circuits.dashboards.numbers import short
from sae_circuits.dashboards.profile import Probed, Profile
from sae_circuits.dashboards.reading import Rows
from sae_circuits.dashboards.shown import Shown
from sae_circuits.dashboards.window import Values
from sae_circuits.dashboards.windows import split
from sae_circuits.errors import DictionaryError, GraphError, OptionError
from sae_circuits.features.corpus import Corpus
from sae_circuits.features.dictionary import FeatureDictionary
from sae_circuits.features.effects import (
    ablation_loss_effect,
    attention_source,
    stream_directions,
)
from sae_circuits.features.effects.final import Final
from sae_circuits.features.effects.logits import effect_rows
from sae_circuits.features.effects.sight import Sight
from sae_circuits.features.sources import DictionarySource

LOGIT_DIGITS, LOSS_DIGITS = 4, 5  # that a page shows

Probe = tuple[Any, Sequence[str]]  # directions [d_model, class], and the classes' names


@dataclass(frozen=True, eq=False)
class Options:
    """What to say of features beyond what their store says.

    Args:
        loss_effects: direct effects of windows' tokens; None for: where they can be had.
        ablation: ablation loss effects of windows' tokens.
        probes: by name, directions [d_model, class] and the names of the classes.
        hover: how many of the tokens that are helped, and hurt, to list; and, for SAEs on z, of
            the positions from which attention brought what a feature reads.

    Raises:
        OptionError: a number below 0, or a probe of no such form.
    """

    loss_effects: bool | None = None
    ablation: bool = False
    probes: Mapping[str, Probe] = field(default_factory=dict)
    hover: int = 5

    def __post_init__(self) -> None:
        if self.hover < 0:
            raise OptionError(f"hover={self.hover}: give 0 or more")
        for name, (directions, classes) in self.probes.items():
            if getattr(directions, "ndim", 0) != 2 or directions.shape[1] != len(classes):
                raise OptionError(
                    f"probe {name!r}: give directions [d_model, class], and a name for each class"
                )


@dataclass(frozen=True, eq=False)
class Model:
    """The model behind some features, as far as it is at hand.

    Args:
        source: None without one.
        sight: None where effects on the loss cannot be had.
    """

    options: Options
    source: DictionarySource | None = None
    sight: Sight | None = None

    @classmethod
    def of(cls, features: FeatureDictionary, options: Options) -> Model:
        """That of a store.

        Raises:
            OptionError: effects that are asked for, and cannot be had.
        """
        source = features.source
        needed = [name for name in ("loss_effects", "ablation", "probes") if getattr(options, name)]
        if not isinstance(source, DictionarySource):
            if needed:
                remedy = (
                    "load the store with them, by FeatureDictionary.load(folder, model, sae)"
                    if source is None
                    else "this store is of other activations, so leave them out"
                )
                raise OptionError(f"{needed[0]} need the model and its dictionary: {remedy}")
            return cls(options)
        try:
            stream_directions(source.adapter.model, source.dictionary, [])
        except DictionaryError as error:
            if needed:
                raise OptionError(f"{needed[0]} cannot be had: {error}") from error
            return cls(options)
        sight = None
        try:
            sight = Sight.of(source.adapter, source.dictionary)
        except (DictionaryError, GraphError) as error:
            if options.loss_effects or options.ablation:
                raise OptionError(f"effects on the loss cannot be had: {error}") from error
        _require_widths(options.probes, source.adapter.architecture.d_model)
        return cls(options, source, sight)

    def over(self, features: FeatureDictionary, shown: Shown | None) -> Work:
        """The effects of some features in their windows."""
        at = None
        if self.sight is not None and shown is not None and self.options.loss_effects is not False:
            at = AtTokens.of(self.sight, shown, features.corpus)
        if shown is None and (self.options.loss_effects or self.options.ablation):
            raise OptionError("effects on the loss need the corpus, which an export does not hold")
        corpus = None if shown is None else features.corpus
        return Work(self, corpus, at)


def _require_widths(probes: Mapping[str, Probe], d_model: int) -> None:
    for name, (directions, _) in probes.items():
        if len(directions) != d_model:
            raise OptionError(
                f"probe {name!r} has directions of {len(directions)}, and the stream is {d_model} "
                "wide"
            )


@dataclass(frozen=True, eq=False)
class _Block:
    """What some features write.

    Args:
        features: their ids, rising.
        directions: in the stream.
        effects: on the logits, not centred.
        mean: of these over the vocabulary.
        shown: those on the tokens that each feature's windows show, of features that write.
    """

    features: np.ndarray
    directions: Float[Tensor, "feature d_model"]
    effects: Float[Tensor, "feature vocab"]
    mean: Float64[Tensor, "feature"]
    shown: dict[int, Values]

    @classmethod
    def of(
        cls,
        features: np.ndarray,
        directions: Float[Tensor, "feature d_model"],
        effects: Float[Tensor, "feature vocab"],
        mean: Float64[Tensor, "feature"],
        part: Rows,
    ) -> _Block:
        """Of some features, whose windows are a part of the table of examples."""
        tokens, n = part.lists("tokens"), effects.shape[1]
        column = np.searchsorted(features, part["feature"])
        writes = directions.any(1).cpu().numpy()[column].repeat(np.diff(tokens.starts))
        key = column.repeat(np.diff(tokens.starts)) * n + tokens.values
        row, token = np.divmod(np.unique(key[writes]), n)
        index = torch.from_numpy(row).to(mean.device)
        values = effects[index, torch.from_numpy(token).to(mean.device)].double() - mean[index]
        bounds = np.searchsorted(row, np.arange(len(features) + 1))
        ids = split(token.tolist(), bounds)
        found = map(Values, ids, split(short(values.cpu().numpy(), LOGIT_DIGITS), bounds))
        shown = dict(zip(features.tolist(), found, strict=True))
        return cls(features, directions, effects, mean, shown)


class Work:
    """Effects of the features of a chunk, block by block."""

    def __init__(self, model: Model, corpus: Corpus | None, at: AtTokens | None) -> None:
        """Of a model, and what it was run for."""
        self.model = model
        self.corpus = corpus
        self.at = at
        self.block: _Block | None = None

    def windows(self, ids: Sequence[int], rows: slice, part: Rows) -> dict[str, Any]:
        """Fields of the windows of some features.

        Args:
            ids: of the features, rising.
            rows: where their windows stand among all.
            part: these.
        """
        source, options = self.model.source, self.model.options
        if source is None:
            return {}
        adapter, features = source.adapter, np.asarray(ids)
        final = self.at.final if self.at else Final.of(adapter, source.dictionary.W_enc.dtype)
        directions = stream_directions(adapter.model, source.dictionary, features)
        self.block = _Block.of(features, directions, *effect_rows(final, directions), part)
        found: dict[str, Any] = {}
        if self.at is not None:
            own = self.at.changes(features, directions, self.block.effects, options.hover)
            found["effects"] = self.at.of_rows(rows, *own)
        if options.ablation and self.corpus is not None:
            found["ablation"] = self._ablation(source, self.corpus, part)
        if source.dictionary.reads.kind == "z" and self.corpus is not None and options.hover:
            found["sources"] = self._sources(source, self.corpus, part)
        return found

    def with_effects(self, profile: Profile) -> Profile:
        """A feature's profile with its effects on the logits of shown tokens, and on probes."""
        if self.block is None:
            return profile
        i = int(np.searchsorted(self.block.features, profile.feature))
        effects = self.block.shown.get(profile.feature, Values())
        return replace(profile, effects=effects, probes=self._probes(i))

    def _probes(self, i: int) -> tuple[Probed, ...]:
        assert self.block is not None
        direction, found = self.block.directions[i], list[Probed]()
        for name, (directions, classes) in self.model.options.probes.items():
            values = (direction @ torch.as_tensor(directions).to(direction)).double().cpu().numpy()
            order = np.argsort(-values, kind="stable")
            named = tuple(str(classes[j]) for j in order.tolist())
            found.append(Probed(name, named, tuple(short(values[order], LOSS_DIGITS))))
        return tuple(found)

    def _ablation(self, source: DictionarySource, corpus: Corpus, part: Rows) -> tuple[Any, ...]:
        """Ablation loss effects, from a run of each feature over the prompts of its windows."""
        found: list[Any] = []
        sizes = np.diff(part.lists("tokens").starts)
        for feature in np.unique(part["feature"]).tolist():
            own = part.of(feature)
            prompts, row = np.unique(part["prompt"][own], return_inverse=True)
            some = Corpus.of_prompts(
                [corpus.prompt(i) for i in prompts.tolist()], corpus.vocabulary, corpus.name
            )
            effects = ablation_loss_effect(source.adapter.model, source.dictionary, feature, some)
            effects = effects.double().cpu().numpy()
            for i, first, size in zip(row, part["first"][own], sizes[own], strict=True):
                found.append(tuple(short(effects[i, first : first + size], LOSS_DIGITS)))
        return tuple(found)

    def _sources(self, source: DictionarySource, corpus: Corpus, part: Rows) -> tuple[Any, ...]:
        """From where attention brought what features of z read at their windows' tokens."""
        known: dict[tuple[int, int], Tensor] = {}
        found: list[Any] = []
        rows = zip(
            *(part[name].tolist() for name in ("feature", "prompt", "position")), strict=True
        )
        for feature, prompt, position in rows:
            if (feature, prompt) not in known:
                tokens = torch.from_numpy(corpus.prompt(prompt).astype(np.int64))
                args = source.adapter.model, source.dictionary, feature, tokens
                known[feature, prompt] = attention_source(*args).values
            values = known[feature, prompt][position, : position + 1].double()
            best = values.sort(descending=True, stable=True).indices[: self.model.options.hover]
            given = short(values[best].cpu().numpy(), LOSS_DIGITS)
            found.append(Values(tuple(best.tolist()), tuple(given)))
        return tuple(found)
