"""One and two workers beside one process, and what 64 workers cost in scheduling.

    python benchmarks/workers.py [--part schedule] [--quick] [--json FILE] [--device cuda]

`speed`: attribution on a random model, in shards of about ten seconds (of one with --quick): in
this process, on one Ray worker and on two. Overhead: what one worker takes above this process, over
what this process takes, once the worker has the model. Starting cluster and workers is shown apart.

`schedule`: shards that sleep, whose results are as large as sums of scores, on 64 workers (8 with
--quick) of this machine. Sleeping takes no processor, so that what is above the time of the longest
worker's sleep is scheduling, sending and merging. The driver's own share is measured with shards
that do nothing, and says how many workers it can serve.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from measure import flags, machine, read_flags, table, write_json

import sae_circuits as sc
from sae_circuits.shards import Job, Means, Partial, Shard, run_shards
from shapes import gpt2_shaped, random_task

SUMS = {"GPT-2 small": 158 * 457, "8B": 1057 * 1569}  # writers by readers, float64


@dataclass(frozen=True)
class Sleep(Job):
    """Shards that take so many seconds of no processor, and give a sum for each edge."""

    seconds: float
    sums: int = SUMS["GPT-2 small"]
    model: Any = None

    name = "sleep"
    unit = "shard"

    @property
    def said(self) -> dict[str, Any]:
        """What decides the sums."""
        return {"seconds": self.seconds, "sums": self.sums}

    def describe(self, shard: Shard) -> str:
        """Its number."""
        return f"shard {shard.index}"

    def open(self) -> Callable[[Shard], Partial]:
        """Sleep, and give sums."""

        def work(shard: Shard) -> Partial:
            time.sleep(self.seconds)
            return {"total": torch.full((self.sums,), float(shard.index), dtype=torch.float64)}

        return work


def merged(job: Sleep, n: int, workers: Any) -> float:
    """Seconds for n shards and the sum of what they give, which is checked."""
    start, total = time.perf_counter(), torch.zeros(job.sums, dtype=torch.float64)
    for partial in run_shards(job, [Shard(i, i, i + 1) for i in range(n)], Means(workers)):
        total += partial["total"]
    assert float(total[0]) == float(total[-1]) == n * (n - 1) / 2  # each once
    return time.perf_counter() - start


def schedule(quick: bool) -> list[dict[str, Any]]:
    """What scheduling costs on many workers."""
    n, rows = (8 if quick else 64), []
    start = time.perf_counter()
    with sc.workers("local", n, threads=1) as many:
        merged(Sleep(1.0), 4 * n, many)  # all are there
        ready = time.perf_counter() - start
        for name, sums in SUMS.items():
            shards = 50 if quick else 500
            each = merged(Sleep(0.0, sums), shards, many) / shards
            for seconds in (1.0,) if quick else (1.0, 10.0):
                rounds = 2 if quick else 4
                took = merged(Sleep(seconds, sums), rounds * n, many)
                rows.append(
                    {
                        "sums_of": name,
                        "megabytes": 8e-6 * sums,
                        "workers": n,
                        "shards": rounds * n,
                        "seconds_each": seconds,
                        "seconds": took,
                        "overhead": took / (rounds * seconds) - 1,
                        "driver_seconds_per_shard": each,
                        "workers_at_most": seconds / each,
                        "ready_seconds": ready,
                    }
                )
    return rows


def speed(quick: bool, seconds: float, device: str, repeats: int) -> list[dict[str, Any]]:
    """This process, one worker, two workers."""
    sizes = {"n_layers": 2 if quick else 4, "d_vocab": 5000}
    model = gpt2_shaped(**sizes, device=device)
    gpus = 0.0 if device == "cpu" else min(1.0, torch.cuda.device_count() / 2)
    graph = sc.TensorGraph.from_model(model)

    def run(task: sc.Task, size: int, workers: Any = None) -> tuple[float, torch.Tensor]:
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            found = sc.attribute(
                model, graph, task, method="eap-ig", steps=2, batch_size=size, workers=workers
            )
            times.append(time.perf_counter() - start)
        return min(times), found.values

    small = random_task(model, 4, 32)
    run(small, 4)
    size = max(1, round(4 * seconds / run(small, 4)[0]))  # examples that take so long
    task = random_task(model, 8 * size, 32)
    few, rows = task[: 2 * size], []
    alone, whole = run(task, size)
    rows.append({"how": "this process", "seconds": alone, "start_seconds": 0.0})
    for n in (1, 2):
        start = time.perf_counter()
        with sc.workers("local", n, threads=1, gpus_per_worker=gpus) as some:
            run(few[:2], 1, some)  # the model is there
            started = time.perf_counter() - start
            took, found = run(task, size, some)
        assert torch.equal(found, whole)
        rows.append({"how": f"{n} on Ray", "seconds": took, "start_seconds": started})
    for row in rows:
        row |= {"shards": 8, "shard_seconds": alone / 8, "over_one_process": row["seconds"] / alone}
        row["speed_up"] = rows[min(1, len(rows) - 1)]["seconds"] / row["seconds"]
    return rows


def main() -> None:
    parser = flags(__doc__, "shards of a second, 8 workers", repeats=1)
    parser.add_argument("--part", action="append", choices=("speed", "schedule"))
    args = read_flags(parser)
    parts, found = args.part or ["speed", "schedule"], {}
    if "speed" in parts:
        rows = found["speed"] = speed(
            args.quick, 1.0 if args.quick else 10.0, args.device, args.repeats
        )
        print(f"Attribution, 8 shards of {rows[0]['shard_seconds']:.1f} s; {machine()}\n")
        print(
            table(
                ["how", "seconds", "over one process", "speed-up over one worker", "start, s"],
                [
                    [
                        row["how"],
                        f"{row['seconds']:.1f}",
                        f"{row['over_one_process']:.3f}",
                        f"{row['speed_up']:.2f}",
                        f"{row['start_seconds']:.1f}",
                    ]
                    for row in rows
                ],
            )
        )
    if "schedule" in parts:
        rows = found["schedule"] = schedule(args.quick)
        print(f"\nShards that sleep, {rows[0]['workers']} workers on this machine\n")
        print(
            table(
                [
                    "shards",
                    "each, s",
                    "seconds",
                    "overhead",
                    "driver, ms a shard",
                    "workers it serves",
                ],
                [
                    [
                        row["sums_of"],
                        f"{row['megabytes']:.1f}",
                        str(row["shards"]),
                        f"{row['seconds_each']:.0f}",
                        f"{row['seconds']:.1f}",
                        f"{100 * row['overhead']:.1f}%",
                        f"{1000 * row['driver_seconds_per_shard']:.1f}",
                        f"{row['workers_at_most']:,.0f}",
                    ]
                    for row in rows
                ],
            )
        )
    write_json(args.json, found)


if __name__ == "__main__":
    main()
