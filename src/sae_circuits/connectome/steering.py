"""`steering`: inside, a model runs, and writes text, with some features or directions changed.

With x what stands where a dictionary writes, a what its features make of it, a' what the changes
make of a, and Q an orthonormal basis of the directions that are projected out,

    y  = x + (a' - a) W_dec
    y' = y - y Q Q^T
    x' = x + strength (y' - x)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sae_circuits.ablation.changed_run import Place, editing
from sae_circuits.ablation.steering import Step
from sae_circuits.connectome.changes import (
    Changes,
    changes_by_feature,
    in_words,
    one_dictionary,
    positions_of,
    require_strength,
)
from sae_circuits.graph import Node, TensorGraph
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries.placed import Placed
from sae_circuits.precision import wide


def steering(
    model: Any,
    dictionary: Any,
    changes: Changes,
    *,
    positions: int | Sequence[int] | None = None,
    strength: float = 1.0,
) -> AbstractContextManager[None]:
    """Change features, or directions, in all that the model runs inside.

    | change | |
    |---|---|
    | `("add", x)` | a' = a + x |
    | `("set", x)` | a' = x |
    | `("scale", x)` | a' = x a |
    | `"remove"` | a' = 0, which takes away what the feature writes |
    | `"project"` | takes all that lies along its decoder row out of what stands there |

    a is read in the very run that is changed. What comes later is recomputed by the model itself:
    in `model(tokens)`, in `model.generate(...)`, with its cache of keys and values or without, and
    in all functions of this library.

    Args:
        model: a TransformerLens model of either kind; as it was found after the block, however it
            ends.
        dictionary: directions (see `sae_circuits.directions`), an SAE or a transcoder.
        changes: one for all of its features, or one for each of some, by name or number:
            `{"is a name": ("add", 4.0), 17: "remove"}`. Those are projected out together, after
            all else.
        positions: indices of the tokens where x is changed, counted from the first token of the
            text, with padding where it is on the left; None for all. Tokens that a run does not
            have are not changed in it.
        strength: how far to go from what stands there to what the changes make of it: 0 changes
            nothing, to the bit, and 1 all.

    Raises:
        DictionaryError: a dictionary of another model, or one that writes to several layers.
        UnknownName: a feature that it does not have.
        OptionError: a change that is none, a position below 0 or beyond the model's context, or a
            number that is not finite.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> (sae,) = sc.load_saes("demo", ["z.1"])
        >>> tokens = model.to_tokens("Michael and Rebecca went to the beach")
        >>> before = model(tokens)
        >>> with sc.steering(model, sae, {228: ("add", 4.0)}):
        ...     steered = model(tokens)
        >>> bool((steered == before).all()), bool((model(tokens) == before).all())
        (False, True)
    """
    return Plan.of(model, dictionary, changes, positions=positions, strength=strength).applied()


@dataclass(frozen=True, eq=False)
class Plan:
    """Changes at a place, checked.

    Args:
        place: with the changes of activations as steps.
        basis: of what is projected out, its columns orthonormal; None for nothing.
        said: the changes in words.
    """

    place: Place
    basis: Float[Tensor, "width direction"] | None
    positions: tuple[int, ...] | None
    strength: float
    said: str = field(default="", compare=False)

    @classmethod
    def of(
        cls,
        model: Any,
        dictionary: Any,
        changes: Changes,
        *,
        positions: int | Sequence[int] | None = None,
        strength: float = 1.0,
    ) -> Plan:
        """Check what `steering` is given."""
        adapter = Adapter.of(model)
        d = one_dictionary(adapter, dictionary)
        wanted = changes_by_feature(d, changes)
        where = positions_of(adapter, positions)
        require_strength(strength)
        (site,) = d.writes
        said = f"{in_words(d, wanted)} at {site.name}"
        index = {f: f for f in wanted}
        if not d.competes:
            d, index = d.only(list(wanted)), {f: i for i, f in enumerate(wanted)}
        (placed,) = Placed.all_of(adapter, TensorGraph.from_model(adapter.model, saes=[d]))
        steps = tuple(
            Step(Node("feature", placed.layer, index[f], site=placed.part), kind, amount)
            for f, (kind, amount) in wanted.items()
            if kind != "project"
        )
        out = [index[f] for f, (kind, _) in wanted.items() if kind == "project"]
        basis = _basis(placed.dictionary.W_dec[out]) if out else None
        place = Place(adapter, placed.part, placed.layer, placed, steps)
        return cls(place, basis, where, float(strength), said)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the model runs with the changes."""
        past = [0]
        with _counting(self.place.adapter, past, wanted=self.positions is not None):

            def edit(x: Tensor, encoded: Tensor) -> Tensor:
                return self.change(x, encoded, past[0])

            with editing(self.place, edit):
                yield

    def change(
        self,
        x: Float[Tensor, "batch pos width"],
        encoded: Float[Tensor, "batch pos d_in"],
        past: int,
    ) -> Float[Tensor, "batch pos width"]:
        """What is added to what stands at the place.

        Args:
            past: how many tokens of the text come before those at hand.
        """
        here = self._here(x, past)
        added = self.place.change(x, encoded, here, {}) if self.place.steps else None
        added = torch.zeros_like(x) if added is None else added
        if self.basis is not None:
            y = (x + added).to(self.basis.dtype)
            along = (y @ self.basis) @ self.basis.T
            added = added - (along * here[..., None]).to(x.dtype)
        return self.strength * added

    def _here(self, x: Tensor, past: int) -> Bool[Tensor, "batch pos"]:
        """Which tokens are changed."""
        pos = torch.arange(past, past + x.shape[1], device=x.device)
        if self.positions is None:
            return torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        chosen = torch.isin(pos, torch.tensor(self.positions, device=x.device))
        return chosen.expand(x.shape[0], -1)


def _basis(rows: Float[Tensor, "feature width"]) -> Float[Tensor, "width direction"]:
    """An orthonormal basis of what some rows span."""
    _, sizes, axes = torch.linalg.svd(wide(rows), full_matrices=False)  # it knows no bfloat16
    eps = torch.finfo(sizes.dtype).eps
    return axes[sizes > sizes.amax() * max(rows.shape) * eps].T.contiguous()


# -- how far a run is ------------------------------------------------------------------------------


@contextmanager
def _counting(adapter: Adapter, past: list[int], *, wanted: bool) -> Iterator[None]:
    """Inside, `past` holds how many tokens a run has in its cache of keys and values."""
    if not wanted:
        yield
        return

    def count(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        past[0] = max(map(_cached, (*args, *kwargs.values())), default=0)

    handle = adapter.block(0).register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _cached(value: Any) -> int:
    """How many tokens a cache holds; 0 of what is none."""
    keys = getattr(value, "past_keys", None)  # of a HookedTransformer
    if isinstance(keys, Tensor):
        return keys.shape[1]
    length = getattr(value, "get_seq_length", None)  # of transformers
    return int(length()) if callable(length) else 0  # type: ignore[call-overload]
