"""Directions as features: steering vectors, probes, differences of means, principal axes.

Each function gives a `Dictionary` of named features at one site, so that all that takes a
dictionary takes them. With v the direction that a feature writes, r the one that it reads and b its
bias,

    a = x . r + b,    x = a v + error

and a is 0 where it is not above the feature's threshold, if it has one. Unless r is given, it is
v / |v|^2: then to add 1 to a adds v to x, and to set a to c makes c of what is read there.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from sae_circuits.cache.places import site_place
from sae_circuits.errors import DictionaryError, NumericalError, OptionError, unknown
from sae_circuits.graph.splits import PARTS
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries import Dictionary, Site
from sae_circuits.models.dictionaries.gates import Gate, Threshold, identity, relu
from sae_circuits.models.hooks import stopped_at
from sae_circuits.tasks import Task
from sae_circuits.tasks.prompts import Prompts, as_task

Vectors = Mapping[str, Shaped[Tensor, "..."]]
Number = float | Mapping[str, float]
BATCH = 32  # prompts at a time


def of_vectors(
    site: Site | str,
    vectors: Vectors,
    *,
    read: Vectors | None = None,
    bias: Number = 0.0,
    threshold: Number | None = None,
    model: str | None = None,
) -> Dictionary:
    """Features that write given vectors, such as steering vectors.

    Args:
        site: by its name, `"resid_post.1"`, or its hook point, `"blocks.1.hook_resid_post"`.
        vectors: what each feature writes per unit of activation, by its name.
        read: along what each reads; by default v / |v|^2, each for itself.
        bias: added to what is read, one number or one for each name.
        threshold: a feature is active above it; 0 makes a ReLU of it. Without one, features are
            always active, and activations may be negative.
        model: the name of the model that they were found on, so that others are refused.

    Raises:
        DictionaryError: no vector, one that is 0 or not finite, or of another width; a site where
            no feature can stand.
        UnknownName: a number or a vector for a name that is not among the vectors'.
        OptionError: a bias or a threshold that is no finite number, or a threshold below 0.

    Example:
        >>> import torch
        >>> import sae_circuits as sc
        >>> found = sc.directions.of_vectors("resid_post.1", {"up": torch.tensor([2.0, 0.0])})
        >>> found, found.names
        (Dictionary('directions at resid_post.1': 1 features, resid_post.1), ('up',))
        >>> found.encode(torch.tensor([3.0, 5.0])).tolist()
        [1.5]
    """
    site = _site(site)
    write = _stacked("vector", vectors)
    if read is None:
        reads = write / write.square().sum(1, keepdim=True)
    else:
        _require_names("read direction", read, vectors)
        reads = _stacked("read direction", {name: read[name] for name in vectors}).to(write)
        if reads.shape != write.shape:
            raise DictionaryError(
                f"the read directions are {reads.shape[1]} wide and the vectors {write.shape[1]}: "
                f"both stand at {site.name}"
            )
    return Dictionary(
        name=f"directions at {site.name}",
        reads=site,
        writes=(site,),
        W_enc=reads.T.contiguous(),
        b_enc=_numbers("bias", bias, vectors, write),
        decoders=(write,),
        b_dec=write.new_zeros(write.shape[1]),
        gate=_gate(threshold, vectors, write),
        model=model,
        names=tuple(vectors),
    )


def of_probe(
    site: Site | str,
    weight: Float[Tensor, "*feature d_in"],
    bias: float | Shaped[Tensor, "..."] = 0.0,
    names: tuple[str, ...] | list[str] | str = "probe",
    *,
    threshold: Number | None = None,
    model: str | None = None,
) -> Dictionary:
    """Features whose activations are what linear probes say.

        a = x . w + b,    v = w / |w|^2

    so that to add 1 to a is the shortest way to raise what the probe says by 1.

    Args:
        weight: of one probe [d_in], or of several [feature, d_in], as `torch.nn.Linear` has it.
        bias: of each, or one for all.
        names: of each.
        site, threshold, model: as in `of_vectors`.

    Raises:
        DictionaryError, OptionError: as in `of_vectors`; names or biases of another number than
            the probes.

    Example:
        >>> import torch
        >>> import sae_circuits as sc
        >>> probe = sc.directions.of_probe("mlp_out.0", torch.tensor([3.0, 4.0]), 1.0, "is a name")
        >>> probe.encode(torch.tensor([1.0, 1.0])).tolist()
        [8.0]
    """
    called = (names,) if isinstance(names, str) else tuple(names)
    rows = weight.detach()[None] if weight.ndim == 1 else weight.detach()
    biases = torch.as_tensor(bias).detach().flatten().tolist()
    if len(biases) == 1:
        biases *= len(rows)
    if not len(called) == len(set(called)) == len(rows) == len(biases):
        raise DictionaryError(
            f"{len(rows)} probes with {len(called)} names ({len(set(called))} different) and "
            f"{len(biases)} biases: give each probe one of both"
        )
    read = dict(zip(called, rows, strict=True))
    _stacked("probe", read)
    return of_vectors(
        site,
        {name: w / w.square().sum() for name, w in read.items()},
        read=read,
        bias=dict(zip(called, biases, strict=True)),
        threshold=threshold,
        model=model,
    )


def of_difference(
    model: Any,
    site: Site | str,
    positive: Prompts,
    negative: Prompts,
    *,
    position: int | None = -1,
    name: str = "difference",
    threshold: Number | None = None,
) -> Dictionary:
    """The difference of the means of two sets of prompts, as one feature.

        v = mean of x on positive - mean of x on negative

    Its activation is 0 at the negative mean and 1 at the positive one.

    Args:
        model: a TransformerLens model of either kind; left as it was found.
        positive, negative: texts, token ids, or tasks, whose clean prompts are run.
        position: the token whose x is taken, counted from the first real token of each prompt, or
            from the last backwards; None for all tokens but special ones.
        name: of the feature.
        site, threshold: as in `of_vectors`.

    Raises:
        TaskError, ContextError: no prompts, or ones that the model cannot read.
        OptionError: a position outside a prompt.
        DictionaryError: a site that the model does not have, or two means that are the same.
        NumericalError: x that is not finite.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> task = sc.tasks.ioi(model, n=8, seed=0)
        >>> found = sc.directions.of_difference(model, "resid_post.2", task, task.swapped())
        >>> found
        Dictionary('directions at resid_post.2': 1 features, resid_post.2)
    """
    adapter, site = Adapter.of(model), _site(site)
    sides = {"positive prompts": positive, "negative prompts": negative}
    tasks = {what: _task(model, prompts, what, position) for what, prompts in sides.items()}
    plus, minus = (_found(adapter, site, *task, position).mean(0) for task in tasks.items())
    v = plus - minus
    if not bool(v.any()):
        raise DictionaryError(
            f"the positive and the negative prompts have the same mean at {site.name}: take other "
            "prompts, or another position"
        )
    bias = -float(minus @ v / (v @ v))
    return of_vectors(
        site, {name: v.to(adapter.dtype)}, bias=bias, threshold=threshold,
        model=adapter.architecture.model,
    )  # fmt: skip


def of_pca(
    model: Any,
    site: Site | str,
    prompts: Prompts,
    n: int = 1,
    *,
    position: int | None = None,
    name: str = "pc",
    threshold: Number | None = None,
) -> Dictionary:
    """The axes along which what stands at a site varies most, as features `pc1`, `pc2`, ...

    v is of length 1, with its largest coordinate above 0; the activation is 0 at the mean.

    Args:
        prompts: as in `of_difference`.
        n: how many axes, from the largest variance down.
        position: whose x are taken: by default all tokens but special ones.
        name: what their names begin with.
        model, site, threshold: as in `of_difference`.

    Raises:
        OptionError: more axes than x varies along; else as `of_difference`.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> sc.directions.of_pca(model, "resid_post.1", sc.tasks.ioi(model, n=8), 2).names
        ('pc1', 'pc2')
    """
    adapter, site = Adapter.of(model), _site(site)
    x = _found(adapter, site, "prompts", _task(model, prompts, "prompts", position), position)
    mean = x.mean(0)
    _, sizes, axes = torch.linalg.svd(x - mean, full_matrices=False)
    eps = torch.finfo(adapter.dtype).eps
    rank = int((sizes > sizes.amax() * max(x.shape) * eps).sum()) if len(x) > 1 else 0
    if not 1 <= n <= rank:
        raise OptionError(
            f"{n} axes at {site.name}: what stands there at {len(x)} tokens varies along {rank}; "
            "take 1 up to that, or more prompts"
        )
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    axes = axes * largest.sign()
    called = [f"{name}{i + 1}" for i in range(n)]
    return of_vectors(
        site,
        dict(zip(called, axes[:n].to(adapter.dtype), strict=True)),
        bias=dict(zip(called, (-axes[:n] @ mean).tolist(), strict=True)),
        threshold=threshold,
        model=adapter.architecture.model,
    )


# -- what stands at a site -------------------------------------------------------------------------


def _task(model: Any, prompts: Prompts, what: str, position: int | None) -> Task:
    """Prompts that the model can read, and that have the position."""
    task = as_task(model, prompts)
    arch = Adapter.of(model).architecture
    task.check_fits(context=arch.n_ctx, vocabulary=arch.d_vocab)
    shortest = int(task.lengths.min())
    if position is not None and not -shortest <= position < shortest:
        raise OptionError(
            f"position {position} lies outside the shortest of the {what}, of "
            f"{shortest} tokens: take {-shortest} to {shortest - 1}"
        )
    return task


@torch.no_grad()
def _found(
    adapter: Adapter, site: Site, what: str, task: Task, position: int | None
) -> Float[Tensor, "token d_in"]:
    """What stands at a site at the chosen tokens, in float64."""
    site.width(adapter.architecture)
    module, before = site_place(adapter, site.kind, site.layer)
    special = torch.tensor(_special(adapter.model), dtype=torch.int64)
    rows = []
    for batch in task.batches(BATCH):
        forward = lambda batch=batch: adapter.forward(batch.clean)  # noqa: E731
        x = stopped_at(module, forward, before=before, home=adapter.device)
        pos = torch.arange(batch.clean.shape[1])
        if position is None:
            chosen = (pos < batch.lengths[:, None]) & ~torch.isin(batch.clean, special)
        else:
            chosen = pos == (position % batch.lengths)[:, None]
        rows.append(x.flatten(2)[chosen.to(x.device)].double())
    found = torch.cat(rows)
    if not len(found):
        raise OptionError("all tokens of the prompts are special ones: give a position")
    if not bool(found.isfinite().all()):
        raise NumericalError(
            f"what stands at {site.name} on the {what} is not finite: take "
            " float32, or other prompts"
        )
    return found


def _special(model: Any) -> list[int]:
    """Ids of tokens that are no text, where there is a tokenizer."""
    return list(getattr(getattr(model, "tokenizer", None), "all_special_ids", ()))


# -- what is given ---------------------------------------------------------------------------------


def _site(site: Site | str) -> Site:
    """A site at which features can be read and written.

    Raises:
        DictionaryError: where an MLP reads, which is no writer of the graph.
    """
    found = Site.of(site)
    if found.kind not in PARTS:
        kinds = ", ".join(kind for kind in PARTS if kind != "mlp_post")
        raise DictionaryError(f"no direction can be written at {found.name}: take one of {kinds}")
    return found


def _stacked(what: str, vectors: Vectors) -> Float[Tensor, "feature d_in"]:
    """Vectors as rows, each of them checked."""
    if not vectors:
        raise DictionaryError(f"there is no {what}: give one for each name")
    (first, *_) = vectors.values()
    for name, v in vectors.items():
        if v.ndim != 1 or v.shape != first.shape or not v.is_floating_point():
            raise DictionaryError(
                f"the {what} {name!r} is {v.dtype} {list(v.shape)}: give floats [{len(first)}], as "
                "wide as the first"
                if first.ndim == 1
                else f"the {what} {name!r} is {list(v.shape)}: give floats [d_in]"
            )
        if not bool(v.isfinite().all()):
            raise DictionaryError(f"the {what} {name!r} holds NaN or infinity")
        if not bool(v.any()):
            raise DictionaryError(f"the {what} {name!r} is 0: it points nowhere")
    return torch.stack([v.detach().to(first) for v in vectors.values()])


def _require_names(what: str, given: Mapping[str, Any], vectors: Vectors) -> None:
    if missing := [name for name in given if name not in vectors]:
        raise unknown(f"direction with a {what}", missing[0], vectors)
    if missing := [name for name in vectors if name not in given]:
        raise DictionaryError(f"direction {missing[0]!r} has no {what}: give one for each name")


def _numbers(
    what: str, given: Number, vectors: Vectors, like: Shaped[Tensor, "..."]
) -> Float[Tensor, "feature"]:
    """One number for each direction."""
    if isinstance(given, Mapping):
        _require_names(what, given, vectors)
    by_name = given if isinstance(given, Mapping) else dict.fromkeys(vectors, given)
    for name, number in by_name.items():
        if not isinstance(number, Real) or not abs(float(number)) < float("inf"):
            raise OptionError(f"the {what} of {name!r} is {number!r}: give a finite number")
    return torch.tensor([float(by_name[n]) for n in vectors], dtype=like.dtype, device=like.device)


def _gate(threshold: Number | None, vectors: Vectors, like: Shaped[Tensor, "..."]) -> Gate:
    if threshold is None:
        return identity
    numbers = _numbers("threshold", threshold, vectors, like)
    if bool((numbers < 0).any()):
        raise OptionError(
            f"the threshold {float(numbers.min()):g} is below 0, where nothing is active: shift "
            "the activation by a bias instead"
        )
    return Threshold(numbers) if bool(numbers.any()) else relu
