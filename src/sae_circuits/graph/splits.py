"""Splits: where a dictionary takes a writer, or the stream, apart into features and the rest.

The graph knows of a dictionary only what `FeatureSource` says: where it reads and writes, and how
many features it has. Neurons are a split that needs none (see `neurons.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from sae_circuits.errors import GraphError
from sae_circuits.graph.architecture import Architecture
from sae_circuits.graph.blocks import RESIDUAL, Block, depth_of
from sae_circuits.graph.neurons import Neurons
from sae_circuits.graph.nodes import Kind, Part

PARTS: dict[str, Part] = {
    "z": "a",
    "attn_out": "a",
    "mlp_out": "m",
    "mlp_post": "m",
    "resid_pre": "pre",
    "resid_mid": "mid",
    "resid_post": "post",
}


@runtime_checkable
class FeatureSource(Protocol):
    """What the graph asks of a dictionary: see `sae_circuits.Dictionary`."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    @property
    def reads(self) -> Any:
        """A site: `kind`, `layer` and `name`."""
        ...

    @property
    def writes(self) -> Sequence[Any]:
        """The sites where its decoders write."""
        ...

    @property
    def n_features(self) -> int:
        """How many features it has."""
        ...

    @property
    def is_sae(self) -> bool:
        """Whether it writes where it reads."""
        ...

    @property
    def has_skip(self) -> bool:
        """Whether a part of its output is linear in its input, past the features."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hash of its weights, by which files tell it from others."""
        ...

    def require_fits(self, arch: Architecture) -> None:
        """Refuse a model for which it was not made."""


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a model that a dictionary takes apart.

    Args:
        part: "a" for what a layer's heads write, "m" for its MLP, or where in the stream.
        layer: of the model.
        dictionary: with all its features.
        through: whether features of what heads or an MLP write read the stream through them.
    """

    part: Part
    layer: int
    dictionary: FeatureSource
    through: bool = False

    @property
    def name(self) -> str:
        """What its nodes' names begin with, such as `m3`."""
        return f"{self.part}{self.layer}"

    @property
    def reads_stream(self) -> bool:
        """Whether its features are readers, and not heads or an MLP for all of them."""
        return self.through or self.part in RESIDUAL or not self.dictionary.is_sae

    def blocks(self, arch: Architecture, features: Sequence[int] | None = None) -> list[Block]:
        """Its nodes as blocks: features, then the skip term, if there is one, then the error.

        Nothing is left beside all neurons of a layer's heads; beside an MLP's there is its bias.
        """
        depth = depth_of(arch, "feature", self.layer, self.part)
        chosen = range(self.dictionary.n_features) if features is None else features
        kinds: list[Kind] = ["skip", "error"] if self.dictionary.has_skip else ["error"]
        if self.each is not None and len(chosen) == self.dictionary.n_features:
            kinds = []
        rest = [Block(kind, depth, self.layer, site=self.part) for kind in kinds]
        if not len(chosen):
            return rest
        own = Block(self.kind, depth, self.layer, members=chosen, site=self.part, each=self.each)
        return [own, *rest]

    @property
    def kind(self) -> Kind:
        """What its nodes beside the error are: features of a dictionary, or neurons."""
        return "neuron" if isinstance(self.dictionary, Neurons) else "feature"

    @property
    def each(self) -> int | None:
        """How many neurons a head has; None for all that are no heads' neurons."""
        return self.dictionary.each if isinstance(self.dictionary, Neurons) else None


def sources_of(arch: Architecture, saes: Any, parts: Sequence[str]) -> tuple[Any, ...]:
    """Dictionaries, and the neurons of some parts.

    Raises:
        GraphError: what `load_saes` did not give: a name, an SAE of another library, one alone.
    """
    is_list = isinstance(saes, Iterable) and not isinstance(saes, str)
    other = [] if not is_list else [sae for sae in saes if not hasattr(sae, "require_fits")]
    if not is_list or other:
        raise GraphError(
            f"{type(other[0] if other else saes).__name__} is no "
            f"{'dictionary' if other else 'list of dictionaries'}: give what load_saes(...) "
            "returns, which takes a name, a folder, or SAEs that you hold"
        )
    return (*saes, *(Neurons.of(arch, name) for name in parts))


def splits_of(
    arch: Architecture, saes: Sequence[FeatureSource], *, through: bool = False
) -> dict[tuple[Part, int], Split]:
    """Which parts of a model its dictionaries split, by part and layer.

    Args:
        through: see `TensorGraph.from_model`.

    Raises:
        DictionaryError: a dictionary of another model, layer or width.
        GraphError: two of them at one place; one at a place that the graph cannot split; one that
            writes to several layers.
    """
    found: dict[tuple[Part, int], Split] = {}
    taken: dict[int, FeatureSource] = {}
    for sae in saes:
        sae.require_fits(arch)
        split = _split(arch, sae, through)
        place = _place(arch, split)
        if place in taken:
            raise GraphError(
                f"{taken[place]!r} and {sae!r} both split {split.name!r}: take one of them"
            )
        taken[place] = sae
        found[split.part, split.layer] = split
    return found


def read_through(readers: Sequence[Block], saes: Sequence[FeatureSource]) -> bool:
    """Whether features of what heads or an MLP write are among some readers."""
    transcoded = {sae.writes[0].layer for sae in saes if not sae.is_sae}
    sites = {(block.site, block.layer) for block in readers}
    return any(site == "a" or (site == "m" and layer not in transcoded) for site, layer in sites)


def _place(arch: Architecture, split: Split) -> int:
    """One number for each place: after one layer is before the next, heads and MLP are apart."""
    depth = depth_of(arch, "feature", split.layer, split.part)
    return -depth if arch.parallel and split.part == "m" else depth


def _split(arch: Architecture, sae: FeatureSource, through: bool) -> Split:
    where = sae.writes[0]
    if len(sae.writes) > 1:
        raise GraphError(
            f"{sae!r} writes to {len(sae.writes)} layers; edges of such features are found for one "
            "prompt, by sae_circuits.trace(...)"
        )
    if where.kind not in PARTS:
        raise GraphError(
            f"{sae!r} stands at {where.name}, which is no writer: the graph splits "
            f"{', '.join(kind for kind in PARTS if kind != 'mlp_post')}"
        )
    if where.kind == "resid_mid" and (arch.parallel or not arch.has_mlps):
        raise GraphError(f"{sae!r}: {arch.model!r} has no stream between its heads and its MLP")
    inputs = ("mlp_normalized", "mlp_in") + (() if arch.parallel else ("resid_mid",))
    if not sae.is_sae and (sae.reads.layer != where.layer or sae.reads.kind not in inputs):
        raise GraphError(
            f"{sae!r} reads {sae.reads.name} and writes {where.name}: a transcoder reads "
            f"{', '.join(inputs[:-1])} or {inputs[-1]} of the layer whose mlp_out it writes"
        )
    part = PARTS[where.kind]
    own = through and sae.is_sae and part not in RESIDUAL and not isinstance(sae, Neurons)
    return Split(part, where.layer, sae, own)
