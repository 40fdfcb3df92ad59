"""Bytes that `connections` and its kin take at their peak.

A prompt is run once; a target's gradient, or an upstream feature that is patched, takes a copy of
it. Where all prompts fit, copies fill what is left.
"""

from __future__ import annotations

from dataclasses import dataclass

from sae_circuits.costs.memory import FEATURES, LEAST, LOOSE, PROCESS, Need
from sae_circuits.costs.shape import Shape

LISTS = {"cpu": 48 << 20, "other": 1536 << 20}  # that products of pairs are sorted in
HELD = 3  # copies of each upstream feature's change, which stay for all of a batch
COPIED = 1.5  # layers while they are computed: a copy of a prompt holds what stood there too
AGAIN = 2.5  # patched copies run the model time and again, and not all that is freed is used again
ENCODED = 4  # copies of an activation while it is made


@dataclass(frozen=True, slots=True)
class Joined:
    """What is connected, in sizes.

    Args:
        features: of each upstream dictionary, and of the target's, last.
        widths: of what stands where each of these writes.
        tables: numbers of directions that are made: axes of heads and MLPs, and what features of
            heads write to the stream.
        method: of `connections`.
        in_lists: whether pairs are multiplied without a gradient.
        other: whether features are set to what they are in another run.
    """

    features: tuple[int, ...]
    widths: tuple[int, ...]
    tables: int
    method: str
    in_lists: bool
    other: bool


def connections_need(
    shape: Shape, pos: int, joined: Joined, *, device: str = "cpu", prompts: int = 0
) -> Need:
    """Of `connections`, `pair_connections` and `head_connections`.

    Args:
        pos: tokens of the longest prompt.
        prompts: that are all held, so that the examples of a batch are copies of them; 0 for as
            many prompts as copies.
    """
    layers = shape.architecture.n_layers if joined.method == "total" else 1
    fixed = PROCESS + layers * shape.copied + shape.sum_size * joined.tables
    fixed += LISTS.get(device, LISTS["other"]) if joined.in_lists else 0
    held, kept = _prompt(shape, pos, joined)
    added, loose = _copy(shape, pos, joined)
    if prompts:
        fixed += int(prompts * (held + LOOSE.get(device, LOOSE["other"]) * kept))
        held = kept = 0
    least = LEAST
    if joined.method == "patching":
        least = max(least, ENCODED * pos * joined.features[-1] * shape.sum_size)
    return Need(fixed, held + added, kept + loose, least, spaces=2)


def _prompt(shape: Shape, pos: int, joined: Joined) -> tuple[int, int]:
    """A prompt's bytes, and those of them that are freed in many pieces."""
    *upstream, target = joined.features
    token = (3 + 2 * joined.other) * (shape.writes + shape.streams) * shape.itemsize
    numbers = FEATURES * (max(upstream) + target) + HELD * sum(upstream)
    graph = shape.busy(pos)
    if joined.method == "total":
        numbers += 2 * sum(joined.widths)
        graph += shape.kept(pos)
    return pos * (token + shape.sum_size * numbers + graph), pos * graph


def _copy(shape: Shape, pos: int, joined: Joined) -> tuple[int, int]:
    """The same of a copy."""
    if joined.in_lists:
        return 0, 0
    widest = max(joined.widths)
    numbers = 6 * widest
    if joined.method == "total":
        numbers = 2 * (sum(joined.widths) + widest)
    bytes_ = pos * (int(COPIED * shape.busy(pos)) + shape.sum_size * numbers)
    if joined.method == "patching":
        bytes_ = int(AGAIN * bytes_)
    return bytes_, bytes_
