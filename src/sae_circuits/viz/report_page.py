"""A report as one HTML page: what was found, how sure that is, and how it was made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from markupsafe import Markup

from sae_circuits.graph import Circuit, Scores, SpanCircuit
from sae_circuits.io import Record
from sae_circuits.viz.pages import circuit_fragment, page, render_template, source
from sae_circuits.viz.pictures import picture
from sae_circuits.viz.plots import curves, heat_map, svg_of

if TYPE_CHECKING:
    from sae_circuits.evaluation import Curve, Minimality, Report
    from sae_circuits.tasks import Task

N_EDGES, N_LEAST, N_EXAMPLES, BAR = 25, 15, 100, 120

MEANING = {
    "faithfulness": "share of the clean-to-corrupt gap that the circuit recovers",
    "completeness": "the same for all other edges: low where the circuit is complete",
    "faithfulness_errors_kept": "the same share with every edge of every error node in",
    "faithfulness_errors_removed": "the same share with no edge of an error node in",
    "clean": "the metric on the whole model",
    "corrupt": "the metric with every edge intervened on",
    "circuit": "the metric on the circuit",
    "complement": "the metric on all other edges",
    "faithfulness_random": "the same share for random circuits of as many edges",
    "faithfulness_degrees": "for random circuits in which each node has as many edges in and out",
    "errors_kept": "the metric with every edge of every error node in",
    "errors_removed": "the metric with no edge of an error node in",
    "random": "the metric on random circuits of as many edges",
    "degrees": "the metric on random circuits in which each node has as many edges in and out",
    "accuracy": "share of examples that the circuit answers right",
    "clean_accuracy": "share that the whole model answers right",
    "corrupt_accuracy": "share answered right with every edge intervened on",
}


def report_page(
    report: Report,
    *,
    record: Record | None = None,
    task: Task | None = None,
    explorer: str | None = None,
) -> str:
    """The page. It needs no network and no program, and escapes all that comes from data.

    Args:
        record: of the run, for the command and the versions.
        task: the evaluated one, to show its prompts beside the numbers.
        explorer: the address of a page on which the circuit is explored.
    """
    made = report.provenance
    title = f"{made.task or 'A task'} in {made.model or 'a model'}"
    body = render_template(
        "report.html",
        title=title,
        verdict=verdict(report),
        explorer=explorer,
        cards=_cards(report),
        circuit=circuit_fragment(picture(_anywhere(report))),
        plots=_plots(report),
        edges=_edges(report),
        measures=[
            {"name": name, "value": number(getattr(report, name)), "meaning": meaning,
             "interval": _interval(report, name)}
            for name, meaning in MEANING.items() if name in report.measures
        ],
        curve_rows=_curve_rows(report.curve) if report.curve else [],
        areas=_areas(report.curve) if report.curve else [],
        least=_least(report.minimality) if report.minimality else [],
        n_needed=len(report.minimality.needed) if report.minimality else 0,
        n_edges=report.n_edges,
        n_examples=len(report.examples["clean"]),
        examples=_examples(report, task),
        made=_made(report, record),
    )  # fmt: skip
    return page(title, body, source("report.css"))


def verdict(report: Report) -> str:
    """What was found, in a sentence."""
    made, low_high = report.provenance, _interval(report, "faithfulness")
    return (
        f"A circuit of {report.n_edges:,} of {report.of.graph.n_edges:,} edges "
        f"({100 * report.fraction:.3g}%) recovers {number(100 * report.faithfulness)}% of the gap "
        f"in {made.metric or 'the metric'} between the clean and the corrupt run "
        f"(faithfulness {number(report.faithfulness)}, 95% interval {low_high}); the other edges "
        f"recover {number(100 * report.completeness)}%."
        f"{_of_errors(report)}"
    )


def _of_errors(report: Report) -> str:
    """What the circuit owes to its error nodes, where there are any."""
    if "errors_removed" not in report.measures:
        return ""
    alone = number(100 * report.faithfulness_errors_removed)
    return (
        f" Without its error nodes, which stand for what the dictionaries do not explain, it "
        f"recovers {alone}%."
    )


def number(value: float) -> str:
    """Three significant digits, and a dash for what is not a number.

    >>> number(0.98765), number(-1234.5), number(0.0), number(float("nan"))
    ('0.988', '−1,234', '0', '–')
    """
    if not math.isfinite(value):
        return "–"
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("-", "−")  # a minus as wide as the plus


def _interval(report: Report, name: str) -> str:
    return _ends(*report.interval(name))


def _ends(low: float, high: float) -> str:
    return f"[{number(low)}, {number(high)}]"


def _cards(report: Report) -> list[Mapping[str, str]]:
    cards = [
        ("faithfulness", number(report.faithfulness), _interval(report, "faithfulness")),
        ("completeness", number(report.completeness), "of the other edges; low is good"),
        ("edges", f"{report.n_edges:,}", _share(report)),
        ("accuracy", number(report.accuracy), f"whole model {number(report.clean_accuracy)}"),
        (report.provenance.metric or "metric", number(report.circuit),
         f"clean {number(report.clean)}, corrupt {number(report.corrupt)}"),
    ]  # fmt: skip
    if report.curve is not None:
        curve = report.curve
        cards += [
            ("CPR", number(curve.cpr), f"random {number(curve.random_cpr)}, by {curve.by}"),
            ("CMD", number(curve.cmd), f"random {number(curve.random_cmd)}, by {curve.by}"),
        ]
    return [{"name": name, "value": value, "note": note} for name, value, note in cards]


def _share(report: Report) -> str:
    """The share of the graph's edges, and where it is split, what they are worth unsplit."""
    share = f"{100 * report.fraction:.3g}% of the graph"
    split = any(block.is_split for block in report.of.graph.writers)
    return f"{share}; {report.weighted_edges:,.3g} unsplit ones" if split else share


def _plots(report: Report) -> list[Mapping[str, object]]:
    plots = []
    if report.curve is not None:
        caption = (
            "Faithfulness of circuits of growing size. CPR is the area under the curve, CMD the "
            "area between it and 1; the MIB benchmark ranks edges by 'help' for CPR and by 'abs' "
            f"for CMD, and this curve ranks them by '{report.curve.by}'."
        )
        plots.append({"svg": Markup(svg_of(curves(report.curve))), "caption": caption})
    if isinstance(report.scores, Scores):
        nodes, groups = (heat_map(report.scores, by=by) for by in ("source", "groups"))
        plots += [
            {"svg": Markup(svg_of(nodes)), "caption": "Each part's scores, summed over its edges."},
            {"svg": Markup(svg_of(groups)), "caption": "Scores summed over groups of edges."},
        ]
    return plots


def _anywhere(report: Report) -> Circuit:
    """The circuit; of one by span, the edges that are in at any span."""
    return report.of.union if isinstance(report.of, SpanCircuit) else report.of


def _edges(report: Report) -> list[Mapping[str, object]]:
    if not isinstance(report.scores, Scores):
        return []
    top = report.scores.top(N_EDGES)
    largest = max((abs(score) for _, score in top), default=0.0) or 1.0
    ids = [report.of.graph.edge_id(name) for name, _ in top]
    return [
        {
            "name": name,
            "score": f"{score:+.3g}".replace("-", "−"),
            "share": round(BAR * abs(score) / largest, 1),
            "effect": "helps" if score < 0 else "hurts" if score > 0 else "unknown",
            "present": bool(_anywhere(report).mask[i]),
        }
        for (name, score), i in zip(top, ids, strict=True)
    ]


def _curve_rows(curve: Curve) -> list[Mapping[str, object]]:
    rows = zip(curve.fractions, curve.n_edges, curve.faithfulness, strict=True)
    return [
        {
            "share": f"{100 * fraction:g}%",
            "n_edges": f"{n_edges:,}",
            "faithfulness": number(value),
            "interval": _ends(*curve.band[i]) if curve.band else "–",
            "random": ", ".join(number(row[i]) for row in curve.random) or "–",
            "degrees": ", ".join(number(row[i]) for row in curve.degrees) or "–",
        }
        for i, (fraction, n_edges, value) in enumerate(rows)
    ]


def _areas(curve: Curve) -> list[Mapping[str, str]]:
    """Each area with its interval, where there is one."""
    names = {
        "cpr": "CPR",
        "cmd": "CMD",
        "cpr_from_zero": "CPR from 0%",
        "cmd_from_zero": "CMD from 0%",
        "random_cpr": "CPR, random of equal size",
        "random_cmd": "CMD, random of equal size",
        "degrees_cpr": "CPR, random of equal degrees",
        "degrees_cmd": "CMD, random of equal degrees",
    }
    return [
        {
            "name": said,
            "value": number(getattr(curve, name)),
            "interval": _ends(*curve.intervals[name]) if name in curve.intervals else "–",
        }
        for name, said in names.items()
        if math.isfinite(getattr(curve, name))
    ]


def _least(minimality: Minimality) -> list[Mapping[str, str]]:
    """The edges that lose least when they alone are removed."""
    rows = zip(minimality.least(N_LEAST), minimality.lost_interval.tolist(), strict=False)
    return [
        {"name": name, "lost": number(lost), "interval": _ends(*ends)}
        for (name, lost), ends in rows
    ]


def _examples(report: Report, task: Task | None) -> list[Mapping[str, object]]:
    n = min(len(report.examples["clean"]), N_EXAMPLES)
    clean_text, corrupt_text = _prompts(task, n)
    measured = ("clean", "corrupt", "circuit", "faithfulness")
    columns = {name: report.examples[name][:n].tolist() for name in measured}
    right = report.examples["accuracy"][:n].tolist()
    return [
        {
            "number": i + 1,
            "clean_text": clean_text[i],
            "corrupt_text": corrupt_text[i],
            "right": bool(right[i]),
            **{name: number(values[i]) for name, values in columns.items()},
        }
        for i in range(n)
    ]


def _prompts(task: Task | None, n: int) -> tuple[list[str], list[str]]:
    """The prompts as text where known, else as token ids."""
    if task is None:
        return [""] * n, [""] * n
    if task.clean_text:
        return list(task.clean_text[:n]), list(task.corrupt_text[:n])
    sizes = task.lengths[:n].tolist()
    clean, corrupt = (
        [str(row[:size].tolist()) for row, size in zip(tokens, sizes, strict=False)]
        for tokens in (task.clean, task.corrupt)
    )
    return clean, corrupt


def _made(report: Report, record: Record | None) -> list[tuple[str, str]]:
    """Where the numbers come from: enough to make them again."""
    made = report.provenance
    options = ", ".join(f"{name}={value}" for name, value in made.options.items())
    rows = [
        ("model", made.model),
        ("weights", made.model_id),
        ("task", f"{made.task}, {made.n_examples} examples" if made.task else ""),
        ("prompts", made.task_id),
        ("method", f"{made.method} ({options})" if options else made.method),
        ("metric", made.metric),
        ("intervention", made.intervention),
        ("seed", "" if made.seed is None else str(made.seed)),
        ("sae-circuits", made.version),
    ]
    if record is not None:
        versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
        rows += [("command", record.shell), ("started", record.started), ("versions", versions)]
    return [(name, value) for name, value in rows if value]
