"""The tables of a store by loops over a dense array: slow, and independent of the library.

`dense` is [token, feature], the activations on all tokens; `counted` says which tokens count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from reference_statistics import slow_histogram, slow_statistics

Row = dict[str, Any]


def run_by_prompt(model: Any, sae: Any, hook: str, prompts: Sequence[Sequence[int]]):
    """Activations [token, feature] and norms of what the SAE reads, every prompt by itself."""
    rows, norms = [], []
    for prompt in prompts:
        _, kept = model.run_with_cache(torch.tensor([list(prompt)]), names_filter=hook)
        norms += kept[hook][0].norm(dim=1).tolist()
        rows.append(sae.encode(kept[hook])[0].detach())
    return torch.cat(rows).float().numpy(), norms


@dataclass(frozen=True)
class Told:
    """What is known of features, token by token."""

    prompts: Sequence[Sequence[int]]
    texts: Sequence[str]
    dense: np.ndarray
    counted: Sequence[bool]
    directions: np.ndarray | None = None  # [feature, d_out]
    logits: np.ndarray | None = None  # [feature, vocab], not centred

    def __post_init__(self) -> None:
        assert len(self.dense) == len(self.counted) == sum(map(len, self.prompts))

    # -- by token --------------------------------------------------------------------------------

    @property
    def n_features(self) -> int:
        return self.dense.shape[1]

    def tokens(self) -> list[tuple[int, int, int, int]]:
        """Place, prompt, position and id of every token."""
        each = [(p, i, t) for p, prompt in enumerate(self.prompts) for i, t in enumerate(prompt)]
        return [(place, *rest) for place, rest in enumerate(each)]

    def values(self, f: int) -> list[float]:
        """On all counted tokens."""
        return [float(v) for v, c in zip(self.dense[:, f], self.counted, strict=True) if c]

    def active(self, f: int) -> list[tuple[int, int, int, int]]:
        return [t for t in self.tokens() if self.counted[t[0]] and self.dense[t[0], f] != 0]

    def ids(self) -> list[int]:
        """Of the counted tokens."""
        return [t for place, _, _, t in self.tokens() if self.counted[place]]

    # -- tables ----------------------------------------------------------------------------------

    def features(self) -> Iterator[Row]:
        for f in range(self.n_features):
            found = {"feature": f, **slow_statistics(self.values(f))}
            found["token_entropy"] = self.entropy(f)
            if self.directions is not None:
                norm = math.sqrt(math.fsum(float(w) ** 2 for w in self.directions[f]))
                size = math.fsum(abs(v) for v in self.values(f)) / len(self.values(f))
                found |= {"decoder_norm": norm, "importance": norm * size}
            if self.logits is not None:
                found |= dict(
                    zip(("logit_std", "logit_skew", "logit_kurtosis"), self.moments(f), strict=True)
                )
            yield found

    def entropy(self, f: int) -> float:
        ids = [t for *_, t in self.active(f)]
        shares = [ids.count(t) / len(ids) for t in set(ids)]
        return -math.fsum(p * math.log2(p) for p in shares) if ids else math.nan

    def effects(self, f: int) -> list[float]:
        """On the logits, centred over the vocabulary."""
        assert self.logits is not None
        raw = [float(x) for x in self.logits[f]]
        return [x - math.fsum(raw) / len(raw) for x in raw]

    def moments(self, f: int) -> tuple[float, float, float]:
        x = self.effects(f)
        std = math.sqrt(math.fsum(v**2 for v in x) / len(x))
        if max(x) == min(x):
            return math.nan, math.nan, math.nan
        return (
            std,
            math.fsum(v**3 for v in x) / len(x) / std**3,
            math.fsum(v**4 for v in x) / len(x) / std**4,
        )

    def distributions(self, bins: int, intervals: int, groups: int, logits: int) -> Iterator[Row]:
        for f in range(self.n_features):
            values = [float(self.dense[place, f]) for place, *_ in self.active(f)]
            if values:
                low, high = min(values), max(values)
                for kind, a, b, n, closed in (
                    ("histogram", low, high, bins, "left"),
                    ("interval", min(low, 0), max(high, 0), intervals, "right"),
                ):
                    edges = [a + (b - a) * i / n for i in range(n)] + [b]
                    counts = slow_histogram(values, edges, closed)
                    yield {"feature": f, "kind": kind, "edges": edges, "counts": counts}
                ranked, ends = (
                    sorted(values),
                    [len(values) * i // groups for i in range(groups + 1)],
                )
                edges = [ranked[max(0, end - 1)] for end in ends]
                counts = [b - a for a, b in pairwise(ends)]
                yield {"feature": f, "kind": "quantile", "edges": edges, "counts": counts}
            if self.logits is not None and max(self.effects(f)) > min(self.effects(f)):
                x = self.effects(f)
                edges = [min(x) + (max(x) - min(x)) * i / logits for i in range(logits)] + [max(x)]
                counts = [0] * logits
                for v in x:
                    inside = [i for i in range(logits) if edges[i] <= v]
                    counts[inside[-1]] += 1
                yield {"feature": f, "kind": "logit", "edges": edges, "counts": counts}

    def window(self, place: int, before: int, after: int) -> tuple[int, list[int]]:
        """The place where it begins, and its tokens."""
        _, p, i, _ = self.tokens()[place]
        first, stop = max(0, i - before), min(len(self.prompts[p]), i + after + 1)
        return place - (i - first), list(self.prompts[p][first:stop])

    def example(self, f: int, place: int, before: int, after: int) -> Row:
        _, prompt, position, _ = self.tokens()[place]
        first, tokens = self.window(place, before, after)

        def same(other: int) -> bool:
            start, ids = self.window(other, before, after)
            return ids == tokens and other - start == place - first

        return {
            "feature": f, "prompt": prompt, "position": position,
            "activation": float(self.dense[place, f]),
            "times": sum(same(other) for other, *_ in self.active(f)),
            "first": position - (place - first), "tokens": tokens,
            "activations": [
                float(self.dense[i, f]) if self.counted[i] else 0.0
                for i in range(first, first + len(tokens))
            ],
            "text": "".join(self.texts[t] for t in tokens),
        }  # fmt: skip

    def top(self, n: int, before: int, after: int) -> Iterator[Row]:
        """The largest, one after the other, but for those that overlap or repeat one before."""
        for f in range(self.n_features):
            kept: list[tuple[int, int, int, list[int]]] = []
            ranked = sorted((-float(self.dense[place, f]), place) for place, *_ in self.active(f))
            for _, place in ranked:
                first, tokens = self.window(place, before, after)
                stop = first + len(tokens)
                clash = any(
                    (first < b and a < stop) or (tokens == ids and place - first == at - a)
                    for at, a, b, ids in kept
                )
                if not clash and len(kept) < n:
                    yield {
                        "kind": "top", "group": 0, "rank": len(kept),
                        **self.example(f, place, before, after),
                    }  # fmt: skip
                    kept.append((place, first, stop, tokens))

    def vocabulary(self, special: Sequence[int]) -> Iterator[Row]:
        for t, text in enumerate(self.texts):
            yield {"token": t, "text": text, "special": t in special, "n": self.ids().count(t)}

    def feature_tokens(self, k: int) -> Iterator[Row]:
        every = self.ids()
        for f in range(self.n_features):
            active = self.active(f)
            ids = [t for *_, t in active]
            ranked = sorted(set(ids), key=lambda t: (-ids.count(t), t))
            for rank, t in enumerate(ranked[:k], 1):
                n, share = ids.count(t), ids.count(t) / len(ids)
                total = math.fsum(float(self.dense[place, f]) for place, *_, i in active if i == t)
                yield {
                    "feature": f, "rank": rank, "token": t, "n": n, "share": share,
                    "recall": n / every.count(t), "mean": total / n,
                    "lift": share / (every.count(t) / len(every)),
                }  # fmt: skip

    def positions(self) -> Iterator[Row]:
        counted = [i for place, _, i, _ in self.tokens() if self.counted[place]]
        for f in range(self.n_features):
            at = [i for _, _, i, _ in self.active(f)]
            for i in sorted(set(at)):
                share = at.count(i) / counted.count(i)
                yield {"feature": f, "position": i, "n": at.count(i), "share": share}

    def logit_tokens(self, k: int) -> Iterator[Row]:
        for f in range(self.n_features):
            x = self.effects(f)
            if max(x) == min(x):
                continue
            for kind, sign in (("top", -1), ("bottom", 1)):
                ranked = sorted(range(len(x)), key=lambda t: (sign * x[t], t))
                for rank, t in enumerate(ranked[:k], 1):
                    yield {"feature": f, "kind": kind, "rank": rank, "token": t, "effect": x[t]}

    def neurons(self, k: int) -> Iterator[Row]:
        assert self.directions is not None
        for f, row in enumerate(self.directions.tolist()):
            total = math.fsum(map(abs, row))
            ranked = sorted(range(len(row)), key=lambda i: (-abs(row[i]), i))
            for rank, i in enumerate(ranked[:k] if total else [], 1):
                share = abs(row[i]) / total
                yield {"feature": f, "rank": rank, "neuron": i, "value": row[i], "share": share}

    def heads(self, n: int) -> Iterator[Row]:
        assert self.directions is not None
        for f, row in enumerate(self.directions.tolist()):
            parts = [row[i : i + len(row) // n] for i in range(0, len(row), len(row) // n)]
            norms = [math.sqrt(math.fsum(x * x for x in part)) for part in parts]
            for h, norm in enumerate(norms if any(norms) else []):
                yield {"feature": f, "head": h, "share": norm / math.fsum(norms)}

    def pair(self, measure: str, f: int, g: int) -> float | None:
        """How near two features are; None where that is undefined."""
        if measure == "decoder":
            assert self.directions is not None
            return _cosine(self.directions[f].tolist(), self.directions[g].tolist())
        a, b = self.values(f), self.values(g)
        if not any(a) or not any(b):
            return None
        if measure == "jaccard":
            both = sum(x != 0 and y != 0 for x, y in zip(a, b, strict=True))
            return both / sum(x != 0 or y != 0 for x, y in zip(a, b, strict=True))
        if measure == "pearson":
            if len(set(a)) == 1 or len(set(b)) == 1:
                return None
            a = [x - math.fsum(a) / len(a) for x in a]
            b = [x - math.fsum(b) / len(b) for x in b]
        return _cosine(a, b)

    def neighbours(self, measure: str, f: int) -> dict[int, float]:
        """Of each other feature that has one, the value."""
        found = {g: self.pair(measure, f, g) for g in range(self.n_features) if g != f}
        return {g: value for g, value in found.items() if value is not None}


def _cosine(a: Sequence[float], b: Sequence[float]) -> float | None:
    lengths = [math.sqrt(math.fsum(x * x for x in v)) for v in (a, b)]
    if not all(lengths):
        return None
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / (lengths[0] * lengths[1])
