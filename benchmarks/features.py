"""Statistics and examples of every feature, beside the model and the encoder; and searches.

    python benchmarks/features.py [--quick] [--part PART] [--json FILE] [--device cuda]

The bundled model reads text of its own; dictionaries of random directions stand on its stream, with
32 features active on a token. "Floor" is what model and encoder take within the extraction;
"extract" all else of it, up to the shards; "statistics" all numbers, distributions, tokens,
positions and examples that follow from these; "relations" logit effects, and the nearest features
by four measures over all pairs; "writing" the database. "Over floor", extract and statistics over
the floor, should stay below 1. A published tool in plain Python needs 3.7 s for the statistics of
4,096 features by 1,024 tokens; "times as fast" compares ours with that, cell by cell.

Searches: milliseconds of each kind of question to a store of 24,576 features on 16,384 tokens, with
labels, each asked several times in turn, of other features and words.

Workers: seconds of what is shared out, in this process, on one worker of Ray, and on two, each with
one thread; the start of the cluster and of its workers is not in them. "Speed-up" is one worker
over two, "overhead" one worker over this process, less 1.
"""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

import torch
from measure import flags, machine, read_flags, table, write_json

import sae_circuits as sc
from sae_circuits.features.extraction import extract
from sae_circuits.features.folders import SHARDS
from sae_circuits.features.relations_job import RelationsJob, related
from sae_circuits.features.sources import DictionarySource
from sae_circuits.features.store.database import Database
from sae_circuits.features.store.tables import Contents, store_tables
from sae_circuits.features.store.weights import neighbour_rows
from sae_circuits.models.dictionaries.gates import TopK
from sae_circuits.shards import Means

PEER_SECONDS_A_CELL = 3.7 / (4096 * 1024)
ACTIVE = 32
RELATIONS = ("logits", "neurons", "heads", "correlations")


def dictionary(n_features: int, device: str) -> Any:
    """A dictionary of random directions at the stream after layer 1."""
    (own,) = sc.load_saes("demo", ["resid_post.1"], device=device)
    g = torch.Generator().manual_seed(0)
    W = torch.randn(n_features, own.W_enc.shape[0], generator=g).to(device)
    W /= W.norm(dim=1, keepdim=True)
    zero = W.new_zeros(n_features)
    return replace(
        own, name="random", W_enc=W.T.contiguous(), b_enc=zero, decoders=(W,), gate=TopK(ACTIVE)
    )


@dataclass(frozen=True)
class Case:
    """A dictionary's width, and a corpus's length."""

    n_features: int
    n_tokens: int


class Clocked:
    """A source that notes how long it takes: what model and encoder cost in a run."""

    def __init__(self, source: DictionarySource) -> None:
        """Of another source."""
        self.source, self.seconds = source, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def read(self, *args: Any) -> Any:
        """What the source reads."""
        return self._noted(self.source.read, *args)

    def activations(self, *args: Any) -> Any:
        """What the source makes of it."""
        return self._noted(self.source.activations, *args)

    def _noted(self, function: Callable[..., Any], *args: Any) -> Any:
        start = time.perf_counter()
        found = function(*args)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds += time.perf_counter() - start
        return found


def timed(tables: Iterator[tuple[str, Any]], spent: dict[str, float]) -> Iterator[tuple[str, Any]]:
    """Tables, with the seconds that each took to make."""
    start = time.perf_counter()
    for name, rows in tables:
        of = "relations" if name in RELATIONS else "statistics"
        spent[of] += time.perf_counter() - start
        yield name, rows
        start = time.perf_counter()


def measured(case: Case, device: str, threads: int) -> dict[str, Any]:
    """Seconds of each step, and how far the peak of memory stands above what was held before."""
    torch.set_num_threads(threads)
    model = sc.load_model("demo", device=device)
    corpus = sc.demo_corpus(case.n_tokens, model=model)
    source = DictionarySource.of(model, dictionary(case.n_features, device))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    clocked: Any = Clocked(source)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        found = extract(clocked, corpus, out=Path(folder) / "shards")
        extracted = time.perf_counter() - start - clocked.seconds
        spent: dict[str, float] = dict.fromkeys(("statistics", "relations"), 0.0)
        start = time.perf_counter()
        weights = Contents().weights(source)
        spent["relations"] = time.perf_counter() - start
        near, memory = time.perf_counter(), found.memory
        job = RelationsJob(Path(folder), {"made": []}, Contents().neighbours, memory, found)
        rows = neighbour_rows(related(job, found, Means()))
        spent["relations"] += time.perf_counter() - near
        tables = timed(store_tables(found, Contents(), weights), spent)
        Database.create(Path(folder) / "x.duckdb", chain(tables, [("correlations", rows)]), {})
        spent["writing"] = time.perf_counter() - start - sum(spent.values())
        stored = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    floor, ours = clocked.seconds, extracted + spent["statistics"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "features": case.n_features,
        "tokens": case.n_tokens,
        "active": found.n_active,
        "floor": floor,
        "extract": extracted,
        **spent,
        "tokens_a_second": case.n_tokens / (floor + extracted + sum(spent.values())),
        "peak_mb": (peak - before) / 1e6,
        "store_mb": stored / 1e6,
        "over_floor": ours / floor,
        "times_as_fast": PEER_SECONDS_A_CELL * case.n_features * case.n_tokens / ours,
    }


def built(case: Case, folder: Path, workers: Any) -> dict[str, float]:
    """Seconds of all that workers share, with some of them."""
    model = sc.load_model("demo")
    corpus, sae = sc.demo_corpus(case.n_tokens, model=model), dictionary(case.n_features, "cpu")
    source = DictionarySource.of(model, sae)
    extract(source, corpus, workers=workers)  # now all of them are there, with the model
    spent: dict[str, float] = {}

    def clocked(name: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        start = time.perf_counter()
        found = function(*args, **options)
        spent[name] = time.perf_counter() - start
        return found

    store = folder / "store"
    found = clocked("extraction", extract, source, corpus, out=store / SHARDS / "0",
                    workers=workers)  # fmt: skip
    features = sc.FeatureDictionary.build(model, sae, corpus, store)  # of what is there
    meta = features.database.meta()
    job = RelationsJob(store, meta, Contents().neighbours, found.memory, found)
    clocked("relations", related, job, found, Means(workers))
    clocked("pages", sc.render_index, features, folder / "pages", range(512), workers=workers)
    return spent


def shared(case: Case) -> list[dict[str, Any]]:
    """What workers share, in this process, by one worker and by two."""
    rows = list[dict[str, Any]]()
    for n in (0, 1, 2):
        with (
            tempfile.TemporaryDirectory() as folder,
            sc.workers("local" if n else "none", n or None, threads=1) as workers,
        ):
            rows.append({"workers": n, **built(case, Path(folder), workers)})
    return rows


def show_shared(case: Case, rows: list[dict[str, Any]]) -> None:
    """Print a table of them."""
    print(f"\nWorkers: {case.n_features:,} features on {case.n_tokens:,} tokens\n")
    lines = []
    for name in ("extraction", "relations", "pages"):
        alone, one, two = (row[name] for row in rows)
        seconds = (f"{x:.1f} s" for x in (alone, one, two))
        lines.append([name, *seconds, f"{one / two:.2f}", f"{one / alone - 1:.1%}"])
    header = ["", "this process", "one worker", "two workers", "speed-up", "overhead"]
    print(table(header, lines))


def questions(features: sc.FeatureDictionary) -> dict[str, Callable[[int], Any]]:
    """What is asked of a store, each by a number that makes it another feature, or another word."""
    sql = "SELECT text FROM tokens WHERE text SIMILAR TO '[A-Za-z]+' ORDER BY n DESC LIMIT 100"
    words = [row["text"] for row in features.database.rows(sql)]
    labels = features.labels().text

    def word(i: int) -> str:
        return words[7 * i % len(words)]

    def number(i: int) -> int:
        return 7919 * i % len(features)

    return {
        "feature(i)": lambda i: features.feature(number(i)),
        "similar(i)": lambda i: features.similar(number(i)),
        'similar(i, "pearson")': lambda i: features.similar(number(i), "pearson"),
        "top": lambda i: features.top(("importance", "density", "token_entropy")[i % 3]),
        "of_type": lambda i: features.of_type(("sparse", "dead", "dense")[i % 3]),
        "token": lambda i: features.search(token=word(i)),
        "ten tokens": lambda i: features.search(token=[word(i + j) for j in range(10)]),
        "token, any case": lambda i: features.search(token=word(i), how="any-case"),
        "token, substring": lambda i: features.search(token=word(i)[:2], how="substring"),
        "token, regex": lambda i: features.search(token=f"^ ?{word(i)[:1]}.*$", how="regex"),
        "logit": lambda i: features.search(logit=word(i)),
        "label": lambda i: features.search(label=labels[7 * i % len(labels)]),
        "text": lambda i: features.search(text=f"{word(i)} "),
        "where": lambda i: features.search(where=f"density < 0.00{i % 9 + 1}", order="max"),
        "all of them": lambda i: features.search(
            token=word(i), logit=word(i + 1), text=word(i + 2), where="density < 0.5"
        ),
    }


def searches(case: Case, repeats: int) -> list[dict[str, Any]]:
    """Milliseconds of each kind of question."""
    model = sc.load_model("demo")
    corpus, sae = sc.demo_corpus(case.n_tokens, model=model), dictionary(case.n_features, "cpu")
    features = sc.FeatureDictionary.build(model, sae, corpus)
    features.label("tokens")
    rows = list[dict[str, Any]]()
    for name, ask in questions(features).items():
        ask(0)  # the file is read into memory
        spent = list[float]()
        for i in range(1, repeats + 1):
            start = time.perf_counter()
            ask(i)
            spent.append(1000 * (time.perf_counter() - start))
        rows.append({"question": name, "median_ms": median(spent), "worst_ms": max(spent)})
    return rows


def show_searches(case: Case, rows: list[dict[str, Any]]) -> None:
    """Print a table of them."""
    print(f"\nSearches among {case.n_features:,} features on {case.n_tokens:,} tokens\n")
    lines = [[r["question"], f"{r['median_ms']:.1f}", f"{r['worst_ms']:.1f}"] for r in rows]
    print(table(["question", "median ms", "worst ms"], lines))


def main() -> None:
    """Print a table of all cases, each in a process of its own, and one of searches."""
    parser = flags(__doc__, "16,384 tokens only; searches of 1,024 features", repeats=50)
    parser.add_argument(
        "--part", choices=["statistics", "searches", "workers"], help="one of the parts alone"
    )
    args = read_flags(parser)
    print(f"Bundled model, {ACTIVE} of all features active on a token; {machine(args.device)}\n")
    results: dict[str, Any] = {}
    if args.part in (None, "statistics"):
        lengths = (16_384,) if args.quick else (16_384, 1_000_000)
        results["cases"] = []
        for case in (Case(n, t) for t in lengths for n in (1024, 24_576)):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found = pool.apply(measured, (case, args.device, args.threads))
            results["cases"].append(found)
        show(results["cases"])
    if args.part in (None, "searches"):
        case = Case(1024, 4096) if args.quick else Case(24_576, 16_384)
        results["searches"] = searches(case, args.repeats)
        show_searches(case, results["searches"])
    if args.part in (None, "workers"):
        case = Case(1024, 200_000 if args.quick else 1_000_000)
        results["workers"] = shared(case)
        show_shared(case, results["workers"])
    write_json(args.json, results, args.device)


def show(rows: list[dict[str, Any]]) -> None:
    """Print a table of what `measured` gives."""
    print(
        table(
            ["features", "tokens", "floor", "extract", "statistics", "relations",
             "writing", "tokens/s", "peak MB", "store MB",
             "over floor", "times as fast"],
            [
                [
                    f"{r['features']:,}", f"{r['tokens']:,}", f"{r['floor']:.1f} s",
                    f"{r['extract']:.1f} s", f"{r['statistics']:.1f} s",
                    f"{r['relations']:.1f} s", f"{r['writing']:.1f} s",
                    f"{r['tokens_a_second']:,.0f}", f"{r['peak_mb']:,.0f}",
                    f"{r['store_mb']:,.0f}", f"{r['over_floor']:.2f}",
                    f"{r['times_as_fast']:,.0f}",
                ]
                for r in rows
            ],
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
