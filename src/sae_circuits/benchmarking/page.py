"""A benchmark as Markdown and as one HTML page, with a curve for each task."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from sae_circuits.evaluation import Benchmark
from sae_circuits.evaluation.benchmark import BY, MEASURES, Place, title
from sae_circuits.io import Record
from sae_circuits.viz.pages import page, render_template, source
from sae_circuits.viz.plots import curves as plot_curves
from sae_circuits.viz.plots import svg_of

SAID = {"cpr": "CPR", "cmd": "CMD", "auroc": "AUROC", "auprc": "AUPRC", "peak_mb": "peak MB"}
DIGITS = {"seconds": 2, "peak_mb": 0}


def markdown(found: Benchmark) -> str:
    """A table for each measure: a line for each method, a column for each task; intervals beside.

    The best of a column is bold; where a method is not defined, there is a dash.
    """
    parts = []
    for measure, meaning in MEASURES.items():
        table = rows(found, measure)
        if not table:
            continue
        head = ["", *(title(place) for place in _places(found, measure))]
        lines = [head, ["---"] * len(head)]
        lines += [[method, *(_marked(cell) for cell in cells)] for method, cells in table.items()]
        text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        said = f"{meaning[0].upper()}{meaning[1:]}."
        parts.append(f"## {SAID.get(measure, measure)}\n\n{said}\n\n{text}")
    for what, why in found.refusals().items():
        parts.append(f"No scores by {what}: {why}")
    return "\n\n".join(parts) + "\n"


def benchmark_page(found: Benchmark, record: Record | None = None) -> str:
    """The tables and the curves on one page, which needs no network.

    Args:
        record: of the run, for the command and the versions.
    """
    tables = [
        {
            "name": SAID.get(measure, measure),
            "meaning": meaning,
            "columns": [title(place) for place in _places(found, measure)],
            "rows": rows(found, measure),
        }
        for measure, meaning in MEASURES.items()
        if rows(found, measure)
    ]
    body = render_template(
        "benchmark.html",
        tables=tables,
        pictures=[(title(place), Markup(picture)) for place, picture in pictures(found).items()],
        refusals=found.refusals(),
        record=record,
    )
    return page("Methods compared", body, source("report.css"))


def summary(found: Benchmark) -> str:
    """The best method of each task, a line each."""
    lines = []
    for place in found.places:
        said = [
            f"{SAID.get(m, m)} {found.mean(m, best, place):.3f} by {best}"
            for m in ("cpr", "cmd", "auroc")
            if (best := found.best(m, place)) is not None
        ]
        lines.append(f"{title(place)}: {', '.join(said)}")
    return "\n".join(lines)


def pictures(found: Benchmark) -> dict[Place, str]:
    """Faithfulness over circuit sizes, edges ranked by size, for every method: an SVG a place."""
    drawn = {}
    for place in found.places:
        each = {
            method: [cell.curves[BY["cmd"]] for cell in found.of(method, place) if cell.curves]
            for method in found.methods
        }
        if each := {method: curves for method, curves in each.items() if curves}:
            drawn[place] = svg_of(plot_curves(each))
    return drawn


def rows(found: Benchmark, measure: str) -> dict[str, list[tuple[str, str, bool]]]:
    """For each method and place: the mean, its interval, and whether none is shown as better."""
    places = _places(found, measure)
    return {
        method: [_cell(found, measure, method, place) for place in places]
        for method in found.methods
        if any(not math.isnan(found.mean(measure, method, place)) for place in places)
    }


def _places(found: Benchmark, measure: str) -> Sequence[Place]:
    """Where a measure was measured."""
    return [
        place
        for place in found.places
        if any(not math.isnan(found.mean(measure, m, place)) for m in found.methods)
    ]


def _cell(found: Benchmark, measure: str, method: str, place: Place) -> tuple[str, str, bool]:
    mean, digits = found.mean(measure, method, place), DIGITS.get(measure, 2)
    if math.isnan(mean):
        return "–", "", False
    shown, low, high = (f"{x:.{digits}f}" for x in (mean, *found.interval(measure, method, place)))
    best = found.mean(measure, found.best(measure, place) or method, place)
    return shown, "" if low == high else f"{low} to {high}", shown == f"{best:.{digits}f}"


def _marked(cell: tuple[str, str, bool]) -> str:
    mean, interval, is_best = cell
    shown = f"**{mean}**" if is_best else mean
    return f"{shown} ({interval})" if interval else shown
