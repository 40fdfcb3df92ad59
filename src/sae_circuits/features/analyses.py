"""What a feature dictionary says with its model at hand, or beside another one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from sae_circuits.errors import OptionError, StoreError, unknown
from sae_circuits.features.activations import Activations
from sae_circuits.features.analysis.comparison import MATCH, Comparison, compare
from sae_circuits.features.analysis.meanings import Embedding, polysemantic, window_means
from sae_circuits.features.asked import check_k
from sae_circuits.features.columns import Activity, Restricted
from sae_circuits.features.corpus import Corpus
from sae_circuits.features.effects import (
    ablation_loss_effect,
    direct_loss_effect,
    prompt_scores,
)
from sae_circuits.features.extraction import extract
from sae_circuits.features.folders import activations_in
from sae_circuits.features.measures import MEASURES, require_measures
from sae_circuits.features.nearest import at_once_in
from sae_circuits.features.relations import correlations
from sae_circuits.features.search import Searches
from sae_circuits.features.sources import (
    DictionarySource,
    DirectionSource,
    NeuronSource,
    Source,
)
from sae_circuits.features.store.database import Change, meta_rows
from sae_circuits.features.store.schema import OWN
from sae_circuits.features.store.weights import neighbour_rows
from sae_circuits.sizes import Memory, in_bytes
from sae_circuits.tasks.prompts import Prompts

if TYPE_CHECKING:
    import pandas

NEURONS = "neurons"
EFFECTS = {"direct": direct_loss_effect, "ablation": ablation_loss_effect}


class Analyses(Searches):
    """The part of a feature dictionary that needs more than its tables."""

    folder: Path
    source: Source | None

    @cached_property
    def activations(self) -> Activations:
        """All activations that are not 0, from the shards.

        Raises:
            StoreError: there are none here, as after `from_export`; or some are missing.
        """
        return activations_in(self.folder, self.database.meta())

    @property
    def corpus(self) -> Corpus:
        """The tokens."""
        return self.activations.corpus

    # -- beside others ---------------------------------------------------------------------------

    def relate(
        self,
        other: Analyses | Activity | str,
        name: str | None = None,
        k: int = 10,
        measures: Sequence[str] = tuple(MEASURES),
        *,
        memory: Memory = 1 << 30,
    ) -> pandas.DataFrame:
        """Find for each feature those of another dictionary, or the neurons, that go with it most.

        They are looked for among all, on the tokens that count here, and kept in the store: see
        `similar(i, among=name)`. What the store held under this name is replaced.

        Args:
            other: a `FeatureDictionary` of the same corpus and masks; any `Activity` on the same
                counted tokens, such as an `ArrayActivity`; or "neurons": those of the MLP in the
                dictionary's layer, behind the non-linearity, for which the model is run again.
            name: by default "neurons", or the name of the other dictionary.
            k: how many of each.
            measures: some of "pearson", "cosine" and "jaccard".
            memory: to stay under, beside the model's own run, such as "4GiB". Neurons take 8
                bytes of a temporary folder for each that is not 0 on a token, as long as this runs.

        Returns:
            See `relations.correlations`.

        Raises:
            StoreError: neurons, and no model at hand; or a store without activations.
            OptionError: no name, or "features"; what has no activity; k below 1.
            UnknownName: no such measure.
            CorpusError: another corpus, or other counted tokens.
            DictionaryError: neurons of a model without MLPs.
            OutputError: the store cannot be written, as while somebody else has it open.
        """
        check_k(k)
        measures = require_measures(measures)
        name = name or _name_of(other)
        if not name or name == OWN:
            raise OptionError(f"name={name!r}: give the others a name, other than {OWN!r}")
        size = in_bytes(memory)
        mine, at_once = replace(self.activations, memory=size), at_once_in(size)
        with self._other(other, size) as activity:
            found = correlations(mine, k, measures=measures, other=activity, at_once=at_once)
            said = _record(activity)
        related = {**self.database.meta()["related"], name: said}
        self.database.change(
            Change("correlations", neighbour_rows(found, name), "among = ?", [name]),
            Change("meta", meta_rows({"related": related}), "key = ?", ["related"]),
        )
        return found

    @contextmanager
    def _other(self, other: Analyses | Activity | str, memory: int) -> Iterator[Activity]:
        """The activity of others, and what holds it."""
        if isinstance(other, Analyses):
            yield other.activations
        elif isinstance(other, str) and other == NEURONS:
            with tempfile.TemporaryDirectory(prefix="sae-circuits-") as out:
                yield self._neurons(out, memory)
        elif isinstance(other, Activity):
            yield other
        else:
            raise OptionError(
                f"{other!r} has no activity: give a FeatureDictionary, an Activity such as "
                f"ArrayActivity, or {NEURONS!r}"
            )

    def _neurons(self, out: str, memory: int) -> Activity:
        """The neurons of the MLP in the dictionary's layer, on the tokens that count here."""
        if not isinstance(self.source, DictionarySource | DirectionSource):
            raise StoreError(f"for the neurons, {LOAD}")
        mine = self.activations
        masks = replace(mine.masks, max_norm=None)  # a limit on other activations than theirs
        source = NeuronSource.of(self.source.adapter, self.source.site.layer)
        return Restricted(extract(source, mine.corpus, masks, out=out, memory=memory), mine.counted)

    def compare(self, other: Analyses, *, least: float = MATCH) -> Comparison:
        """Find for each feature the nearest one of another dictionary at the same site.

        See `analysis.comparison.compare`. Both stores need their models at hand, and are of one
        corpus and the same masks.

        Raises:
            StoreError: loaded without model and dictionary, or without activations.
            DictionaryError: dictionaries that write to different sites.
            CorpusError: another corpus, or other counted tokens.
        """
        mine, its = self._placed.dictionary, other._placed.dictionary
        return compare(mine, its, (self.activations, other.activations), least=least)

    # -- on prompts ------------------------------------------------------------------------------

    def prompt_scores(
        self, prompt: str | Int64[Tensor, "pos"], position: int, *, prepend_bos: bool = True
    ) -> pandas.DataFrame:
        """What the features active at one position of a prompt do there, the most helpful first.

        See `effects.prompt_scores`; quantiles are those of the store's corpus.

        Raises:
            StoreError: loaded without model and dictionary, or without activations.
            OptionError: a position outside the prompt.
            TaskError, ContextError: a prompt that the model cannot read.
        """
        model, dictionary = self._placed.adapter.model, self._placed.dictionary
        return prompt_scores(
            model, dictionary, prompt, position, self.activations, prepend_bos=prepend_bos
        )

    def loss_effects(
        self,
        feature: int | np.integer | str,
        prompts: Prompts | Corpus,
        kind: str = "direct",
        *,
        mask: Shaped[Tensor, "..."] | None = None,
        prepend_bos: bool = True,
        batch_size: int | None = None,
    ) -> Float[Tensor, "prompt pos"]:
        """How much more likely a feature makes each token of some prompts.

        See `effects.direct_loss_effect` and `effects.ablation_loss_effect`.

        Args:
            feature: its id, or its name.
            prompts: a corpus, texts, token ids, or a task.
            kind: "direct", of the feature's own direction in the final stream; or "ablation", of a
                second run without the feature.
            mask: true at the real tokens, where prompts are token ids.
            prepend_bos: whether texts begin with the beginning-of-sequence token, if there is one.
            batch_size: prompts at a time.

        Returns:
            In nats, above 0 where the feature helps; NaN at first tokens and at padding.

        Raises:
            StoreError: loaded without model and dictionary.
            UnknownName: no such feature or kind.
            TaskError, ContextError: prompts that the model cannot read.
        """
        if kind not in EFFECTS:
            raise unknown("kind of effect on the loss", kind, EFFECTS)
        model, dictionary = self._placed.adapter.model, self._placed.dictionary
        return EFFECTS[kind](
            model, dictionary, self._known(feature), prompts, mask=mask, prepend_bos=prepend_bos,
            batch_size=batch_size,
        )  # fmt: skip

    # -- on the corpus ---------------------------------------------------------------------------

    def polysemantic(
        self,
        features: Sequence[int | str] | None = None,
        *,
        embed: Embedding | None = None,
        contexts: int = 200,
        most: int = 8,
        seed: int = 0,
    ) -> pandas.DataFrame:
        """Whether features stand for several things: see `analysis.meanings.polysemantic`.

        Args:
            features: ids or names; by default all.
            embed: gives a vector for the context of each of some places; by default the mean of the
                last tokens' embeddings in the model, `window_means`.
            contexts: as many active tokens of each feature at most.
            most: the most clusters.
            seed: of what is drawn.

        Raises:
            StoreError: no `embed`, and no model at hand; or a store without activations.
            UnknownName: no such feature.
        """
        ids = None if features is None else [self._known(f) for f in features]
        activity = self.activations
        embed = embed or window_means(self._placed.adapter.model.W_E, activity)
        return polysemantic(activity, embed, features=ids, contexts=contexts, most=most, seed=seed)

    @property
    def _placed(self) -> DictionarySource:
        """The dictionary in its model.

        Raises:
            StoreError: it is not at hand.
        """
        if not isinstance(self.source, DictionarySource):
            raise StoreError(f"to run the model with its dictionary, {LOAD}")
        return self.source


LOAD = (
    "the store has to be one of a dictionary in a model, and to be loaded with both: "
    "load(folder, model, sae)"
)


def _name_of(other: Any) -> str | None:
    """What others are called, where that is known."""
    if isinstance(other, str):
        return other
    if isinstance(other, Analyses):
        return other.database.meta()["source"].get("dictionary")
    return None


def _record(activity: Activity) -> Mapping[str, Any]:
    """What a store says of others, as far as they say it themselves."""
    source, names = (getattr(activity, name, None) for name in ("source", "names"))
    return {
        "features": activity.n_features,
        "source": None if source is None else dict(source),
        "names": None if names is None else list(names),
    }
