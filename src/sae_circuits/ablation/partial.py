"""A circuit that loses one edge after the other, where each loss runs only what comes after it.

What writers add is kept. Where an edge goes, the part of the model that it leads to is computed
anew, and of the later parts those that see a change through edges that are left; all else stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae_circuits.ablation.changes import Changes, Narrow
from sae_circuits.ablation.plan import Plan, coupled
from sae_circuits.ablation.split import Site
from sae_circuits.ablation.sweep import Sweep


@dataclass(frozen=True, eq=False)
class Remaining:
    """The edges that are left, and what each part of the model sees of the others through them."""

    plan: Plan
    sites: tuple[Site, ...]
    reads: Bool[Tensor, "src dest"]  # the readers through which a writer sees the stream
    together: bool  # whether a site's writers hang on what all of them read

    @classmethod
    def all_of(cls, sweep: Sweep) -> Remaining:
        """Every edge of a graph."""
        graph = sweep.graph
        reads = torch.zeros(graph.n_src, graph.n_dest, dtype=torch.bool)
        for src, readers in enumerate(graph.readers_of):
            reads[src, list(readers)] = True
        edges = graph.has_edge.clone()
        plan = Plan(edges, torch.ones(graph.n_src, dtype=torch.bool), (edges,))
        return cls(plan, sweep.sites, reads, coupled(sweep.adapter, sweep.saes))

    def after(self, dest: int) -> list[Site] | None:
        """The sites that change when a reader's stream does; None where the logits do not."""
        found, edges = [], self.plan.edges
        seen = torch.zeros(edges.shape[1], dtype=torch.bool)
        seen[dest] = True
        for site in self.sites:
            changed = (self.reads[site.rows] & seen).any(1)
            if not bool(changed.any()):
                continue
            found.append(site)
            changed = torch.ones_like(changed) if self.together else changed
            seen = seen | edges[site.rows][changed].any(0)
        return found if bool(seen[-1]) else None


@dataclass(frozen=True, eq=False)
class Partial:
    """One batch of it; what it holds is what the edges that are left make of it."""

    sweep: Sweep
    changes: Changes
    before: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    narrow_before: list[Narrow] = field(default_factory=list)

    @classmethod
    def start(cls, sweep: Sweep, remaining: Remaining) -> Partial:
        """Run everything once."""
        wide = (~sweep.is_narrow).nonzero()[:, 0]
        space = sweep.start.new_empty(len(wide), *sweep.start.flatten(0, 1).shape)
        made = cls(sweep, Changes(remaining.plan, wide, space))
        for site in remaining.sites:
            made._make(site)
        return made

    def logits(self) -> Float[Tensor, "batch vocab"]:
        """The logits at the answer positions."""
        return self.sweep.adapter.logits(self.sweep.read_final(self.changes))

    def run(self, sites: Sequence[Site]) -> Float[Tensor, "batch vocab"]:
        """Compute some sites anew, and the logits."""
        self.before.clear()
        self.narrow_before[:] = self.changes.narrow
        for site in sites:
            rows = self._wide(site)
            self.before.extend((row, row.clone()) for row in rows)
            self._make(site)
        return self.logits()

    def undo(self) -> None:
        """Take back the last run."""
        for row, was in self.before:
            row.copy_(was)
        self.changes.narrow[:] = self.narrow_before

    def _make(self, site: Site) -> None:
        ids = torch.arange(site.rows.start, site.rows.stop)
        self.changes.narrow[:] = [n for n in self.changes.narrow if int(n.ids[0]) not in ids]
        self.sweep.change(site, ids, self.changes)

    def _wide(self, site: Site) -> tuple[Tensor, ...]:
        """Where the changes of a site's writers stand that are kept at the width of the stream."""
        ids = torch.arange(site.rows.start, site.rows.stop)
        ids = ids[~self.sweep.is_narrow[site.rows]]
        return (self.changes.rows(ids),) if len(ids) else ()
