"""A report as a folder: values to load again, pictures, and a page that shows all of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sae_circuits.disk.atomic import empty_folder, write_whole
from sae_circuits.errors import OptionError
from sae_circuits.explorer.view import CircuitView
from sae_circuits.graph import Scores, SpanCircuit
from sae_circuits.io import Record, save
from sae_circuits.viz.render import render

if TYPE_CHECKING:
    from sae_circuits.evaluation import Report
    from sae_circuits.tasks import Task


EXPLORER = "explorer.html"
FILES = (
    "scores.safetensors", "circuit.json", "report.json", "circuit.html", "circuit.dot",
    "circuit.svg", "curve.svg", "curve.png", EXPLORER, "report.html",
)  # fmt: skip
"""What a report's folder may hold."""


def save_report(
    report: Report, folder: str | Path, *, record: Record | None = None, task: Task | None = None
) -> Path:
    """Write a report, its circuit and scores, pictures and a page to an empty or new folder.

    report.json, circuit.json and scores.safetensors (where known) load again; see
    `write_pictures` for the others.

    Raises:
        OutputError: the folder holds something already, or cannot be written.
    """
    return write_report(report, empty_folder(folder), record=record, task=task)


def write_report(
    report: Report, folder: Path, *, record: Record | None = None, task: Task | None = None
) -> Path:
    """Write the files of `FILES` to a folder, over what is there."""
    if isinstance(report.scores, Scores):  # those by span are in the circuit's file
        save(report.scores, folder / "scores.safetensors")
    save(report.of, folder / "circuit.json")
    save(report, folder / "report.json")
    write_pictures(report, folder, record=record, task=task)
    return folder


def write_pictures(
    report: Report, folder: Path, *, record: Record | None = None, task: Task | None = None
) -> None:
    """Write circuit.html, circuit.dot, explorer.html and report.html, and a curve's pictures.

    circuit.svg is written too where the `dot` program is installed. Of a circuit by span, all but
    the explorer shows the edges that are in at any span.
    """
    from sae_circuits.explorer.page import explorer_page
    from sae_circuits.viz.dot import has_dot
    from sae_circuits.viz.plots import curves, png_of, svg_of
    from sae_circuits.viz.report_page import report_page

    write_whole(folder / EXPLORER, explorer_page(_explored(report)))
    circuit = report.of.union if isinstance(report.of, SpanCircuit) else report.of
    report = replace(report, of=circuit)
    for suffix in ("html", "dot", *(["svg"] if has_dot() else [])):
        render(circuit, folder / f"circuit.{suffix}")
    if report.curve is not None:
        figure = curves(report.curve)
        write_whole(folder / "curve.svg", svg_of(figure))
        write_whole(folder / "curve.png", png_of(figure))
    made = report_page(report, record=record, task=task, explorer=EXPLORER)
    write_whole(folder / "report.html", made)


def _explored(report: Report) -> CircuitView:
    """A report's circuit, with its curve where that is of the circuits that the page shows.

    It is not where another pruner than `top_n` made them.
    """
    try:
        return report.of.explore(curve=report.curve)
    except OptionError:
        return report.of.explore()
