"""Bytes that a call takes at its peak, beside the model's weights, and what a budget allows.

    peak = fixed + spaces * chunk + size * (each + loose * graph)

for `size` examples at a time and work spaces of `chunk` bytes. All are upper estimates: tests
compare them with measured peaks. A graph is freed in many pieces, of which a processor's allocator
keeps some that it cannot use again: `loose`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sae_circuits.costs.passes import Passes
from sae_circuits.costs.shape import Shape
from sae_circuits.errors import OptionError
from sae_circuits.graph import TensorGraph
from sae_circuits.sizes import said

PROCESS = 24 << 20  # what any call takes: modules that are loaded, small tensors
SPACE = {"cpu": 160 << 20, "other": 1280 << 20}  # that products are fastest in
LOOSE = {"cpu": 0.9, "other": 0.1}  # of a graph's bytes, what the allocator keeps beside them
SHARE = 8  # of a budget, one part of so many goes to work spaces at most
DEFAULT = {"cpu": 1 << 30, "other": 4 << 30}
"""The budget where none is given."""
LEAST = 4 << 20  # bytes of a work space, below which products are slow
MATRICES = 5  # float64 copies of all scores: of a batch, the sum, the mask and what is returned
LOGITS = 8  # copies of an example's logits: clean ones, the metric's, and their gradients
FEATURES = 6  # copies of a writing feature's activation: both runs, the change, an encoder's
READING = 5  # copies of the gradient at a reading feature, and one for each point


Kind = Literal["edges", "nodes", "across", "pairs"]
"""What scores are of: edges; writers, in one column; edges between every two spans; or pairs of
features, which are kept by their non-zeros."""


@dataclass(frozen=True, slots=True)
class Batching:
    """How a call is cut into pieces.

    Args:
        size: examples at a time.
        chunk: bytes of the work spaces of products.
    """

    size: int
    chunk: int


@dataclass(frozen=True, slots=True)
class Need:
    """What a call takes.

    Args:
        fixed: bytes, whatever the batch.
        each: bytes for each example of a batch.
        graph: of these, bytes that are freed in many pieces.
        least: bytes of a work space without which it does not run.
        most: bytes of one that it can use.
        spaces: how many of these are in use.
        scores: of the fixed bytes, those of scores.
    """

    fixed: int
    each: int
    graph: int = 0
    least: int = 0
    most: int = 1 << 40
    spaces: float = 1
    scores: int = 0

    def at(self, how: Batching, device: str = "cpu") -> int:
        """Bytes at the peak, on a type of device."""
        space = max(self.least, min(how.chunk, self.most))
        return self.fixed + int(self.spaces * space) + how.size * self.of_example(device)

    def of_example(self, device: str = "cpu") -> int:
        """Bytes for each example."""
        return self.each + int(LOOSE.get(device, LOOSE["other"]) * self.graph)

    def within(
        self, budget: int | None, most: int, *, device: str = "cpu", what: str = "this call"
    ) -> Batching:
        """As many examples at a time as a budget allows.

        Args:
            budget: bytes; without one `DEFAULT`, or what one example takes where that is more.
            most: examples, at most.
            what: for the message.

        Raises:
            OptionError: not even one example fits, with what it takes.
        """
        space = SPACE.get(device, SPACE["other"])
        given = DEFAULT.get(device, DEFAULT["other"]) if budget is None else budget
        chunk = max(self.least, min(space, self.most, int(given / (SHARE * self.spaces))))
        size = self._size(given, chunk, device)
        if size < 1:  # then one example, and what it leaves
            left = given - self.fixed - self.of_example(device)
            chunk = max(self.least, int(left / self.spaces))
            size = self._size(given, chunk, device)
        if size < 1 and budget is not None:
            raise OptionError(self._too_little(budget, device, what))
        return Batching(max(1, min(most, size)), chunk)

    def _size(self, budget: int, chunk: int, device: str) -> int:
        return (budget - self.at(Batching(0, chunk))) // max(1, self.of_example(device))

    def _too_little(self, budget: int, device: str, what: str) -> str:
        whole = self.at(Batching(1, self.least), device)
        if self.scores > budget:
            return (
                f"memory is {said(budget)}, and the scores of all edges alone take "
                f"{said(self.scores)}: give more, restrict the graph (graph.restrict), or score "
                "pairs of features that are active together (attribute_pairs)"
            )
        # Rounded up, so that what is advised is enough.
        advised = f"{-(-whole // (1 << 20)):,}MiB".replace(",", "")
        return (
            f"memory is {said(budget)}, and {what} takes about {said(whole)}: give "
            f"memory='{advised}' or more, or shorter prompts"
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """What scores are asked for.

    Args:
        kind: what they are of.
        spans: that have scores of their own.
        keep: "example" or "batch", where the scores of each are kept.
        n: examples in all.
    """

    kind: Kind = "edges"
    spans: int = 1
    keep: str | None = None
    n: int = 1


def attribution_need(
    shape: Shape, graph: TensorGraph, pos: int, passes: Passes, asked: Asked, *, mean: bool = False
) -> Need:
    """Of scores of edges or nodes.

    Args:
        pos: tokens of the longest prompt.
        mean: absent edges carry means over the task.
    """
    kind, spans, n = asked.kind, asked.spans, asked.n
    matrix = 8 * graph.n_src * (1 if kind == "nodes" else graph.n_dest)
    groups = spans * spans if kind == "across" else spans
    scores = 0 if kind == "pairs" else MATRICES * matrix * groups
    fixed = PROCESS + scores + _feature_tables(shape, graph, kind)
    fixed += shape.copied * int(shape.architecture.n_layers * passes.graphs or 1)
    fixed += _means(shape, graph, pos) if mean else 0
    token = int(passes.graphs * shape.kept(pos)) + shape.busy(pos)
    token += passes.writes * shape.writes * shape.itemsize
    token += _gradients(shape, passes, kind) if passes.gradient else 0
    token += int(passes.vectors * graph.n_src * shape.width * shape.sum_size)
    writing, reading = _features(graph, kind)
    token += shape.sum_size * (FEATURES * writing + (READING + passes.points) * reading)
    arch = shape.architecture
    patterns = passes.patterns * arch.n_layers * arch.n_heads * pos * pos
    each = pos * token + int(patterns * shape.sum_size) + logits_of(shape)
    each += 4 * matrix if asked.keep == "example" else 0
    fixed += 3 * n * graph.n_edges * shape.sum_size if asked.keep else 0
    if passes.whole:
        each *= n
    wide = sum(len(b) for b in (*graph.writers, *graph.readers) if not b.is_narrow)
    row = shape.width * shape.sum_size * (2 * wide if kind != "nodes" else 0)
    graphs = pos * (int(min(1, passes.graphs) * shape.kept(pos)) + shape.busy(pos))
    graphs *= n if passes.whole else 1
    row = max(row, LEAST)
    return Need(fixed, each, graphs, row, passes.space, passes.spaces, scores)


def circuits_need(
    shape: Shape, graph: TensorGraph, pos: int, *, n: int = 0, mean: bool = False
) -> Need:
    """Of circuits that are run: `evaluate`, `curve`, `ablate` and `minimality`.

    Args:
        n: runs of all circuits on all examples, of which numbers are kept.
        mean: as above.
    """
    writers = sum(len(block) for block in graph.writers if not block.is_narrow)
    ports = shape.heads + 2 * shape.keys
    numbers = 2 * shape.writes + shape.streams + shape.architecture.n_layers * ports
    numbers += writers * shape.width + 4 * ports
    writing, reading = _features(graph)
    token = numbers * shape.itemsize + shape.busy(pos)
    token += shape.sum_size * FEATURES * (writing + reading)
    fixed = PROCESS + 128 * n + shape.copied + _feature_tables(shape, graph, "pairs")
    fixed += _means(shape, graph, pos) if mean else 0
    each = pos * token + logits_of(shape)
    # Three quarters come and go with each circuit, of which the allocator keeps some.
    return Need(fixed, each, 3 * each // 4, 8 << 20, 64 << 20, 2)


def run_need(shape: Shape, pos: int, n_features: int = 0, *, gradient: bool = False) -> Need:
    """Of a run of the model and what its features make of it.

    Args:
        n_features: one number a token, in several copies.
        gradient: a pass back goes through it.
    """
    token = shape.busy(pos) + 3 * (shape.writes + shape.streams) * shape.itemsize
    token += shape.kept(pos) if gradient else 0
    token += shape.sum_size * FEATURES * n_features
    layers = shape.architecture.n_layers if gradient else 1
    graph = pos * (shape.kept(pos) + shape.busy(pos)) if gradient else 0
    return Need(PROCESS + layers * shape.copied, pos * token + logits_of(shape), graph)


def logits_of(shape: Shape) -> int:
    """Bytes of an example's logits, in all the copies of them."""
    return LOGITS * shape.architecture.d_vocab * shape.sum_size


def _gradients(shape: Shape, passes: Passes, kind: Kind) -> int:
    """Of a token: what the readers see, as it is made and summed up over points."""
    held = 1 + min(2, passes.points)
    if kind == "nodes":  # and the vectors of the heads of a layer
        wide = held * shape.streams + 2 * shape.architecture.n_heads * shape.width
        return shape.sum_size * wide
    return shape.sum_size * (held * shape.reads + (passes.points + 1) * shape.streams)


def _features(graph: TensorGraph, kind: Kind = "edges") -> tuple[int, int]:
    """How many features or neurons write, and how many read; of one dictionary, if kept sparse."""
    writing = [len(block) for block in graph.writers if block.is_narrow]
    reading = [len(block) for block in graph.readers if block.is_narrow]
    together = sum if kind != "pairs" else lambda sizes: max(sizes, default=0)
    return together(writing), together(reading)


def _feature_tables(shape: Shape, graph: TensorGraph, kind: Kind) -> int:
    """Directions of the chosen features, and tables of two dictionaries' directions."""
    writers = [len(block) for block in graph.writers if block.is_narrow]
    readers = [len(block) for block in graph.readers if block.is_narrow]
    directions = 2 * shape.width * (max(writers, default=0) + max(readers, default=0))
    ends = shape.architecture.n_heads * shape.architecture.d_head
    pairs = max(writers, default=0) * max([ends, *readers])
    pairs = max(pairs, ends * max(readers, default=0)) if writers or readers else 0
    return shape.sum_size * (directions + (3 * pairs if kind == "edges" else 0))


def _means(shape: Shape, graph: TensorGraph, pos: int) -> int:
    """Sums of what the writers write at each position, in float64."""
    return 4 * 8 * pos * (shape.writes + _features(graph)[0])
