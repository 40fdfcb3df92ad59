"""Statistics of features by loops over tokens: slow, and independent of the library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any


def slow_statistics(values: Sequence[float]) -> dict[str, Any]:
    """Numbers about one feature from its activations on all counted tokens."""
    active = [v for v in values if v != 0]
    n, N = len(active), len(values)

    def mean(some: Sequence[float]) -> float:
        return math.fsum(some) / len(some) if some else math.nan

    def std(some: Sequence[float]) -> float:
        return math.sqrt(mean([(v - mean(some)) ** 2 for v in some])) if some else math.nan

    density = n / N
    kinds = [(0, "dead"), (1e-4, "ultra-sparse"), (1e-2, "sparse"), (1e-1, "moderate")]
    if density == 0:
        kind = "dead"
    else:
        kind = next((name for limit, name in kinds[1:] if density < limit), "dense")
    return {
        "n_active": n, "density": density, "type": kind,
        "mean": mean(values), "std": std(values), "max": max(values), "min": min(values),
        "mean_active": mean(active), "std_active": std(active),
        "max_active": max(active, default=math.nan), "min_active": min(active, default=math.nan),
    }  # fmt: skip


def slow_histogram(values: Sequence[float], edges: Sequence[float], closed: str) -> list[int]:
    """How many active values lie between edges; `closed` says to which side an edge belongs."""
    counts = [0] * (len(edges) - 1)
    for v in values:
        if v == 0:
            continue
        for i, (low, high) in enumerate(pairwise(edges)):
            first, last = i == 0, i == len(counts) - 1
            if closed == "left":
                inside = low <= v and (v < high or (last and v == high))
            else:
                inside = v <= high and (v > low or (first and v == low))
            if inside:
                counts[i] += 1
                break
    return counts
