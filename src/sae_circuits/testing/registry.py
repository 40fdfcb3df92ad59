"""The models with known circuits, by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from sae_circuits.errors import unknown
from sae_circuits.testing.frac_prevs import frac_prevs
from sae_circuits.testing.gates import gate
from sae_circuits.testing.ground_truth import GroundTruth
from sae_circuits.testing.induction import induction
from sae_circuits.testing.linear import linear
from sae_circuits.testing.reverse import reverse

_TRUTHS: dict[str, Callable[..., GroundTruth]] = {
    "linear": linear,
    "and": partial(gate, "and"),
    "or": partial(gate, "or"),
    "or-apart": partial(gate, "or", apart=True),
    "frac_prevs": frac_prevs,
    "reverse": reverse,
    "induction": induction,
    "induction-mlp": partial(induction, mlp=True),
    "induction-deep": partial(induction, n_layers=4),
    "induction-saturated": partial(induction, sharpness=30.0),
}


def truths() -> tuple[str, ...]:
    """The names of the models with known circuits.

    >>> truths()[:4]
    ('linear', 'and', 'or', 'or-apart')
    """
    return tuple(_TRUTHS)


def truth(name: str, **options: Any) -> GroundTruth:
    """Make a model with a known circuit, and its task.

    Args:
        name: one of `truths()`.
        options: dials of this model. All take `eps`, how strongly the parts outside the circuit
            write to the output (0: not at all), `n`, how many examples, and `seed`.

    Raises:
        UnknownName: no such model, or no such dial.

    Example:
        >>> from sae_circuits.testing import truth
        >>> known = truth("induction", eps=0.05, sharpness=30)
        >>> known
        GroundTruth('induction', eps=0.05, sharpness=30: 5 of 110 edges)
        >>> known.scores("eap-ig", steps=20).top(1)[0][0]
        'input->a1.h2<q>'
    """
    if name not in _TRUTHS:
        raise unknown("ground truth", name, _TRUTHS)
    make = _TRUTHS[name]
    known = inspect.signature(make).parameters
    for option in options:
        if option not in known:
            raise unknown(f"option of ground truth {name!r}", option, known)
    return replace(make(**options), name=name, options=options)
