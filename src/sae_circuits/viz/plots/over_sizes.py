"""Faithfulness against size, for one method or for several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from sae_circuits.errors import OptionError
from sae_circuits.viz.plots.style import GREY, INK, SERIES, SMALL, axes_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sae_circuits.evaluation import Curve

Sizes = tuple[float, ...]
RANDOM = {"random": ("sizes", "."), "degrees": ("degrees", "x")}


def curves(given: Curve | Iterable[Curve] | Mapping[str, Curve | Sequence[Curve]]) -> Figure:
    """Faithfulness against the share of edges kept, beside random circuits.

    Curves of one name, such as a method's on several halves of a task or with several seeds, are
    drawn as their mean with a band over their range; a curve alone has its bootstrap interval as a
    band. Random circuits are drawn in grey, as the mean and the range of all that come with the
    curves.

    Args:
        given: a curve, several, or curves by the names that they are to have; else they have those
            of their methods.

    Raises:
        OptionError: no curve, or curves of one name at different sizes.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> task, graph = sc.tasks.ioi(model, n=8, seed=0), sc.TensorGraph.from_model(model)
        >>> found = [
        ...     sc.curve(model, sc.attribute(model, graph, task, method=name), task)
        ...     for name in ("eap", "eap-ig")
        ... ]
        >>> figure = sc.viz.curves(found)
        >>> [text.get_text()[:6] for text in figure.axes[0].get_legend().get_texts()]
        ['eap (C', 'eap-ig', 'random']
    """
    named = _by_name(given)
    figure, axes = axes_of(5.2, 3.1 + 0.19 * len(named))
    axes.axhline(1, color=GREY, lw=0.8, ls=(0, (4, 3)), zorder=1)
    axes.axhline(0, color=GREY, lw=0.8, ls=(0, (1, 2)), zorder=1)
    for i, (name, its) in enumerate(named.items()):
        colour, marker = SERIES[i % len(SERIES)]
        line = "-" if i < len(SERIES) else "--"
        rows = torch.tensor([curve.faithfulness for curve in its], dtype=torch.float64)
        own = torch.tensor(its[0].band).reshape(-1, 2).mT
        band = _range(rows) if len(its) > 1 else own
        style = {"color": colour, "marker": marker, "lw": 1.8, "ms": 4, "ls": line}
        _draw(axes, its[0].fractions, rows, band, zorder=3, label=_label(name, its), **style)
    every = [curve for its in named.values() for curve in its]
    for kind, (what, marker) in RANDOM.items():
        label: str | None = f"random circuits of the same {what}"
        for sizes, rows in _pooled(every, kind).items():
            style = {"color": GREY, "marker": marker, "lw": 1.2, "ms": 5}
            label = label and label + _of_several(len(rows))
            _draw(axes, sizes, rows, _range(rows), zorder=2, label=label, **style)
            label = None
    _finish(axes, min(min(curve.fractions) for curve in every))
    return figure


def _draw(
    axes: Axes, sizes: Sizes, rows: Float[Tensor, "curve size"], band: Tensor, **style: Any
) -> None:
    """The mean of some curves, and a band where there is one."""
    axes.plot(sizes, rows.mean(0).tolist(), **style)
    if band.numel() and bool((band[0] < band[1]).any()):
        low, high = band.tolist()
        zorder = style["zorder"] - 0.5
        axes.fill_between(sizes, low, high, color=style["color"], alpha=0.18, lw=0, zorder=zorder)


def _by_name(
    given: Curve | Iterable[Curve] | Mapping[str, Curve | Sequence[Curve]],
) -> dict[str, list[Curve]]:
    """Curves by their names, each at one set of sizes."""
    named: dict[str, list[Curve]] = {}
    if isinstance(given, Mapping):
        named.update({str(name): list(_several(its)) for name, its in given.items()})
    else:
        for curve in _several(given):
            named.setdefault(curve.provenance.method or "scores", []).append(curve)
    if not named or not all(named.values()):
        raise OptionError("no curve to draw: give one, several, or several by name")
    for name, its in named.items():
        if len({curve.fractions for curve in its}) > 1:
            raise OptionError(
                f"the {len(its)} curves of {name!r} are at different sizes: give them names of "
                "their own, {name: curve, ...}, or make them with the same fractions"
            )
    return named


def _several(given: Curve | Iterable[Curve]) -> Iterable[Curve]:
    return [given] if hasattr(given, "faithfulness") else given  # type: ignore[return-value]


def _label(name: str, its: Sequence[Curve]) -> str:
    """The name with its areas, in the mean over curves."""
    cpr, cmd = (sum(getattr(curve, area) for curve in its) / len(its) for area in ("cpr", "cmd"))
    return f"{name} (CPR {cpr:.2f}, CMD {cmd:.2f}){_of_several(len(its))}"


def _of_several(n: int) -> str:
    return f": mean and range of {n}" if n > 1 else ""


def _pooled(every: Sequence[Curve], kind: str) -> dict[Sizes, Float[Tensor, "draw size"]]:
    """The random circuits of all curves by their sizes; methods may share draws of one seed."""
    rows: dict[Sizes, dict[Sizes, None]] = {}
    for curve in every:
        for row in getattr(curve, kind):
            rows.setdefault(tuple(curve.fractions), {})[tuple(map(float, row))] = None
    return {sizes: torch.tensor(list(its), dtype=torch.float64) for sizes, its in rows.items()}


def _range(rows: Float[Tensor, "curve size"]) -> Float[Tensor, "two size"]:
    return torch.stack([rows.amin(0), rows.amax(0)])


def _finish(axes: Axes, smallest: float) -> None:
    axes.set_xscale("log")
    ticks = [f for f in (0.001, 0.01, 0.1, 1.0) if f >= smallest]
    axes.set_xticks(ticks, [f"{100 * tick:g}%" for tick in ticks])
    axes.set_xlabel("share of edges kept")
    axes.set_ylabel("faithfulness")
    axes.legend(
        frameon=False, fontsize=SMALL, labelcolor=INK, loc="lower left", bbox_to_anchor=(0, 1)
    )
