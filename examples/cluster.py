"""A circuit on a cluster: the same calls, with workers.

    python examples/cluster.py [ADDRESS]

Without an address two workers of this machine do it, as they would on a cluster's many: start Ray
there with `ray start --head --port=6379` on one machine and `ray start --address=HEAD:6379` on the
others, and give HEAD:6379. Stop it when you like, and start it again: it goes on where it was.
"""

from __future__ import annotations

import sys
from pathlib import Path

import sae_circuits as sc


def main() -> None:
    where = sys.argv[1] if len(sys.argv) > 1 else "local"
    out = Path("cluster-run")
    model = sc.load_model("demo")
    task = sc.tasks.ioi(model, n=64, seed=0)
    graph = sc.TensorGraph.from_model(model)

    # Each worker loads the model once; on GPUs, add gpus_per_worker=1.
    with sc.workers(where, 2, load=lambda: sc.load_model("demo")) as two:
        how = {"batch_size": 4, "workers": two}
        scores = sc.attribute(model, graph, task, steps=5, folder=out / "scores", **how)
        circuit = sc.prune.top_n(scores, 47)
        report = sc.evaluate(model, circuit, task, folder=out / "report", **how)

    # One process gives the same scores, to the last bit.
    alone = sc.attribute(model, graph, task, steps=5, batch_size=4)
    print(f"faithfulness {report.faithfulness:.3f} of {len(circuit)} edges")
    print(f"largest difference from one process: {(scores.values - alone.values).abs().max():.0e}")


if __name__ == "__main__":
    main()
