"""`FeatureDictionary`: the features of a dictionary on a corpus, to look up and to search."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_circuits.disk.atomic import remove_parts
from sae_circuits.errors import StoreError
from sae_circuits.features.activations import Activations
from sae_circuits.features.analyses import Analyses
from sae_circuits.features.corpus import Corpus
from sae_circuits.features.effects import logit_effects
from sae_circuits.features.extraction import extract, identity_of
from sae_circuits.features.feature import Feature
from sae_circuits.features.folders import SHARDS, STORE, copy_folder, copy_store, room
from sae_circuits.features.labelling import label_store
from sae_circuits.features.labels import DEFAULT, Strategy, labels_table
from sae_circuits.features.making import make_tables, remove_left
from sae_circuits.features.masks import Masks
from sae_circuits.features.sources import DictionarySource, Source
from sae_circuits.features.store.database import Database
from sae_circuits.features.store.exchange import export, imported
from sae_circuits.features.store.tables import Contents
from sae_circuits.features.store.weights import HeldWeights
from sae_circuits.shards import Workers
from sae_circuits.sizes import Memory

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, eq=False)
class FeatureDictionary(Analyses):
    """What every feature of an SAE, or of another source, does on a corpus.

    Kept in a folder: one DuckDB file with all tables, the corpus, and the activations that are not
    0. Make one with `build`, or open one with `load`.

    Args:
        folder: where it is.
        database: its tables.
        source: the model and the dictionary, where they are at hand.
    """

    folder: Path
    database: Database
    source: Source | None = None
    _held: Any = None  # a temporary folder, which goes with its last owner

    # -- making ----------------------------------------------------------------------------------

    @classmethod
    def build(
        cls,
        model: Any,
        sae: Any,
        corpus: Corpus,
        out: str | Path | None = None,
        *,
        masks: Masks | None = None,
        contents: Contents | None = None,
        batch_tokens: int = 8192,
        memory: Memory = 1 << 30,
        workers: Workers | None = None,
    ) -> FeatureDictionary:
        """Describe every feature of a dictionary on a corpus.

        Args:
            model: a TransformerLens model of either kind; left as it was found.
            sae: a `Dictionary` (see `load_saes`), or an SAE or transcoder of sae-lens; or a source
                of other activations: see `DirectionSource` and `HeldSource`.
            corpus: the tokens: see `Corpus` and `demo_corpus`.
            out: a folder, which is gone on with where it holds a part of the same; by default a
                temporary one, which goes with what is returned.
            masks: which tokens count; by default all but special ones.
            contents: how much to say of each feature.
            batch_tokens: tokens to run at a time.
            memory: to stay under, beside the model's own run, such as "4GiB"; in each worker.
            workers: what runs the prompts, and finds the features that go together (see
                `sae_circuits.workers`); this process by default. The store is the same.

        Raises:
            DictionaryError: a dictionary that does not fit the model.
            CorpusError: tokens that the model cannot take; masks that leave none.
            NumericalError: activations that are not finite, with prompt and position.
            ShardError: likewise, with a folder or workers; all else is kept there.
            StoreError: a folder that holds a store of other data.
            OutputError: one that holds a part of such, or cannot be written, or a full disk.

        Example:
            >>> import sae_circuits as sc
            >>> model, (sae,) = sc.load_model("demo"), sc.load_saes("demo", ["mlp_out.1"])
            >>> features = sc.FeatureDictionary.build(model, sae, sc.demo_corpus(2000))
            >>> features.search(token="John").feature[0] in features.statistics().feature
            True
        """
        contents = contents or Contents()
        masks = Masks() if masks is None else masks
        source = sae if hasattr(sae, "activations") else DictionarySource.of(model, sae)
        folder, held = room(out)
        made = identity_of(source.record, corpus, masks)
        if (folder / STORE).exists():
            found = cls.load(folder)
            if found.made != [made] or found.contents != contents:
                raise StoreError(
                    f"{str(folder)!r} holds a store of other data: {found!r}; choose another "
                    "folder, or remove it"
                )
            remove_left(folder)
            return cls(folder, found.database, source)
        remove_parts(folder)
        activations = extract(
            source, corpus, masks, out=folder / SHARDS / "0", batch_tokens=batch_tokens,
            memory=memory, workers=workers, stays=held is None,
        )  # fmt: skip
        said = activations, contents, [made], contents.weights(source), _hosted(source)
        database = make_tables(folder, *said, workers, stays=held is None)
        return cls(folder, database, source, held)

    @classmethod
    def load(cls, folder: str | Path, model: Any = None, sae: Any = None) -> FeatureDictionary:
        """Open a store.

        Args:
            folder: that `build` or `save` wrote.
            model: with `sae`, to run it on prompts, or to add data.
            sae: the dictionary that the store describes.

        Raises:
            StoreError: no store, a damaged one, one of a newer version, or of another dictionary.
        """
        folder = Path(folder)
        found = cls(folder, Database.open(folder / STORE))
        if sae is None:
            return found
        source = sae if hasattr(sae, "activations") else DictionarySource.of(model, sae)
        held = found.database.meta()["source"]
        if dict(source.record) != held:
            raise StoreError(f"{found!r} describes {held}, and this is {dict(source.record)}")
        return cls(folder, found.database, source)

    @classmethod
    def from_export(cls, path: str | Path, out: str | Path | None = None) -> FeatureDictionary:
        """Make a store of what `export` wrote of all features.

        It answers all questions. What needs the activations or the corpus, such as labelling and
        merging, it refuses, since an export does not hold them.

        Args:
            path: a file of JSON, or a folder of Parquet files.
            out: an empty folder; by default a temporary one, which goes with what is returned.

        Raises:
            StoreError: no export, a damaged one, or one of some features only.
            OutputError: the folder holds something, or cannot be written.
        """
        folder, held = room(out, empty=True)
        return cls(folder, imported(path, folder / STORE), None, held)

    # -- what it is ------------------------------------------------------------------------------

    def __repr__(self) -> str:
        meta = self.database.meta()
        of = meta["source"].get("dictionary") or meta["source"]["kind"]
        return (
            f"FeatureDictionary({of!r}: {meta['features']:,} features on "
            f"{meta['corpus']['counted']:,} counted tokens of {meta['corpus']['name']!r})"
        )

    def __len__(self) -> int:
        return int(self.database.meta()["features"])

    @property
    def made(self) -> list[str]:
        """A hash of all that decides the activations, for each extraction that is in it."""
        return self.database.meta()["made"]

    @property
    def neuronpedia(self) -> str | None:
        """Where Neuronpedia shows its features, as far as the dictionary's metadata say so."""
        return _hosted(self.source) or self.database.meta().get("neuronpedia")

    # -- features --------------------------------------------------------------------------------

    def feature(self, i: int | np.integer | str) -> Feature:
        """All that is known of one feature, by its id or its name; it shows itself in a notebook.

        Raises:
            UnknownName: no such feature.
        """
        return Feature.of(self.database, self._known(i))

    def statistics(self) -> pandas.DataFrame:
        """One row for each feature: its numbers, and its best label where it has one."""
        return self.database.query(
            """SELECT features.*, best.text AS label FROM features
               LEFT JOIN best USING (feature) ORDER BY feature"""
        )

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> pandas.DataFrame:
        """What any query over the tables gives: see docs/store.md."""
        return self.database.query(sql, parameters)

    # -- labels ----------------------------------------------------------------------------------

    def label(
        self,
        strategies: str | Strategy | Sequence[str | Strategy] = DEFAULT,
        features: Sequence[int | str] | None = None,
        seed: int = 0,
        *,
        workers: Workers | None = None,
        **options: Mapping[str, Any],
    ) -> pandas.DataFrame:
        """Label features, test the labels on held-out prompts, and keep them in the store.

        A label takes the place of an earlier one of the same strategy. What a strategy needs of the
        model, embeddings or effects on the logits, is given to it where the model is at hand. What
        is made is kept beside the store until all is: a call that was stopped goes on when it is
        given again.

        Args:
            strategies: names, or a `Strategy` of one's own: see docs/labels.md. By default tokens,
                n-grams and patterns.
            features: ids or names; by default all.
            seed: of strategies that draw.
            workers: what labels the features (see `sae_circuits.workers`); this process by default.
            options: of each strategy, by its name, such as `manual={"texts": {3: "names"}}`.

        Returns:
            The labels made: see `labels`.

        Raises:
            UnknownName: no such strategy or option.
            OptionError: an option's value, or a strategy that needs the model without one.
            ShardError: some features failed; the others are kept, but for a temporary store.
            OutputError: the store cannot be written, as while somebody else has it open.
        """
        names = [strategies] if isinstance(strategies, str | Strategy) else list(strategies)
        ids = None if features is None else [self._known(f) for f in features]
        given = self._given(names)
        for name, own in options.items():
            given[name] = {**given.get(name, {}), **own}
        if texts := given.get("manual", {}).get("texts"):
            by_id = {self._known(f): text for f, text in texts.items()}
            given["manual"] = {**given["manual"], "texts": by_id}
        folder = self.folder if self._held is None else None
        found = label_store(
            folder, self.database, self.activations, names, ids, seed, given, workers
        )
        return labels_table(found)

    def labels(self, *, shown: bool = True) -> pandas.DataFrame:
        """All labels that are shown, or all: what a person said first, then by score."""
        return self.database.query(
            """SELECT * FROM labels WHERE shown OR NOT ?
               ORDER BY feature, shown DESC, score DESC NULLS FIRST, strategy""",
            [shown],
        )

    def _given(self, names: Sequence[str | Strategy]) -> dict[str, Mapping[str, Any]]:
        """What strategies need of the model."""
        if not isinstance(self.source, DictionarySource):
            return {}
        model, found = self.source.adapter.model, {}
        if "clusters" in names:
            found["clusters"] = {"embeddings": model.W_E}
        if "logits" in names:
            found["logits"] = {"effects": logit_effects(model, self.source.dictionary)}
        return found

    # -- keeping ---------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> FeatureDictionary:
        """Copy it to a folder that is not there yet, or is empty.

        Raises:
            OutputError: the folder holds something, or cannot be written.
        """
        folder, _ = room(folder, empty=True)
        copy_store(self.folder, folder)
        return FeatureDictionary(folder, Database.open(folder / STORE), self.source)

    def export(self, path: str | Path, features: Sequence[int | str] | None = None) -> Path:
        """Write the tables to one file of strict JSON (`.json`), or a folder of Parquet files.

        `from_export` reads back what was written of all features.

        Args:
            features: only what is known of these; for JSON.

        Raises:
            UnknownName: no such feature.
            OptionError: some features, and Parquet.
            OutputError: the place cannot be written.
        """
        ids = None if features is None else [self._known(f) for f in features]
        return export(self.database, path, ids)

    def export_feature(self, i: int | np.integer | str, path: str | Path) -> Path:
        """Write all that is known of one feature to a file of strict JSON.

        Raises:
            UnknownName: no such feature.
            OutputError: the place cannot be written.
        """
        return export(self.database, path, [self._known(i)])

    # -- more data -------------------------------------------------------------------------------

    def add(
        self,
        corpus: Corpus,
        out: str | Path | None = None,
        *,
        batch_tokens: int = 8192,
        workers: Workers | None = None,
    ) -> FeatureDictionary:
        """The same dictionary on its corpus and another one: as if both had been run at once.

        Labels are not taken along, since they were tested on the first corpus alone: label again.
        Nor is what `relate` found.

        Raises:
            StoreError: the store was loaded without its model and dictionary.
        """
        if self.source is None:
            raise StoreError("to add data, load the store with its model: load(folder, model, sae)")
        mine = self.activations
        made = identity_of(self.source.record, corpus, mine.masks)
        with tempfile.TemporaryDirectory(prefix="sae-circuits-") as held:
            how = {"batch_tokens": batch_tokens, "workers": workers, "stays": False}
            more = extract(self.source, corpus, mine.masks, out=held, **how)
            return self._merged(mine + more, [*self.made, made], out, workers)

    def merge(
        self,
        other: FeatureDictionary,
        out: str | Path | None = None,
        *,
        workers: Workers | None = None,
    ) -> FeatureDictionary:
        """The same dictionary on the corpora of both: as if both had been run at once.

        Labels are not taken along: label again. Nor is what `relate` found.

        Raises:
            StoreError: of another model, dictionary, masks or contents.
        """
        if other.contents != self.contents:
            raise StoreError(f"stores of other contents: {self.contents} and {other.contents}")
        both = self.activations + other.activations
        return self._merged(both, self.made + other.made, out, workers)

    @property
    def contents(self) -> Contents:
        """How much it says of each feature."""
        return Contents.of(self.database.meta()["contents"])

    def _merged(
        self,
        activations: Activations,
        made: list[str],
        out: str | Path | None,
        workers: Workers | None,
    ) -> FeatureDictionary:
        folder, held = room(out, empty=True)
        for i, piece in enumerate(activations.pieces):
            assert piece.folder is not None  # `extract` was given one
            copy_folder(piece.folder, folder / SHARDS / str(i))
        said = activations, self.contents, made, HeldWeights(self.database), self.neuronpedia
        database = make_tables(folder, *said, workers, stays=held is None)
        return FeatureDictionary(folder, database, self.source, held)


def _hosted(source: Source | None) -> str | None:
    return getattr(getattr(source, "dictionary", None), "neuronpedia", None)
