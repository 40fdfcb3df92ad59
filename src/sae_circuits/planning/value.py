"""What a dry run finds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sae_circuits.sizes import said

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the work.

    Args:
        name: what is done.
        flops: floating-point operations of matrix products.
        moved: bytes read and written, an estimate.
        batch_size: examples at a time.
        peak: bytes beside the weights at the peak.
        scores: of these, bytes of scores of edges.
        chunk: of these, bytes of a work space.
        seconds: expected.
        fits: whether the peak is within the budget.
        at_most: whether operations and seconds are a bound, as of a search that may end sooner.
    """

    name: str
    flops: float
    moved: float
    batch_size: int
    peak: int
    scores: int
    chunk: int
    seconds: float
    fits: bool
    at_most: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What a call costs, counted before anything runs.

    Args:
        model: whose shape.
        examples: clean prompts, with as many corrupt ones.
        tokens: of each.
        dtype: of the weights.
        device: where it would run.
        nodes: of the graph, that write.
        edges: of the graph.
        weights: bytes of the model's.
        budget: bytes that may be used beside the weights.
        result: bytes of the scores that are returned.
        flops_per_second: the rate of products.
        bytes_per_second: the rate of moves.
        stages: the scores, and the circuits that are run after.
    """

    model: str
    examples: int
    tokens: int
    dtype: str
    device: str
    nodes: int
    edges: int
    weights: int
    budget: int
    result: int
    flops_per_second: float
    bytes_per_second: float
    stages: tuple[Stage, ...]

    @property
    def flops(self) -> float:
        """Floating-point operations of all stages."""
        return sum(stage.flops for stage in self.stages)

    @property
    def seconds(self) -> float:
        """Expected, of all stages."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def peak(self) -> int:
        """Bytes beside the weights at the peak of the largest stage."""
        return max(stage.peak for stage in self.stages)

    @property
    def fits(self) -> bool:
        """Whether every stage fits the budget."""
        return all(stage.fits for stage in self.stages)

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each stage."""
        from sae_circuits.graph.tables import rows_table

        return rows_table([asdict(stage) for stage in self.stages])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        whole = {"flops": self.flops, "seconds": self.seconds, "peak": self.peak}
        return {"version": 1, **asdict(self), **whole, "fits": self.fits}

    def __repr__(self) -> str:
        names = ", ".join(stage.name + " at most" * stage.at_most for stage in self.stages)
        return (
            f"Plan({self.model}, {names}: {self.flops:.3g} operations, {said(self.peak)} beside "
            f"{said(self.weights)} of weights, {self.seconds:.3g} s; "
            f"{'fits' if self.fits else 'does not fit'} {said(self.budget)})"
        )
