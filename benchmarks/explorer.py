"""The explorer's page in a browser: time to open, to point at a node, and to change the size.

    python benchmarks/explorer.py [--quick] [--json FILE] [--chromium PATH]

Random attribution graphs of growing size, and a circuit of features of the bundled model. "Page" is
what Python takes to make the file, "open" the time from asking for it to the second frame that the
browser draws, "point" and "size" that from a change to the second frame after it. "Own" is what the
page's own thread worked until it was open: less than the time by the clock where the machine has
other work, which "load" says: how many processes wanted a processor in the mean. The goal is 2 s to
open 300 nodes.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measure import flags, machine, read_flags, table, write_json
from playwright.sync_api import Page, sync_playwright

import sae_circuits as sc

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from small_explorer import drawn

FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
TIMED = f"""async (change) => {{ const start = performance.now(); eval(change); await {FRAMES};
    return performance.now() - start; }}"""


def features(device: str) -> sc.Circuit:
    """The 500 first edges between features of every dictionary of the bundled model."""
    model = sc.load_model("demo", device=device)
    graph = sc.TensorGraph.from_model(model, saes=sc.load_saes("demo", device=device))
    task = sc.tasks.ioi(model, n=8, seed=0)
    return sc.prune.top_n(sc.attribute(model, graph, task, method="eap"), 500)


def opened(page: Page, path: Path) -> tuple[float, float]:
    """Seconds until a page is drawn: by the clock, and of its own thread's work."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    start = time.perf_counter()
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready]", state="attached", timeout=120_000)
    page.evaluate(FRAMES)
    clock = time.perf_counter() - start
    metrics = session.send("Performance.getMetrics")["metrics"]
    own = next(one["value"] for one in metrics if one["name"] == "TaskDuration")
    return clock, own


def measured(name: str, circuit: Any, browser: Any, folder: Path, repeats: int) -> dict[str, Any]:
    """Seconds of everything, medians over repeats."""
    path = folder / "page.html"
    start = time.perf_counter()
    view = circuit.explore(max_edges=20_000).render(path)
    made = time.perf_counter() - start
    rows = []
    for _ in range(repeats):
        page = browser.new_context(viewport={"width": 1400, "height": 900}, offline=True).new_page()
        clock, own = opened(page, view)
        nodes, size = page.evaluate("[explorer.graph().nodes.length, explorer.state().size]")
        some = page.evaluate("explorer.graph().nodes[explorer.graph().nodes.length >> 1].id")
        point = page.evaluate(
            TIMED, f"explorer.drawn.cy.getElementById({some!r}).emit('mouseover')"
        )
        less = page.evaluate(TIMED, f"explorer.change({{ size: {size * 9 // 10} }})")
        rows.append((clock, own, point / 1e3, less / 1e3))
        page.context.close()
    middle = [statistics.median(values) for values in zip(*rows, strict=True)]
    return {
        "name": name, "nodes": nodes, "edges": size, "page": made, "kb": path.stat().st_size / 1e3,
        **dict(zip(("open", "own", "point", "size"), middle, strict=True)),
        "load": os.getloadavg()[0],
    }  # fmt: skip


def main() -> None:
    """Print a table of all cases."""
    parser = flags(__doc__, "10 and 300 nodes, once", repeats=3)
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="the program")
    args = read_flags(parser)
    cases: list[tuple[str, Any]] = [
        ("10 nodes", drawn(30, 10)),
        ("300 nodes", drawn(300, 600)),
    ]
    if not args.quick:
        cases += [("features", features(args.device)), ("5,000 nodes", drawn(5_000, 20_000))]
    print(f"{machine(args.device)}; {os.cpu_count()} processors\n")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=args.chromium, args=["--no-sandbox"])
        repeats = 1 if args.quick else args.repeats
        rows = [measured(*case, browser, Path(folder), repeats) for case in cases]
        browser.close()
    print(
        table(
            ["graph", "nodes", "edges", "page", "size of it", "open", "own", "point", "size",
             "load"],
            [
                [
                    row["name"], f"{row['nodes']:,}", f"{row['edges']:,}", f"{row['page']:.2f} s",
                    f"{row['kb']:.0f} kB", f"{row['open']:.2f} s", f"{row['own']:.2f} s",
                    f"{row['point']:.2f} s", f"{row['size']:.2f} s", f"{row['load']:.1f}",
                ]
                for row in rows
            ],
        )
    )  # fmt: skip
    write_json(args.json, {"cases": rows}, args.device)


if __name__ == "__main__":
    main()
