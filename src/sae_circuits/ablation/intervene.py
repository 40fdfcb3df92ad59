"""`intervene`: change what features, heads or MLPs write, and see what the model makes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from sae_circuits.ablation.batches import default_batch_size
from sae_circuits.ablation.changed_run import Outcome, Place, changed_run
from sae_circuits.ablation.steering import Change, read_changes, read_watch
from sae_circuits.cache import check_model
from sae_circuits.errors import GraphError, NumericalError, OptionError
from sae_circuits.graph import Node, TensorGraph
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries.placed import Placed
from sae_circuits.precision import wide
from sae_circuits.progress import track
from sae_circuits.sizes import Memory
from sae_circuits.tasks import Task
from sae_circuits.tasks.prompts import Prompts, as_task

ATTENTION = ("recomputed", "frozen")


@dataclass(frozen=True, slots=True, eq=False)
class Intervened:
    """What a model says when nodes are changed, beside what it says of itself.

    Args:
        logits, clean_logits: at each prompt's answer position.
        activations, clean_activations: of the watched features by name; 0 at padding.
    """

    logits: Float[Tensor, "n vocab"]
    clean_logits: Float[Tensor, "n vocab"]
    activations: Mapping[str, Float[Tensor, "n pos"]]
    clean_activations: Mapping[str, Float[Tensor, "n pos"]]

    def __repr__(self) -> str:
        n = len(self.logits)
        watched = f", watched: {', '.join(self.activations)}" if self.activations else ""
        return f"Intervened({n} {'prompt' if n == 1 else 'prompts'}{watched})"


def intervene(
    model: Any,
    graph: TensorGraph,
    prompts: Prompts,
    changes: Mapping[Node | str, Change],
    *,
    attention: str = "recomputed",
    watch: Sequence[Node | str] = (),
    position: int | Int64[Tensor, "n"] | None = None,
    mask: Shaped[Tensor, "..."] | None = None,
    prepend_bos: bool = True,
    batch_size: int | None = None,
    memory: Memory | None = None,
) -> Intervened:
    """Change the activations of features as the model runs, and let it recompute what follows.

        x' = x + (a' - a) W_dec[f]

    where the feature writes: z for a dictionary of z, the stream for one of the stream, and else
    what the MLP or the attention adds to the stream. a is the feature's activation in this very
    run, so that changes upstream are seen by those downstream. The other features of the place and
    its error node write what they would have; all that comes later is recomputed.

    Args:
        model: a TransformerLens model of either kind; left as it was found.
        graph: with the dictionaries of the features.
        prompts: a task, whose clean prompts are run; one text or several; or token ids, [pos] or
            [n, pos].
        changes: by node, `("set", x)`, `("scale", x)` or `("add", x)`, with x in units of the
            activation, one number or a tensor [n, pos]. `"m3.f17"` is changed at all real
            positions, `"m3.f17@5"` at one. Changes of the same feature follow one another as they
            are given. Neurons, such as `"m3.n17"`, are changed alike. Heads, MLPs, the input, error
            nodes and skip terms can be scaled.
        attention: "recomputed", or "frozen" for the patterns of the unchanged run; values are
            recomputed either way.
        watch: features whose activations, after the changes, are wanted.
        position: whose logits are wanted, for all prompts or for each; without it, a task's own,
            or the last real token.
        mask: true at the real tokens, where prompts are token ids.
        prepend_bos: whether texts begin with the beginning-of-sequence token, if there is one.
        batch_size: prompts at a time.
        memory: to stay under beside the model's weights, as in `attribute`.

    Raises:
        GraphError: a node that does not write in the graph, a position outside a prompt, a graph
            of another model or without its dictionaries.
        OptionError: a change or an amount that is none, or an unknown kind of attention.
        TaskError, ContextError: prompts that the model cannot read.
        NumericalError: logits that are not finite after the change.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> graph = sc.TensorGraph.from_model(model, saes=sc.load_saes("demo"))
        >>> task = sc.tasks.ioi(model, n=4, seed=0)
        >>> done = sc.intervene(model, graph, task, {"post1.f3": ("add", 2.0)}, watch=["m2.f5"])
        >>> done
        Intervened(4 prompts, watched: m2.f5)
        >>> done.logits.shape == done.clean_logits.shape
        True
    """
    adapter = Adapter.of(model)
    _require(adapter, graph, attention)
    task = as_task(model, prompts, mask=mask, position=position, prepend_bos=prepend_bos)
    task.check_fits(context=adapter.architecture.n_ctx, vocabulary=adapter.architecture.d_vocab)
    n, width = task.clean.shape
    steps = read_changes(graph, changes, (n, width), int(task.lengths.min()))
    watched = read_watch(graph, watch)
    check_model(adapter, task.clean)
    places = Place.all_of(adapter, Placed.all_of(adapter, graph), steps, watched)
    size = batch_size or _batch_size(task, places, adapter, memory)
    found = list(_batches(adapter, task, places, size, freeze=attention == "frozen"))
    clean, changed = zip(*found, strict=True)
    return Intervened(
        torch.cat([outcome.logits for outcome in changed]).cpu(),
        torch.cat([outcome.logits for outcome in clean]).cpu(),
        {node.name: _joined(changed, node, width) for node in watched},
        {node.name: _joined(clean, node, width) for node in watched},
    )


def _require(adapter: Adapter, graph: TensorGraph, attention: str) -> None:
    """Refuse a graph of another model, and an unknown kind of attention."""
    if attention not in ATTENTION:
        raise OptionError(
            f"attention is {attention!r}: {' or '.join(map(repr, ATTENTION))} are the two ways"
        )
    if not graph.architecture.same_shape(adapter.architecture):
        raise GraphError(
            f"{graph!r} is not of this model ({adapter.architecture.model!r}): make one with "
            "TensorGraph.from_model(model, saes=...)"
        )


def _batches(
    adapter: Adapter, task: Task, places: Sequence[Place], size: int, *, freeze: bool
) -> Iterator[tuple[Outcome, Outcome]]:
    """For each batch, what is kept of the unchanged and of the changed run."""
    unchanged = [replace(place, steps=()) for place in places if place.watched]
    first, total = 0, -(-len(task) // size)
    for batch in track(task.batches(size), total=total, description="intervention"):
        examples, width = slice(first, first + len(batch)), batch.clean.shape[1]
        here = [
            replace(place, steps=tuple(step.of(examples, width) for step in place.steps))
            for place in places
        ]
        clean = changed_run(adapter, batch, unchanged, keep_patterns=freeze)
        changed = changed_run(adapter, batch, here, patterns=clean.patterns)
        good = changed.logits.isfinite().all(1)
        if not bool(good.all()):
            raise NumericalError(
                f"the logits of prompt {first + int((~good).nonzero()[0])} are not finite after "
                "the changes: take smaller amounts, or check the model's weights"
            )
        yield clean._replace(patterns={}), changed
        first += len(batch)


def _joined(outcomes: Sequence[Outcome], node: Node, width: int) -> Float[Tensor, "n pos"]:
    """A feature's activations over all batches, as wide as the longest prompt."""
    rows = [outcome.activations[node] for outcome in outcomes]
    pad = torch.nn.functional.pad
    return wide(torch.cat([pad(a, (0, width - a.shape[1])) for a in rows])).cpu()


def _batch_size(
    task: Task, places: Sequence[Place], adapter: Adapter, memory: Memory | None
) -> int:
    widths = [p.placed.dictionary.n_features for p in places if p.placed is not None]
    coefficients = max(widths, default=0)
    return default_batch_size(adapter, task, coefficients, memory=memory)
