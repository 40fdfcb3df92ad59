"""The drawings of the docs, made anew: `make pictures`.

Writes an SVG for each beside itself. All but two are drawn by hand: the curve is measured on
the bundled model, and the layers are those in pyproject.toml.
"""

from __future__ import annotations

from pathlib import Path

from layers import layers
from sheet import Sheet

import sae_circuits as sc

HERE = Path(__file__).parent


def main() -> None:
    """Draw all."""
    for drawing in (*KEPT_TRUE, faithfulness):
        (HERE / f"{drawing.__name__}.svg").write_text(drawing().svg())


def way() -> Sheet:
    """From prompts to a picture, in five boxes."""
    sheet = Sheet(860, 250)
    steps = [
        ("Task", "clean and corrupt\nprompts, answers"),
        ("Scores", "what each edge\ndoes, estimated"),
        ("Circuit", "the edges\nthat are kept"),
        ("Test", "all others cut,\nin the real model"),
        ("Picture", "and files, with\nhow it was made"),
    ]
    for i, (title, what) in enumerate(steps):
        x = 10 + 172 * i
        sheet.box(x, 30, 148, 200)
        sheet.text(x + 74, 56, title, "strong")
        sheet.text(x + 74, 196, what, "small faint")
        if i:
            sheet.line([(x - 22, 130), (x - 4, 130)], "plain wide", tip=True)
    sheet.text(84, 105, "… Mary and John …", "small helps")
    sheet.text(84, 130, "… Mary and Paul …", "small hurts")
    sheet.text(84, 155, "→ Mary, not John", "small")
    for i, (size, kind) in enumerate([(80, "helps"), (56, "helps"), (34, "hurts"), (14, "helps")]):
        sheet.box(216, 82 + 24 * i, size, 14, kind=f"full {kind}")
    _small_graph(sheet, 428, all_edges=False)
    _small_graph(sheet, 600, all_edges=True)
    _small_graph(sheet, 772, all_edges=False, letters=True)
    return sheet


def _small_graph(sheet: Sheet, x: float, all_edges: bool, letters: bool = False) -> None:
    """Draw five nodes in layers; with those edges that are cut as dashes."""
    nodes = {"in": (x, 166), "a": (x - 36, 136), "b": (x + 36, 136), "m": (x, 108), "out": (x, 78)}
    kept = {("in", "a"): "helps", ("a", "m"): "helps", ("m", "out"): "helps", ("in", "b"): "hurts",
            ("b", "out"): "hurts"}  # fmt: skip
    cut = [("in", "m"), ("a", "out"), ("b", "m")]
    for start, end in cut if all_edges else []:
        sheet.line([nodes[start], nodes[end]], "thin dashed")
    for (start, end), kind in kept.items():
        sheet.line([nodes[start], nodes[end]], f"{kind} wide")
    for name, (cx, cy) in nodes.items():
        if letters:
            sheet.box(cx - 13, cy - 9, 26, 18, kind="card plain")
            sheet.text(cx, cy + 4, name, "small")
        else:
            sheet.dot(cx, cy, "plain", 5)


def bus() -> Sheet:
    """The residual stream, what writes to it and what reads it."""
    sheet = Sheet(860, 300)
    sheet.box(20, 40, 820, 30, kind="full thin")
    sheet.text(430, 61, "residual stream: the bus", "strong")
    sheet.text(20, 28, "earlier", "small faint", "start")
    sheet.text(840, 28, "later", "small faint", "end")
    parts = [("input", 30), ("a0.h0", 150), ("a0.h1", 270), ("m0", 390), ("a1.h0", 480),
             ("a1.h1", 600), ("m1", 720)]  # fmt: skip
    for name, x in parts:
        head, mlp = name.startswith("a"), name.startswith("m")
        wide = 100 if head else 70
        sheet.box(x, 170, wide, 44, name, "mlp thin" if mlp else "card thin")
        if name != "input":
            ports = ["q", "k", "v"] if head else [""]
            for i, port in enumerate(ports):
                at = x + 14 + 19 * i
                sheet.line([(at, 70), (at, 166)], "other", tip=True)
                sheet.text(at + 9, 130, port, "small other")
        at = x + wide - 14
        sheet.line([(at, 170), (at, 74)], "helps wide", tip=True)
    sheet.box(802, 170, 48, 44, "logits")
    sheet.line([(826, 70), (826, 166)], "other", tip=True)
    sheet.line([(30, 250), (60, 250)], "helps wide", tip=True)
    sheet.text(72, 255, "a writer adds to the stream, once", "helps", "start")
    sheet.line([(390, 250), (420, 250)], "other", tip=True)
    sheet.text(432, 255, "a reader looks at it: a head three times (q, k, v)", "other", "start")
    sheet.text(
        30, 284, "a: heads, m: MLPs, with their layer. What is written stays: the stream is a sum.",
        "small faint", "start",
    )  # fmt: skip
    return sheet


def edge() -> Sheet:
    """One edge: one term of the sum that one reader sees."""
    sheet = Sheet(860, 250)
    sheet.text(175, 30, "what a1.h0<k> sees, all clean", "strong")
    sheet.text(640, 30, "the same with the edge m0->a1.h0<k> corrupted", "strong")
    for x, swapped in ((40, False), (505, True)):
        for i, name in enumerate(["input", "a0.h0", "a0.h1", "m0"]):
            changed = swapped and name == "m0"
            y = 50 + 42 * i
            sheet.box(x, y, 130, 32, kind="card hurts wide" if changed else "card helps")
            sheet.text(x + 65, y + 21, name, "hurts strong" if changed else "")
            sheet.line([(x + 130, y + 16), (x + 185, y + 16)], "hurts wide" if changed else "helps")
            sheet.text(x + 158, y + 10, "corrupt" if changed else "", "small hurts")
        sheet.line([(x + 185, 66), (x + 185, 192)], "thin")
        sheet.text(x + 203, 134, "+", "strong")
        sheet.line([(x + 185, 129), (x + 193, 129)], "thin")
        sheet.line([(x + 213, 129), (x + 232, 129)], "thin", tip=True)
        sheet.box(x + 236, 110, 84, 38, "a1.h0<k>")
    sheet.text(
        430, 236, "Only this reader sees the change. m0 itself and all its other readers stay "
        "as they were.", "small faint",
    )  # fmt: skip
    return sheet


def sign() -> Sheet:
    """What the sign of a score says."""
    sheet = Sheet(860, 230)
    sheet.line([(60, 110), (810, 110)], "plain", tip=True)
    sheet.text(812, 136, "metric, such as\nlogit(right) − logit(wrong)", "small faint", "end")
    for x, name in ((130, "m(corrupt)"), (560, "m(clean)")):
        sheet.line([(x, 102), (x, 118)], "plain wide")
        sheet.text(x, 138, name)
    sheet.line([(556, 84), (400, 84)], "helps wide", tip=True)
    sheet.text(
        478, 50, "corrupt an edge, the metric falls:\nscore negative, the edge helps", "helps"
    )
    sheet.line([(564, 84), (680, 84)], "hurts wide", tip=True)
    sheet.text(720, 50, "it rises:\nscore positive, it hurts", "hurts")
    sheet.text(
        430, 196, "For kl and cross_entropy, small is good: there a positive score says that "
        "the edge helps.", "small faint",
    )  # fmt: skip
    return sheet


def interventions() -> Sheet:
    """What an edge outside the circuit carries, token by token."""
    sheet = Sheet(860, 330)
    words = ["When", "Mary", "and", "John", "…", "to"]
    for i, word in enumerate(words):
        sheet.text(253 + 66 * i, 26, word, "small faint")
    rows = [
        ("in the circuit", ["helps"] * 6, ["now"] * 6, "what its writer writes in this run"),
        ("corrupt", ["hurts"] * 6, ["corrupt"] * 6, "on the corrupt prompt"),
        ("resample", ["other"] * 6, ["another"] * 6, "on another clean prompt"),
        ("mean", ["thin"] * 6, ["mean"] * 6, "one mean for all"),
        ("mean-positional", ["thin"] * 6, [f"mean {i}" for i in range(6)], "a mean per position"),
        ("zero", ["thin dashed"] * 6, ["0"] * 6, "nothing"),
    ]
    for r, (name, kinds, cells, said) in enumerate(rows):
        y = 40 + 46 * r + (14 if r else 0)
        sheet.text(205, y + 23, name, "strong" if r == 0 else "mono", "end")
        for i, (kind, cell) in enumerate(zip(kinds, cells, strict=True)):
            sheet.box(222 + 66 * i, y, 62, 34, kind=f"card {kind}")
            sheet.text(253 + 66 * i, y + 22, cell, f"small {kind}")
        sheet.text(630, y + 23, said, "small faint", "start")
    sheet.line([(20, 87), (840, 87)], "thin")
    return sheet


def faithfulness() -> Sheet:
    """Faithfulness over sizes on the bundled model, beside random circuits of the same degrees."""
    model = sc.load_model("demo")
    task, graph = sc.tasks.ioi(model, n=64, seed=0), sc.TensorGraph.from_model(model)
    scores = sc.attribute(model, graph, task[:32], method="eap-ig", steps=5)
    curve = sc.curve(model, scores, task[32:], random=["size", "degrees"], n_random=3)
    sheet = Sheet(860, 360)
    left, right, top, bottom = 70, 590, 50, 300

    def at(share: float, value: float) -> tuple[float, float]:
        clipped = min(max(value, -0.2), 1.2)
        return left + share**0.5 * (right - left), bottom - (clipped + 0.2) / 1.4 * (bottom - top)

    for value, said in ((0, "0: nothing but\nthe corrupt run"), (1, "1: the\nwhole model")):
        sheet.line([at(0, value), at(1, value)], "thin dashed")
        sheet.text(left - 8, at(0, value)[1] + 5, str(value), "small", "end")
        sheet.text(right + 12, at(0, value)[1] + 2, said, "small faint", "start")
    for share in (0.01, 0.05, 0.1, 0.2, 0.5, 1):
        sheet.text(at(share, 0)[0], bottom + 22, f"{share:.0%}", "small faint")
    sheet.text(
        (left + right) / 2,
        bottom + 46,
        "edges in the circuit (of 479; axis by square root)",
        "small",
    )
    sheet.text(
        left,
        30,
        "faithfulness, on prompts that were not used to find the circuits",
        "strong",
        "start",
    )
    lines = [
        (_mean(curve.random), "thin", "random edges", ""),
        (_mean(curve.degrees), "other", "random, same degrees", "other"),
        (curve.faithfulness, "helps wide", "the circuit", "helps"),
    ]
    for values, kind, _, _ in lines:
        sheet.line([at(s, v) for s, v in zip(curve.fractions, values, strict=True)], kind)
    for i, (_, kind, name, tone) in enumerate(reversed(lines)):
        y = 130 + 28 * i
        sheet.line([(right + 14, y), (right + 44, y)], kind)
        sheet.text(right + 54, y + 5, name, tone, "start")
    return sheet


def _mean(rows: tuple[tuple[float, ...], ...]) -> list[float]:
    return [sum(column) / len(column) for column in zip(*rows, strict=True)]


KEPT_TRUE = (way, bus, edge, sign, interventions, layers)

if __name__ == "__main__":
    main()
