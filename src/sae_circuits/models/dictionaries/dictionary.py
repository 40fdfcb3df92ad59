"""The one form in which the package sees whatever gives features.

With the input normalised where a dictionary asks for it (see `scalings.py`),

    pre = (x - b_in) W_enc + b_enc
    f   = pre * gate(pre)
    out = f W_dec + b_dec (+ x W_skip)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import Field, dataclass, field, fields, is_dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae_circuits.errors import DictionaryError
from sae_circuits.graph import Architecture
from sae_circuits.models.dictionaries.gates import Gate, gate_of_some, is_elementwise
from sae_circuits.models.dictionaries.scalings import Scale, Scaling
from sae_circuits.models.dictionaries.sites import Site
from sae_circuits.models.load import same_model


@dataclass(frozen=True, eq=False)
class Dictionary:
    """Features: directions that are read at one site and written at one or several.

    An SAE writes where it reads; a transcoder reads an MLP's input and writes its output; a layer
    of a cross-layer transcoder writes to the outputs of this and all later MLPs.

    Args:
        name: for messages and pictures.
        reads: where the encoder reads.
        writes: where the decoders write.
        W_enc: one column for each feature, [d_in, feature].
        b_enc: [feature].
        decoders: one matrix [feature, d_out] for each site in `writes`.
        b_dec: [d_out], added at the first site only.
        gate: which features are active, from their pre-activations.
        b_in: [d_in], taken off the input; None for none.
        scaling: how the input is normalised; None for not at all.
        W_skip: [d_in, d_out], the linear way around the features, of a skip transcoder.
        model: the name of the model that it was trained on, if known.
        names: what its features are called, if they have names.
        neuronpedia: where Neuronpedia shows its features, such as "gpt2-small/6-res-jb", as far as
            its own metadata say so.

    Raises:
        DictionaryError: shapes, dtypes or devices that do not fit; NaN or infinity; no decoder
            row other than 0; names that are too few, or not each another.
    """

    name: str
    reads: Site
    writes: tuple[Site, ...]
    W_enc: Float[Tensor, "d_in feature"]
    b_enc: Float[Tensor, "feature"]
    decoders: tuple[Float[Tensor, "feature d_out"], ...]
    b_dec: Float[Tensor, "d_out"]
    gate: Gate
    b_in: Float[Tensor, "d_in"] | None = None
    scaling: Scaling | None = None
    W_skip: Float[Tensor, "d_in d_out"] | None = None
    model: str | None = field(default=None, compare=False)
    names: tuple[str, ...] | None = field(default=None, compare=False)
    neuronpedia: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        _require_sound(self)

    def __repr__(self) -> str:
        sites = " -> ".join(dict.fromkeys([self.reads.name, *(s.name for s in self.writes)]))
        return f"Dictionary({self.name!r}: {self.n_features} features, {sites})"

    # -- sizes -------------------------------------------------------------------------------

    @property
    def n_features(self) -> int:
        """How many features it has."""
        return self.W_enc.shape[1]

    @property
    def W_dec(self) -> Float[Tensor, "feature d_out"]:
        """What each feature writes at the first site, per unit of activation."""
        return self.decoders[0]

    @property
    def is_sae(self) -> bool:
        """Whether it writes where it reads."""
        return self.writes == (self.reads,)

    @property
    def has_skip(self) -> bool:
        """Whether a part of its output is linear in its input, past the features."""
        return self.W_skip is not None

    @property
    def fingerprint(self) -> str:
        """A hash of its weights and its gate: of shapes, and of about 1,024 values of each.

        Values are rounded to bfloat16 first, so that the same weights have the same hash in
        float64, float32 and bfloat16.
        """
        named = [getattr(f, "__name__", type(f).__name__) for f in (self.gate, self.scaling)]
        said = [self.reads, self.writes, *named, getattr(self.gate, "k", None)]
        digest = hashlib.sha256(repr(said).encode())
        for x in _tensors([getattr(d, f.name) for d in (self, self.gate) for f in _fields(d)]):
            values = x.detach().flatten()
            some = values[:: max(1, len(values) // 1024)].bfloat16().float().cpu().numpy()
            digest.update(f"{tuple(x.shape)}".encode() + some.tobytes())
        return digest.hexdigest()[:16]

    # -- running -----------------------------------------------------------------------------

    def pre_activation(self, x: Float[Tensor, "*token d_in"]) -> Float[Tensor, "*token feature"]:
        """What the gate gets."""
        return self.normalised(x) @ self.W_enc + self.b_enc

    def normalised(self, x: Float[Tensor, "*token d_in"]) -> Float[Tensor, "*token d_in"]:
        """The input as the encoder's weights see it."""
        x = x.to(self.W_enc.dtype)
        scale = self.scale(x)
        if scale is not None:
            x = (x - scale.shift) / scale.divide
        return x if self.b_in is None else x - self.b_in

    def encode(self, x: Float[Tensor, "*token d_in"]) -> Float[Tensor, "*token feature"]:
        """The activations of the features; 0 where a feature is not active."""
        pre = self.pre_activation(x)
        return pre * self.gate(pre)

    def decode(
        self, f: Float[Tensor, "*token feature"], x: Float[Tensor, "*token d_in"], to: int = 0
    ) -> Float[Tensor, "*token d_out"]:
        """What features write at a site, with biases and what passes them by.

        Args:
            x: the input, on which normalisation and the skip connection depend.
            to: which of the sites in `writes`; what is not a feature's own goes to the first.
        """
        out = f @ self.decoders[to]
        if to:
            return out
        out, x = out + self.b_dec, x.to(out.dtype)
        scale = self.scale(x) if self.is_sae else None
        if scale is not None:
            out = out * scale.multiply + scale.shift
        return out if self.W_skip is None else out + x @ self.W_skip

    def __call__(self, x: Float[Tensor, "*token d_in"]) -> Float[Tensor, "*token d_out"]:
        """What the dictionary puts in place of what stands at its (first) output site."""
        return self.decode(self.encode(x), x)

    def error(
        self, x: Float[Tensor, "*token d_in"], target: Float[Tensor, "*token d_out"] | None = None
    ) -> Float[Tensor, "*token d_out"]:
        """What it fails to reconstruct: the error node.

        Args:
            target: what stands at the output site; for an SAE the input itself.
        """
        return (x if target is None else target) - self(x)

    def active(self, x: Float[Tensor, "*token d_in"]) -> Bool[Tensor, "*token feature"]:
        """Which features are active: not 0, since activations may be negative."""
        return self.encode(x) != 0

    def scale(self, x: Float[Tensor, "*token d_in"]) -> Scale | None:
        """How a token's input is normalised, if it is."""
        return None if self.scaling is None else self.scaling(x)

    # -- parts -------------------------------------------------------------------------------

    @property
    def competes(self) -> bool:
        """Whether a feature's activation hangs on other features' pre-activations too."""
        return not is_elementwise(self.gate)

    def only(self, features: Sequence[int]) -> Dictionary:
        """The same with some of its features, whose activations are what they were.

        Raises:
            DictionaryError: its features compete for being among the largest of a token.
        """
        if self.competes:
            raise DictionaryError(
                f"{self!r} has features that compete ({self.gate!r}): without the others their "
                "activations would be different"
            )
        index = torch.tensor(list(features), dtype=torch.int64, device=self.W_enc.device)
        return replace(
            self,
            W_enc=self.W_enc[:, index],
            b_enc=self.b_enc[index],
            decoders=tuple(W[index] for W in self.decoders),
            gate=gate_of_some(self.gate, index),
            names=None if self.names is None else tuple(self.names[i] for i in features),
            neuronpedia=None,  # which has other numbers for them
        )

    # -- fitting -----------------------------------------------------------------------------

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Dictionary:
        """The same on another device or in another dtype."""

        def moved(value: Any) -> Any:
            if isinstance(value, Tensor):
                return value.to(device, dtype)
            if isinstance(value, tuple):
                return tuple(map(moved, value))
            return value

        gate: Any = self.gate
        if own := _fields(gate):
            gate = type(gate)(*(moved(getattr(gate, f.name)) for f in own))
        every = {f.name: moved(getattr(self, f.name)) for f in fields(self)}
        return replace(self, **{**every, "gate": gate})

    def require_fits(self, arch: Architecture) -> None:
        """Refuse a model whose layers, widths or name are others.

        Raises:
            DictionaryError: with what differs.
        """
        if not same_model(self.model, arch.model):
            raise DictionaryError(
                f"{self!r} was trained on {self.model!r}, and this is {arch.model!r}; if it "
                "is meant for this one too, pass dataclasses.replace(dictionary, model=None)"
            )
        widths = [(self.reads, self.W_enc.shape[0])]
        widths += [(s, W.shape[1]) for s, W in zip(self.writes, self.decoders, strict=True)]
        for site, width in widths:
            if site.width(arch) != width:
                raise DictionaryError(
                    f"{self!r} is {width} wide at {site.name}, where {arch.model!r} has "
                    f"{site.width(arch)}: it was made for another model"
                )


def _fields(value: Any) -> tuple[Field[Any], ...]:
    """The fields of a dataclass, and none of a function."""
    return fields(value) if is_dataclass(value) else ()


def _tensors(values: Sequence[Any]) -> Iterator[Tensor]:
    """The tensors among values and tuples of them."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple):
            yield from _tensors(value)


def _require_sound(d: Dictionary) -> None:
    """Refuse weights that do not fit each other, or that cannot be used."""
    d_in, n = d.W_enc.shape
    d_out = d.decoders[0].shape[1]
    expected = {
        "b_enc": (n,), "b_dec": (d_out,), "b_in": (d_in,), "W_skip": (d_in, d_out),
        **{f"decoders[{i}]": (n, d_out) for i in range(len(d.decoders))},
    }  # fmt: skip
    if d.names is not None and not len(d.names) == len(set(d.names)) == n:
        raise DictionaryError(
            f"{d.name!r}: {len(d.names)} names, {len(set(d.names))} of them different, for {n} "
            "features: give each a name of its own"
        )
    tensors = {name: getattr(d, name, None) for name in ("b_enc", "b_dec", "b_in", "W_skip")}
    tensors |= {f"decoders[{i}]": W for i, W in enumerate(d.decoders)}
    if len(d.writes) != len(d.decoders):
        raise DictionaryError(f"{d.name!r}: {len(d.decoders)} decoders for {len(d.writes)} sites")
    if d.W_enc.is_meta:
        raise DictionaryError(f"{d.name!r} holds no values, since it is on the device 'meta'")
    for name, x in {"W_enc": d.W_enc, **tensors}.items():
        if x is None:
            continue
        if name in expected and tuple(x.shape) != expected[name]:
            raise DictionaryError(
                f"{d.name!r}: {name} is {list(x.shape)}, and {list(expected[name])} fits the rest"
            )
        if (x.dtype, x.device) != (d.W_enc.dtype, d.W_enc.device):
            raise DictionaryError(
                f"{d.name!r}: {name} is {x.dtype} on {x.device} and W_enc {d.W_enc.dtype} on "
                f"{d.W_enc.device}: bring both to one, with .to(...)"
            )
        if not bool(x.isfinite().all()):
            raise DictionaryError(f"{d.name!r}: {name} holds NaN or infinity; its file is damaged")
    if d.n_features and not any(bool(W.any()) for W in d.decoders):
        raise DictionaryError(f"{d.name!r} is dead: every decoder row is 0")
