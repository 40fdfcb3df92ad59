"""The three ways to say how upstream features change targets: see `connect.py`.

Each gives the values of all pairs of an upstream feature and a target. Patching takes one run of
each upstream feature, which all targets read; total one backward pass of each target, which all
upstream features read. Direct has a closed form where targets read the stream, and else takes one
small backward pass of each target.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sae_circuits.attribution.pair_kernel import Destination, Source, score_pairs
from sae_circuits.attribution.sparse import Active, ActivePlaced
from sae_circuits.connectome.components import Component
from sae_circuits.connectome.look import Looked, look, read_after, real_tokens
from sae_circuits.connectome.reading import read_stream, target_input
from sae_circuits.connectome.work import Part, Sums, Work
from sae_circuits.costs.connections import ENCODED
from sae_circuits.models.dictionaries.gates import nonzero
from sae_circuits.precision import wide, wide_dtype
from sae_circuits.tasks import Task

SPARSE = 0.2  # of the features of a token: if fewer change, zeros are left out


# -- patching --------------------------------------------------------------------------------------


@torch.no_grad()
def _patching(work: Work, batch: Task) -> Part:
    """Each feature set by itself, and all recomputed from where it writes on."""
    seen = look(work.adapter, [*work.sources, work.target], batch)
    real = real_tokens(batch, work.adapter.device)
    before = _activations(work, seen.encoded[work.target.name], real)
    every = torch.arange(len(work.target.chosen), device=before.device)
    found: dict[str, list[Sums]] = {source.name: [] for source in work.sources}
    for source, change in work.changes(batch, seen, work.other(batch)):
        moved = work.written(source, seen, change)
        ids = _patched(work, source, change)
        n = source.dictionary.n_features
        for some in ids.split(max(1, work.rows // len(batch))) if len(ids) else ():
            added = _added(source, moved, some)
            encoded = read_after(work.adapter, seen, source, work.target, added)
            after = _activations(work, encoded, real.repeat(len(some), 1))
            values = (after.unflatten(0, (len(some), -1)) - before).sum(1).T
            width = len(source.members) if isinstance(source, Component) else n
            found[source.name].append(Sums.of(every, some, values, width))
    return Part(found, {}, before.sum(0))


def _patched(
    work: Work, source: ActivePlaced, change: Float[Tensor, "batch pos feature"]
) -> Int64[Tensor, "some"]:
    """The features to patch, or the components."""
    if isinstance(source, Component):
        return torch.arange(len(source.members), device=change.device)
    ids = change.any(0).any(0).nonzero()[:, 0]
    if work.asked is None:
        return ids
    return ids[torch.isin(ids, ids.new_tensor(work.asked[source.name]))]


def _added(
    source: ActivePlaced, moved: Float[Tensor, "batch pos feature"], some: Int64[Tensor, "some"]
) -> Float[Tensor, "row pos width"]:
    """What is added where a source writes, one after another of some of its features."""
    if isinstance(source, Component):
        return (moved * source.masks[some][:, None, None]).flatten(0, 1)
    W = source.dictionary.W_dec[some]
    return torch.einsum("bpf,fw->fbpw", moved[..., some], W).flatten(0, 1)


def _activations(
    work: Work, encoded: Float[Tensor, "row pos d_in"], real: Bool[Tensor, "row pos"]
) -> Float[Tensor, "row target"]:
    """The targets', summed over tokens; some rows at a time where targets are many."""
    row = ENCODED * encoded.shape[1] * work.target.dictionary.n_features * wide(encoded).itemsize
    size = max(1, work.space // row)
    found = []
    for x, own in zip(encoded.split(size), real.split(size), strict=True):
        f = work.target.dictionary.encode(x)[..., work.target.columns]
        found.append(torch.einsum("rpv,rp->rv", wide(f), own.to(wide(f).dtype)))
    return torch.cat(found)


# -- gradients -------------------------------------------------------------------------------------


def _total(work: Work, batch: Task) -> Part:
    """One backward pass of each target, or one for each step and dictionary."""
    at_once = work.steps is None
    seen = look(work.adapter, [*work.sources, work.target], batch, grad=at_once)
    real = real_tokens(batch, work.adapter.device)
    other, where = work.other(batch), work.set_at(batch)[..., None]
    changes = []
    for source, change in work.changes(batch, seen, other):
        moved = work.written(source, seen, change.detach())
        x = seen.at[source.name].detach().flatten(2)
        whole = None
        if work.multiple is not None:
            whole = (work.multiple - 1) * x * where
        elif other is not None:
            whole = (other.at[source.name].flatten(2) - x) * where
        changes.append((source, moved.detach(), whole))
    n_v, target = len(work.target.chosen), work.target.name
    found: dict[str, list[Sums]] = {source.name: [] for source in work.sources}
    errors = {
        source.name: torch.zeros(n_v, dtype=torch.float64)
        for source, _, whole in changes
        if whole is not None and not isinstance(source, Component)
    }
    for looked, weight, some in _points(work, batch, seen, changes):
        places = [looked.at[source.name] for source, _, _ in some]
        for v, each in slopes(work, looked.encoded[target], real, places, len(batch)):
            for (source, moved, whole), g in zip(some, each, strict=True):
                g = g.flatten(3) * weight
                explained = torch.zeros(len(v), dtype=torch.float64)
                for u, values in paired(work, moved, source.dictionary.W_dec, g):
                    found[source.name].append(work.sums(source, v, u, values))
                    explained += values.sum(1, dtype=torch.float64).cpu()
                if source.name in errors and whole is not None:
                    error = torch.einsum("bpw,kbpw->k", wide(whole), wide(g).to(wide(whole)))
                    errors[source.name][v.cpu()] += error.double().cpu() - explained
        del looked, places  # before the next is made
    pre, gate = work.open(seen.encoded[target], real)
    return Part(found, errors, wide(pre * gate).sum((0, 1)))


Changed = tuple[ActivePlaced, Tensor, Tensor | None]  # D, and the change of the whole place


def _points(
    work: Work, batch: Task, seen: Looked, changes: Sequence[Changed]
) -> Iterator[tuple[Looked, float, Sequence[Changed]]]:
    """Runs with their weights, and the dictionaries whose gradients are taken there."""
    if work.steps is None:
        yield seen, 1.0, changes
        return
    for one in changes:
        source, moved, _ = one
        added = moved @ source.dictionary.W_dec
        for k in range(work.steps):
            part = {source.name: added * ((k + 0.5) / work.steps)}
            saes = [*work.sources, work.target]
            yield look(work.adapter, saes, batch, grad=True, moved=part), 1 / work.steps, [one]


def slopes(
    work: Work,
    encoded: Float[Tensor, "batch pos d_in"],
    real: Bool[Tensor, "batch pos"],
    leaves: Sequence[Tensor],
    prompts: int,
) -> Iterator[tuple[Int64[Tensor, "v"], list[Tensor]]]:
    """Gradients of active targets at some tensors, some targets at a time, which come first."""
    with torch.no_grad():
        _, gate = work.open(encoded, real)
    d = work.target.dictionary
    with torch.enable_grad():
        read = d.normalised(encoded)
    own = torch.arange(d.n_features, device=read.device)[work.target.columns]
    which = gate.any(0).any(0).nonzero()[:, 0]
    for v in which.split(max(1, work.rows // prompts)) if len(which) else ():
        with torch.enable_grad(), work.adapter.frozen():
            pre = read @ d.W_enc[:, own[v]] + d.b_enc[own[v]]
            f = (pre * gate[..., v]).sum((0, 1))
            each = torch.eye(len(v), dtype=f.dtype, device=f.device)
            found = torch.autograd.grad(
                f, leaves, each, retain_graph=True, allow_unused=True, is_grads_batched=True
            )
        yield (
            v,
            [
                x.new_zeros(len(v), *x.shape) if g is None else g
                for g, x in zip(found, leaves, strict=True)
            ],
        )


def paired(
    work: Work,
    moved: Float[Tensor, "batch pos feature"],
    W: Float[Tensor, "feature width"],
    g: Float[Tensor, "v batch pos width"],
) -> Iterator[tuple[Int64[Tensor, "u"], Float[Tensor, "v u"]]]:
    """sum_t D_u(t) (W_u . g_v(t)), for the features u that change, some at a time."""
    D, dtype = moved.flatten(0, 1), wide_dtype(W.dtype)
    rows = g.flatten(1, 2).movedim(0, 1).flatten(1).to(dtype)
    each = 2 * rows.shape[1] + W.shape[1] + 2 * len(rows) + 8 * len(g)
    every = D.any(0).nonzero()[:, 0]
    for u in every.split(max(1, work.space // (each * dtype.itemsize))):
        own = D[:, u].to(dtype)
        if own.count_nonzero() < SPARSE * own.numel():
            along = torch.sparse.mm(own.T.to_sparse(), rows)
        else:
            along = own.T @ rows
        yield u, torch.einsum("ukw,uw->ku", along.unflatten(1, (len(g), -1)), W[u].to(dtype))


# -- direct ----------------------------------------------------------------------------------------


@torch.no_grad()
def _direct(work: Work, batch: Task) -> Part:
    """Along the stream that the targets read."""
    seen = look(work.adapter, [*work.sources, work.target], batch)
    real = real_tokens(batch, work.adapter.device)
    pre, gate = work.open(seen.encoded[work.target.name], real)
    moved = {}
    for source, change in work.changes(batch, seen, work.other(batch)):
        factor = source.factor(seen.encoded[source.name].to(source.dictionary.W_enc.dtype))
        moved[source] = change if factor is None else change * factor
    found: dict[str, list[Sums]] = {source.name: [] for source in work.sources}
    if work.target.is_linear and work.through is None:
        for source, values in _in_closed_form(work, seen, moved, pre, gate):
            found[source.name].append(values)
    else:
        stream = read_stream(work, seen).detach().requires_grad_()
        with torch.enable_grad(), work.adapter.frozen():
            encoded = target_input(work, seen, stream)
        for v, (g,) in slopes(work, encoded, real, [stream], len(batch)):
            for source, change in moved.items():
                for u, values in paired(work, change, source.W_dec, g):
                    found[source.name].append(work.sums(source, v, u, values))
    return Part(found, {}, wide(pre * gate).sum((0, 1)))


def _in_closed_form(
    work: Work,
    seen: Looked,
    moved: Mapping[ActivePlaced, Tensor],
    pre: Float[Tensor, "batch pos target"],
    gate: Bool[Tensor, "batch pos target"],
) -> Iterator[tuple[ActivePlaced, Sums]]:
    """By the kernel of pairs, over what is active together."""
    target, d_model = work.target, work.adapter.architecture.d_model
    norm, tokens = target.norm, gate.flatten(0, 1)
    columns = [tokens.to(pre.dtype)]
    normed = pre.new_empty(len(tokens), 0, d_model)
    if norm is not None:
        stream = read_stream(work, seen).to(pre.dtype).flatten(0, 1)
        x, scale = norm.normalise(stream)
        zero = x.new_zeros(d_model) if norm.bias is None else norm.bias.to(x.dtype)
        columns[0] = columns[0] / scale
        columns.append(columns[0] * (pre.flatten(0, 1) - target.pre(zero)) / d_model)
        normed = x[:, None]
    to = Destination(0, target, _active(columns), normed)
    for source, change in moved.items():
        change = change.flatten(0, 1).to(pre.dtype)
        n = source.dictionary.n_features
        for u, v, sums in score_pairs(Source(0, source, _active([change])), to):
            if isinstance(source, Component):
                some, at = v.unique(return_inverse=True)
                block = sums.new_zeros(len(some), n).index_put_((at.long(), u.long()), sums)
                every = torch.arange(n, device=u.device)
                yield source, work.sums(source, some.long(), every, block)
            else:
                there = sums != 0
                keys = (v.long() * n + u.long())[there]
                yield source, Sums(keys.cpu(), sums[there].cpu())


def _active(columns: Sequence[Float[Tensor, "token feature"]]) -> Active:
    """Numbers of features at tokens, where the first of them are not 0."""
    n, at = columns[0].shape[1], nonzero(columns[0])
    counts = torch.bincount(at // n, minlength=len(columns[0]))
    values = torch.stack([x.flatten()[at] for x in columns], 1)
    return Active(counts, (at % n).int(), values)


WAYS: Mapping[str, Callable[[Work, Task], Part]] = {
    "direct": _direct,
    "total": _total,
    "patching": _patching,
}
