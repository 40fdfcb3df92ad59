"""Where activations come from: a model with a dictionary, named directions, or a cache held.

Whatever a prompt is run together with, it gets the same bits: it is padded on the right to a width
that hangs on its own length alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from sae_circuits.cache.places import site_place
from sae_circuits.errors import CorpusError, DictionaryError, NumericalError, OptionError
from sae_circuits.features.corpus import Corpus
from sae_circuits.graph import Architecture, Neurons
from sae_circuits.graph.neurons import Where
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries import Dictionary, load_saes
from sae_circuits.models.dictionaries.gates import nonzero, open_at
from sae_circuits.models.dictionaries.sites import Site
from sae_circuits.models.hooks import stopped_at

WIDTH = 16  # prompts are padded to a multiple of this


@runtime_checkable
class Source(Protocol):
    """What gives activations of features on the tokens of a corpus."""

    @property
    def names(self) -> Sequence[str] | None:
        """What the features are called, where they have names."""
        ...

    @property
    def n_features(self) -> int:
        """How many features there are."""
        ...

    @property
    def record(self) -> Mapping[str, Any]:
        """All that decides what it gives, in plain values."""
        ...

    def check(self, corpus: Corpus) -> None:
        """Refuse a corpus that it cannot run, before any work."""
        ...

    def read(self, corpus: Corpus, first: int, stop: int) -> Float[Tensor, "token d_in"]:
        """What stands at the site, on all tokens of some prompts in a row.

        Args:
            corpus: those that a worker was given: a part of the one that `check` saw.
        """
        ...

    def activations(
        self, x: Float[Tensor, "token d_in"]
    ) -> tuple[Int64[Tensor, "active"], Float[Tensor, "active"]]:
        """Where features are active, as rising indices of tokens by features, and the values."""
        ...


@dataclass(frozen=True, eq=False)
class _AtSite:
    """A model that is run as far as a site."""

    adapter: Adapter
    site: Site | Where

    def __getstate__(self) -> dict[str, Any]:  # a module that was found is of this model alone
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def check(self, corpus: Corpus) -> None:
        """Refuse tokens that the model does not know, or prompts too long for it."""
        arch = self.adapter.architecture
        highest = int(corpus.tokens.max())
        if highest >= arch.d_vocab:
            raise CorpusError(
                f"{corpus!r} holds token id {highest}, and {arch.model!r} has {arch.d_vocab:,}: "
                "tokenize with the model's own tokenizer"
            )
        if arch.n_ctx and corpus.longest > arch.n_ctx:
            raise CorpusError(
                f"{corpus!r} has a prompt of {corpus.longest:,} tokens, and {arch.model!r} reads "
                f"{arch.n_ctx:,}: cut texts by n_ctx={arch.n_ctx}"
            )

    @torch.no_grad()
    def read(self, corpus: Corpus, first: int, stop: int) -> Float[Tensor, "token d_in"]:
        """What stands at the site, on all tokens of some prompts in a row."""
        sizes = torch.as_tensor(np.diff(corpus.starts[first : stop + 1]))
        starts = torch.as_tensor(corpus.starts[first:stop] - corpus.starts[first])
        widths = (sizes + WIDTH - 1) // WIDTH * WIDTH
        n_ctx = self.adapter.architecture.n_ctx
        widths = widths.clamp(max=n_ctx) if n_ctx else widths
        tokens = torch.as_tensor(corpus.tokens[corpus.starts[first] : corpus.starts[stop]])
        out: Tensor | None = None
        for width in widths.unique().tolist():
            some = (widths == width).nonzero()[:, 0]
            pos = torch.arange(width)
            real = pos < sizes[some, None]
            places = (starts[some, None] + pos)[real]
            padded = torch.zeros(len(some), width, dtype=torch.int64)
            padded[real] = tokens[places].long()
            found = self._at_site(padded)[real.to(self.adapter.device)]
            if out is None:
                out = found.new_empty(len(tokens), found.shape[1])
            out[places.to(out.device)] = found
        assert out is not None
        return out

    def _at_site(self, tokens: Int64[Tensor, "prompt pos"]) -> Float[Tensor, "prompt pos d_in"]:
        module, before = self._place
        forward, home = lambda: self.adapter.forward(tokens), self.adapter.device
        return stopped_at(module, forward, before=before, home=home).flatten(2)

    @cached_property
    def _place(self) -> tuple[nn.Module, bool]:
        """The module where the site is, and whether it is its input."""
        return site_place(self.adapter, self.site.kind, self.site.layer)


@dataclass(frozen=True, eq=False)
class DictionarySource(_AtSite):
    """A model with an SAE or a transcoder."""

    dictionary: Dictionary

    @classmethod
    def of(cls, model: Any, dictionary: Any) -> DictionarySource:
        """Of a model and a dictionary, or an SAE of sae-lens, which both stay as they are.

        Raises:
            DictionaryError: a dictionary that does not fit the model, or several.
        """
        adapter = Adapter.of(model)
        if isinstance(dictionary, str):
            raise DictionaryError(
                f"{dictionary!r} is a name: load one dictionary, by sc.load_saes(...)[0]"
            )
        found = load_saes(dictionary, device=adapter.device)
        if len(found) != 1:
            raise DictionaryError(f"{len(found)} dictionaries: build a store for each of them")
        found[0].require_fits(adapter.architecture)
        return cls(adapter, found[0].reads, found[0])

    @property
    def names(self) -> tuple[str, ...] | None:
        """Of the dictionary, if its features have names."""
        return self.dictionary.names

    @property
    def n_features(self) -> int:
        """Of the dictionary."""
        return self.dictionary.n_features

    @property
    def record(self) -> dict[str, Any]:
        """The model and the dictionary."""
        named = {} if self.names is None else {"names": list(self.names)}
        return {
            "kind": "dictionary",
            "model": _model_record(self.adapter),
            "site": self.site.name,
            "dictionary": self.dictionary.name,
            "dictionary_id": self.dictionary.fingerprint,
            "dtype": str(self.dictionary.W_enc.dtype).removeprefix("torch."),
            **named,
        }

    @torch.no_grad()
    def activations(
        self, x: Float[Tensor, "token d_in"]
    ) -> tuple[Int64[Tensor, "active"], Float[Tensor, "active"]]:
        """Pre-activations where the gate is open."""
        pre = self.dictionary.pre_activation(x)
        index = open_at(self.dictionary.gate, pre)
        return index, pre.flatten()[index]


@dataclass(frozen=True, eq=False)
class DirectionSource(_AtSite):
    """Named directions at a site, such as probes and steering vectors: x . v for each."""

    directions: Mapping[str, Float[Tensor, "d_in"]]

    @classmethod
    def of(
        cls, model: Any, site: Site | str, directions: Mapping[str, Float[Tensor, "d_in"]]
    ) -> DirectionSource:
        """Of a model, a hook point, and a vector for each name.

        Raises:
            DictionaryError: no direction; a vector of another width, or with NaN; a hook point
                where nothing can be read.
        """
        adapter = Adapter.of(model)
        site = Site.of(site)
        width = site.width(adapter.architecture)
        if not directions:
            raise DictionaryError("no directions: give a vector for each name")
        for name, v in directions.items():
            if tuple(v.shape) != (width,):
                raise DictionaryError(
                    f"direction {name!r} is {list(v.shape)}, and {site.name} is [{width}] wide"
                )
            if not bool(v.isfinite().all()):
                raise DictionaryError(f"direction {name!r} holds NaN or infinity")
        return cls(adapter, site, dict(directions))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the directions."""
        return tuple(self.directions)

    @property
    def n_features(self) -> int:
        """How many directions."""
        return len(self.directions)

    @property
    def record(self) -> dict[str, Any]:
        """The model, the site, and each direction."""
        return {
            "kind": "directions",
            "model": _model_record(self.adapter),
            "site": self.site.name,
            "names": list(self.names),
            "directions_id": _hash(self._matrix),
        }

    @cached_property
    def _matrix(self) -> Float[Tensor, "d_in feature"]:
        return torch.stack([v.detach() for v in self.directions.values()], 1)

    @torch.no_grad()
    def activations(
        self, x: Float[Tensor, "token d_in"]
    ) -> tuple[Int64[Tensor, "active"], Float[Tensor, "active"]]:
        """Products, which may be negative; active where they are not 0."""
        return _not_zero(x @ self._matrix.to(x))


@dataclass(frozen=True, eq=False)
class NeuronSource(_AtSite):
    """The hidden units of one layer's MLP, behind the non-linearity: what its W_out reads."""

    n_features: int

    @classmethod
    def of(cls, model: Any, layer: int) -> NeuronSource:
        """Of a model, or its adapter, and a layer of it.

        Raises:
            DictionaryError: a layer that is not there, or a model without MLPs.
        """
        adapter = Adapter.of(model)
        arch = adapter.architecture
        Site("mlp_out", layer).width(arch)
        neurons = Neurons.of(arch, f"m{layer}")
        return cls(adapter, neurons.reads, neurons.n_features)

    @property
    def names(self) -> None:
        """None: neurons have numbers."""
        return

    @property
    def record(self) -> dict[str, Any]:
        """The model and the layer."""
        return {"kind": "neurons", "model": _model_record(self.adapter), "site": self.site.name}

    def activations(
        self, x: Float[Tensor, "token d_in"]
    ) -> tuple[Int64[Tensor, "active"], Float[Tensor, "active"]]:
        """The values themselves."""
        return _not_zero(x)


@dataclass(frozen=True, eq=False)
class HeldSource:
    """Activations that somebody holds: of features, on the tokens of a corpus.

    Args:
        held: one row for each token of the corpus, one column for each feature; an array of numpy
            will do.
        names: of the features, or None.

    Raises:
        OptionError: no such rows and columns, or names that are too few or not each another.
    """

    held: Any  # Float[Tensor, "token feature"], once it is made
    names: Sequence[str] | None = None

    def __post_init__(self) -> None:
        held = torch.as_tensor(self.held)
        object.__setattr__(self, "held", held if held.is_floating_point() else held.float())
        if held.ndim != 2 or not held.shape[1]:
            raise OptionError(f"activations {list(held.shape)}: give [token, feature], not empty")
        if self.names is None:
            return
        object.__setattr__(self, "names", tuple(self.names))
        if len(set(self.names)) != held.shape[1] or len(self.names) != held.shape[1]:
            raise OptionError(
                f"{len(self.names)} names, {len(set(self.names))} of them different, for "
                f"{held.shape[1]} features: give each a name of its own"
            )

    @property
    def n_features(self) -> int:
        """How many columns there are."""
        return self.held.shape[1]

    @property
    def record(self) -> dict[str, Any]:
        """A hash of the values."""
        named = None if self.names is None else list(self.names)
        return {"kind": "held", "names": named, "held_id": _hash(self.held)}

    def check(self, corpus: Corpus) -> None:
        """Refuse a corpus of another size."""
        if len(self.held) != corpus.n_tokens:
            raise CorpusError(
                f"activations of {len(self.held):,} tokens, and {corpus!r}: give one row for each "
                "token of the corpus, padding left out"
            )

    def read(self, corpus: Corpus, first: int, stop: int) -> Float[Tensor, "token d_in"]:
        """The rows of some prompts."""
        return self.held[int(corpus.starts[first]) : int(corpus.starts[stop])]

    def activations(
        self, x: Float[Tensor, "token d_in"]
    ) -> tuple[Int64[Tensor, "active"], Float[Tensor, "active"]]:
        """The values themselves."""
        return _not_zero(x)


def model_of(source: Any) -> Any:
    """The model that a source runs; None where it runs none."""
    adapter = getattr(source, "adapter", None)
    return None if adapter is None else adapter.model


def require_finite(
    x: Float[Tensor, "token d_in"], corpus: Corpus, first: int, before: int = 0
) -> None:
    """Raise a `NumericalError` that names the first token whose values are not finite.

    Args:
        first: of the prompts that were run.
        before: how many prompts stand before those of the corpus, where it is a part of another.
    """
    bad = (~x.isfinite()).any(1).nonzero()[:, 0]
    if len(bad):
        place = int(corpus.starts[first]) + int(bad[0])
        (prompt,), (pos,) = corpus.locate(np.array([place]))
        prompt += before
        raise NumericalError(
            f"the activations at prompt {prompt}, position {pos} are not finite: the model or its "
            "weights overflow there; take float32, or leave the prompt out"
        )


def _not_zero(
    x: Float[Tensor, "token feature"],
) -> tuple[Int64[Tensor, "active"], Float[Tensor, "active"]]:
    index = nonzero(x)
    return index, x.flatten()[index]


def _model_record(adapter: Adapter) -> dict[str, Any]:
    arch: Architecture = adapter.architecture
    return {
        "name": arch.model,
        "id": adapter.fingerprint,
        "dtype": str(adapter.dtype).removeprefix("torch."),
    }


def _hash(x: Tensor) -> str:
    values = x.detach().cpu().contiguous()
    data = values.view(torch.uint8) if values.dtype == torch.bfloat16 else values
    return hashlib.sha256(repr(tuple(x.shape)).encode() + data.numpy().tobytes()).hexdigest()[:16]
