"""What `connections` and `pair_connections` are asked for, checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sae_circuits.ablation.batches import batching, shape_of
from sae_circuits.attribution.sparse import ActivePlaced
from sae_circuits.cache import check_model
from sae_circuits.connectome.components import Component, components_of
from sae_circuits.connectome.work import Reference, Work, means_of
from sae_circuits.costs.connections import Joined, connections_need
from sae_circuits.costs.memory import Batching
from sae_circuits.errors import GraphError, OptionError, unknown
from sae_circuits.graph import Node, TensorGraph, depth_of, parse_node
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries import Dictionary
from sae_circuits.sizes import Memory
from sae_circuits.tasks import Task
from sae_circuits.tasks.prompts import Prompts, as_task

METHODS = ("direct", "total", "patching")
REFERENCES = ("zero", "mean", "corrupt")


def prepared(
    model: Any,
    target: str,
    chosen: Sequence[int] | None,
    saes: Sequence[Dictionary],
    prompts: Prompts,
    *,
    method: str,
    reference: Reference,
    steps: int | None,
    features: Sequence[Node | str] | None,
    components: Sequence[Node | str] | str,
    through: str | None,
    positions: Sequence[int] | None,
    prepend_bos: bool,
    batch_size: int | None,
    memory: Memory | None,
) -> tuple[Work, dict[str, TensorGraph]]:
    """The work to do, and the graph of each upstream dictionary and the target's.

    Args:
        target: the name of a dictionary, such as "m3".
        chosen: features of it that are targets; without it, all.
    """
    adapter = Adapter.of(model)
    _require(method, reference, steps, features, through, prompts)
    if components and not (isinstance(reference, tuple) or reference in REFERENCES):
        raise OptionError(
            f"reference={reference!r} is no value of a head or an MLP, which write vectors: give "
            f"{', '.join(REFERENCES)} or ('scale', a multiple)"
        )
    placed = _placed(adapter, saes)
    own = _target(placed, target, chosen)
    first = _depth(adapter, own)
    if through is not None:
        first = _depth_of_component(adapter, through, first)
    sources = [p for p in placed.values() if p is not own and _depth(adapter, p) < first]
    sources += components_of(adapter, components, first) if components else []
    if not sources:
        late = ", ".join(p.name for p in placed.values() if p is not own)
        ended = f", and {late} does not" if late else ""
        raise GraphError(
            f"nothing given writes before {_said(target, chosen)} reads"
            f"{'' if through is None else f' through {through}'}"
            f"{ended}: give dictionaries of earlier places"
        )
    sources.sort(key=lambda p: _depth(adapter, p))
    graphs = _graphs(adapter, [p for p in sources if p.name in placed], own)
    asked = None if features is None else _asked(features, [p for p in sources if p.name in placed])
    task = as_task(model, prompts, prepend_bos=prepend_bos)
    task.check_fits(context=adapter.architecture.n_ctx, vocabulary=adapter.architecture.d_vocab)
    _require_positions(positions, int(task.lengths.min()))
    check_model(adapter, task.clean)
    narrow = own if chosen is None else _narrowed(own, chosen)
    joined = _joined(adapter, [*sources, narrow], method, through, reference)
    cut = _cut(adapter, task, joined, memory, batch_size)
    if isinstance(reference, int | float):
        reference = float(reference)
    means = means_of(adapter, sources, task, cut.size) if reference == "mean" else {}
    work = Work(
        adapter, sources, narrow, task, reference, positions, steps, through, cut.size, cut.chunk,
        asked, means,
    )  # fmt: skip
    return work, graphs


def said(reference: Reference) -> str:
    """What upstream features are set to, in words."""
    if isinstance(reference, tuple):
        return f"scale {reference[1]:g}"
    return reference if isinstance(reference, str) else f"{reference:g}"


# -- how it is cut ---------------------------------------------------------------------------------


def _joined(
    adapter: Adapter,
    placed: Sequence[ActivePlaced],
    method: str,
    through: str | None,
    reference: Reference,
) -> Joined:
    """The sizes of dictionaries in their places, the target's last."""
    arch, target = adapter.architecture, placed[-1]
    features = tuple(p.dictionary.n_features for p in placed)
    tables = 0
    for p, n in zip(placed, features, strict=True):
        in_heads = p.dictionary.writes[0].kind == "z"
        tables += n * n if isinstance(p, Component) else 0
        tables += n * arch.d_model if in_heads and method == "direct" else 0
    in_lists = method == "direct" and through is None and target.is_linear
    widths = tuple(p.dictionary.W_dec.shape[1] for p in placed)
    return Joined(features, widths, tables, method, in_lists, reference == "corrupt")


def _cut(
    adapter: Adapter,
    task: Task,
    joined: Joined,
    memory: Memory | None,
    batch_size: int | None,
) -> Batching:
    """Prompts at a time, or where all are, copies of them; and bytes of a work space.

    Raises:
        OptionError: a budget that one prompt does not fit, or what is no size.
    """
    shape, pos, n = shape_of(adapter), task.clean.shape[1], len(task)
    kind = adapter.device.type
    what = f"one prompt of {pos:,} tokens"
    need = connections_need(shape, pos, joined, device=kind)
    how = batching(adapter, need, n, memory=memory, batch_size=batch_size, what=what)
    if batch_size is not None or how.size < n:
        return how
    need = connections_need(shape, pos, joined, device=kind, prompts=n)
    copies = batching(adapter, need, 1 << 20, memory=memory, what=what)
    return copies if copies.size >= n else how


def _said(target: str, chosen: Sequence[int] | None) -> str:
    return repr(target if chosen is None else f"{target}.f{chosen[0]}")


# -- options ---------------------------------------------------------------------------------------


def _require(
    method: str, reference: Any, steps: Any, features: Any, through: str | None, prompts: Any
) -> None:
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    _require_reference(reference, prompts)
    if steps is not None and (method != "total" or not isinstance(steps, int) or steps < 1):
        raise OptionError(f"steps={steps}: give 1 or more, for method='total'")
    if features is not None and method != "patching":
        raise OptionError(f"features= goes with method='patching'; {method!r} gives all at once")
    if through is not None and method != "direct":
        raise OptionError(f"through={through!r} goes with method='direct', not with {method!r}")


def _require_reference(reference: Any, prompts: Any) -> None:
    if isinstance(reference, str):
        if reference not in REFERENCES:
            raise unknown("reference", reference, REFERENCES)
        if reference == "corrupt" and not isinstance(prompts, Task):
            raise OptionError("reference='corrupt' needs corrupt prompts: give a task")
        return
    number = reference
    if isinstance(reference, tuple):
        if len(reference) != 2 or reference[0] != "scale":
            raise OptionError(f"reference={reference}: a multiple is written ('scale', 2.0)")
        number = reference[1]
    if not isinstance(number, int | float) or not abs(float(number)) < float("inf"):
        raise OptionError(
            f"reference={reference}: give a finite number, ('scale', a multiple), "
            f"{', '.join(REFERENCES)}"
        )


def _require_positions(positions: Sequence[int] | None, shortest: int) -> None:
    for position in positions or ():
        if not 0 <= position < shortest:
            raise OptionError(
                f"position {position} lies outside the shortest prompt, of {shortest} tokens"
            )


# -- places ----------------------------------------------------------------------------------------


def _placed(adapter: Adapter, saes: Sequence[Dictionary]) -> dict[str, ActivePlaced]:
    """Dictionaries in their places, by name."""
    found = {}
    for sae in saes:
        graph = TensorGraph.from_model(adapter.model, saes=[sae], through=True)
        (placed,) = ActivePlaced.all_of(adapter, graph)
        if placed.name in found:
            raise GraphError(
                f"{found[placed.name].dictionary!r} and {sae!r} stand at the same place: give one"
            )
        found[placed.name] = placed
    return found


def _graphs(
    adapter: Adapter, sources: Sequence[ActivePlaced], own: ActivePlaced
) -> dict[str, TensorGraph]:
    """The graph of each upstream dictionary and the target's."""
    return {
        p.name: TensorGraph.from_model(
            adapter.model, saes=[p.dictionary, own.dictionary], through=True
        )
        for p in sources
    }


def _target(
    placed: Mapping[str, ActivePlaced], target: str, chosen: Sequence[int] | None
) -> ActivePlaced:
    if target not in placed:
        raise GraphError(
            f"{_said(target, chosen)} is no feature of the dictionaries given "
            f"({', '.join(placed) or 'none'}): give the target's own among saes, and name it like "
            "'m3.f17'"
        )
    own = placed[target]
    n = own.dictionary.n_features
    for index in chosen or ():
        if not 0 <= index < n:
            raise GraphError(f"'{target}.f{index}': {own.dictionary!r} has features 0 to {n - 1}")
    return own


def _narrowed(own: ActivePlaced, chosen: Sequence[int]) -> ActivePlaced:
    """With some features alone, which are what they were."""
    chosen = sorted(set(chosen))
    if own.dictionary.competes:
        return replace(own, chosen=chosen)
    return replace(own, dictionary=own.dictionary.only(chosen), chosen=chosen)


def _depth(adapter: Adapter, placed: ActivePlaced) -> int:
    return depth_of(adapter.architecture, "feature", placed.layer, placed.part)


def _depth_of_component(adapter: Adapter, through: str, before: int) -> int:
    """Where a component to go through reads."""
    arch = adapter.architecture
    parts = ("a", "m") if arch.has_mlps else ("a",)
    known = {
        f"{part}{layer}": depth_of(arch, "feature", layer, part)
        for layer in range(arch.n_layers)
        for part in parts
    }
    between = [name for name, depth in known.items() if depth < before]
    if through not in between:
        raise GraphError(
            f"through={through!r} is no layer's heads or MLP that writes before the target reads; "
            f"these do: {', '.join(between) or 'none'}"
        )
    return known[through]


def _asked(features: Sequence[Node | str], sources: Sequence[ActivePlaced]) -> dict[str, list[int]]:
    """Features to patch, by dictionary."""
    sizes = {one.name: one.dictionary.n_features for one in sources}
    found: dict[str, list[int]] = {name: [] for name in sizes}
    for name in features:
        node = parse_node(name) if isinstance(name, str) else name
        own = f"{node.site}{node.layer}"
        index = node.index
        if node.kind != "feature" or own not in sizes or index is None or not index < sizes[own]:
            raise GraphError(f"{node.name!r} is no feature upstream, of {', '.join(sizes)}")
        found[own].append(index)
    return found
