"""A value of one's own for each writer, such as constants that are learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.cache import Writes
from sae_circuits.errors import GraphError, NumericalError
from sae_circuits.graph import Provenance
from sae_circuits.graph.out import Saved


@dataclass(frozen=True, eq=False)
class NodeValues(Saved):
    """What each writer writes instead where its edges are absent: the same at every token.

    It stands wherever the name of an intervention does. Values are by place: "input" and "m3" (an
    MLP), [d_model]; "a3", the z of a layer's heads (over a post-norm's scale), [head, d_head].

    Args:
        places: their names.
        shapes: of the value at each.
        vector: all values in a row.
        name: of the intervention, for the record.
        provenance: how they were made.

    >>> import torch
    >>> values = NodeValues.of({"input": torch.zeros(4), "a0": torch.ones(2, 3)})
    >>> values["a0.h1"].tolist(), values.places
    ([1.0, 1.0, 1.0], ('input', 'a0'))
    """

    places: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    vector: Float[Tensor, "number"]
    name: str = "values"
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        if sum(map(prod, self.shapes)) != len(self.vector) or len(self.shapes) != len(self.places):
            raise GraphError(
                f"{len(self.vector):,} values do not fill {len(self.places)} places of "
                f"{list(self.shapes)}"
            )
        if not bool(self.vector.isfinite().all()):
            bad = next(name for name, x in self.items() if not bool(x.isfinite().all()))
            raise NumericalError(f"the value of {bad!r} is not finite")

    @classmethod
    def of(cls, values: Mapping[str, Tensor], name: str = "values") -> NodeValues:
        """From one tensor for each place."""
        shapes = tuple(tuple(x.shape) for x in values.values())
        vector = torch.cat([x.detach().flatten() for x in values.values()])
        return cls(tuple(values), shapes, vector, name)

    def __getitem__(self, place: str) -> Tensor:
        whole, _, head = place.partition(".h")
        found = dict(self.items())
        if whole not in found:
            raise GraphError(f"no value for {place!r}: there are those of {', '.join(self.places)}")
        return found[whole][int(head)] if head else found[whole]

    def items(self) -> list[tuple[str, Tensor]]:
        """Each place with its value."""
        parts = self.vector.split([prod(shape) for shape in self.shapes])
        shaped = (x.reshape(shape) for x, shape in zip(parts, self.shapes, strict=True))
        return list(zip(self.places, shaped, strict=True))

    def writes(self, like: Writes) -> Writes:
        """The values in the form of what a run wrote, for one example and one position.

        Raises:
            GraphError: other places, or other shapes, than the model's.
        """
        wanted = {name: tuple(x.shape[2:]) for name, x in like.values.items()}
        given = dict(zip(self.places, self.shapes, strict=True))
        if wanted != given:
            name = next(n for n in (*wanted, *given) if wanted.get(n) != given.get(n))
            raise GraphError(
                f"values do not fit this model: {name!r} is {given.get(name, 'not given')} and "
                f"{wanted.get(name, 'no writer')} there; learn them on this model"
            )
        return Writes({name: x.to(like[name])[None, None] for name, x in self.items()})

    def __repr__(self) -> str:
        return f"NodeValues({self.name}, {len(self.places)} places, {len(self.vector):,} numbers)"


Intervening = str | NodeValues
"""A name among `INTERVENTIONS`, or a value for each writer."""


def intervention_name(intervention: Intervening) -> str:
    """What the record says of an intervention."""
    return intervention.name if isinstance(intervention, NodeValues) else intervention
