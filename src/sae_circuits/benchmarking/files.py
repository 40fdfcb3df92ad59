"""What a benchmark leaves beside its cells: tables, a page, and MIB's circuit files."""

from __future__ import annotations

from sae_circuits.benchmarking.folder import Folder
from sae_circuits.benchmarking.page import benchmark_page, markdown
from sae_circuits.disk.atomic import write_whole
from sae_circuits.errors import GraphError
from sae_circuits.evaluation import Benchmark
from sae_circuits.graph import Scores
from sae_circuits.io import Record, export_eap_ig, load, save
from sae_circuits.prune import top_n

TABLES = ("cpr", "cmd", "auroc")


def write_files(found: Benchmark, folder: Folder, record: Record) -> None:
    """Write benchmark.json, table.csv, table.md, table.html, MIB's tables and its circuit files.

    MIB's tables have a row for each method and a column for each task and model, `mib-cpr.csv` and
    so on. Its circuit files, `mib/eap/ioi_demo/importances.json`, hold the scores of the first seed
    where the graph is one that the benchmark knows.

    Raises:
        OutputError: the folder cannot be written.
    """
    path = folder.path
    save(found, path / "benchmark.json")
    write_whole(path / "table.csv", found.to_pandas().to_csv(index=False))
    write_whole(path / "table.md", markdown(found))
    write_whole(path / "table.html", benchmark_page(found, record))
    for measure in TABLES:
        write_whole(path / f"mib-{measure}.csv", found.mib(measure).to_csv(index=False))
    _write_circuits(found, folder)


def _write_circuits(found: Benchmark, folder: Folder) -> None:
    """The scores of the first seed of each method and task, as MIB reads them."""
    for method in found.methods:
        for place in found.places:
            cells = [cell for cell in found.of(method, place) if cell.curves]
            if not cells or place[2] != "edges":
                continue
            scores = load(folder.of(place, method, cells[0].seed) / "scores.safetensors", Scores)
            name = f"{place[1]}_{place[0]}".replace("/", "-")
            where = folder.path / "mib" / method / name
            try:
                where.mkdir(parents=True, exist_ok=True)
                export_eap_ig(top_n(scores, scores.graph.n_edges), where / "importances.json")
            except GraphError:  # shared key/value heads, or no MLPs: MIB has no such files
                where.rmdir()
