"""Where in a model a dictionary reads and writes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from sae_circuits.errors import DictionaryError
from sae_circuits.graph import Architecture

SiteKind = Literal[
    "z", "attn_out", "mlp_normalized", "mlp_in", "mlp_out", "resid_pre", "resid_mid", "resid_post"
]

# The hook points of TransformerLens by what stands there. `hook_mlp_in` is the stream before the
# norm; `ln2.hook_normalized` what the norm makes of it before gain and bias, which is what the MLP
# itself gets, at `mlp.hook_in`, only where the norm's weights are folded.
_KINDS: dict[str, SiteKind] = {
    "attn.hook_z": "z",
    "hook_attn_out": "attn_out",
    "ln2.hook_normalized": "mlp_normalized",
    "mlp.hook_in": "mlp_in",
    "mlp.hook_out": "mlp_out",
    "hook_mlp_out": "mlp_out",
    "hook_mlp_in": "resid_mid",
    "hook_resid_pre": "resid_pre",
    "hook_resid_mid": "resid_mid",
    "hook_resid_post": "resid_post",
}
_HOOK = re.compile(r"blocks\.(?P<layer>\d+)\.(?P<point>[\w.]+)")


@dataclass(frozen=True, slots=True)
class Site:
    """One tensor of one layer.

    >>> Site.parse("blocks.3.attn.hook_z"), Site("mlp_out", 1).name
    (Site(kind='z', layer=3), 'mlp_out.1')
    """

    kind: SiteKind
    layer: int

    @property
    def name(self) -> str:
        """Kind and layer."""
        return f"{self.kind}.{self.layer}"

    @classmethod
    def parse(cls, hook: str) -> Site:
        """The site of a hook point of TransformerLens.

        Raises:
            DictionaryError: a hook point where the graph cannot take a dictionary.
        """
        found = _HOOK.fullmatch(hook)
        if found is None or found["point"] not in _KINDS:
            raise DictionaryError(
                f"no dictionary can stand at {hook!r}: the graph takes them at "
                f"{', '.join('blocks.<layer>.' + point for point in _KINDS)}"
            )
        return cls(_KINDS[found["point"]], int(found["layer"]))

    @classmethod
    def of(cls, site: Site | str) -> Site:
        """A site itself, or by its name or its hook point.

        >>> Site.of("mlp_out.1") == Site.of("blocks.1.hook_mlp_out")
        True

        Raises:
            DictionaryError: a hook point where the graph cannot take a dictionary.
        """
        if isinstance(site, Site):
            return site
        kind, _, layer = site.rpartition(".")
        known = {name: name for name in get_args(SiteKind)}
        if kind not in known or not layer.isdecimal():
            return cls.parse(site)
        return cls(known[kind], int(layer))

    def width(self, arch: Architecture) -> int:
        """How many numbers a token has here.

        Raises:
            DictionaryError: a layer or a part that the model does not have.
        """
        if not 0 <= self.layer < arch.n_layers:
            raise DictionaryError(
                f"{arch.model!r} has no layer {self.layer} for {self.name}: "
                f"its {arch.n_layers} layers are 0 to {arch.n_layers - 1}"
            )
        if self.kind.startswith("mlp") and not arch.has_mlps:
            raise DictionaryError(f"{arch.model!r} has no MLPs, so nothing stands at {self.name}")
        return arch.n_heads * arch.d_head if self.kind == "z" else arch.d_model
