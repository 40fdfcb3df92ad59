"""`head_connections`: a connection through a layer's heads, by head, from token to token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.connectome.asked import prepared
from sae_circuits.connectome.job import ConnectionsJob
from sae_circuits.connectome.look import look, real_tokens
from sae_circuits.connectome.reading import ports_of, read_stream, target_of_z
from sae_circuits.connectome.work import Reference, Work
from sae_circuits.errors import DictionaryError, GraphError, OptionError
from sae_circuits.graph import Node, parse_node
from sae_circuits.models.dictionaries import Dictionary
from sae_circuits.precision import wide
from sae_circuits.shards import Means, Partial, Shard, Workers, run_shards, shards_of
from sae_circuits.sizes import Memory
from sae_circuits.tasks.prompts import Prompts


def head_connections(
    model: Any,
    source: Node | str,
    target: Node | str,
    saes: Sequence[Dictionary],
    prompt: Prompts,
    *,
    through: str | None = None,
    reference: Reference = "zero",
    prepend_bos: bool = True,
    memory: Memory | None = None,
    workers: Workers | None = None,
    folder: str | Path | None = None,
) -> Float[Tensor, "head src dest"]:
    """How a feature at one token changes another at a later one, through each head of a layer.

    With A_h the pattern of head h, held as it is, D_u(s) how the source changes at token s, v_h the
    head's values, z_h what it gives, and f the target's activation summed over tokens,

        value(h, s, t) = A_h[t, s] (dv_h(s) . df/dz_h(t)),   dv_h(s) = J_v D_u(s) w_u

    to first order, with norms linearised. Its sum is the value that `connections` gives with
    `method="direct"` and the same `through`.

    Args:
        source, target: features of two of the dictionaries, such as "pre0.f3" and "post1.f5".
        prompt: one: a text, token ids [pos], or a task of one pair.
        through: the layer, such as "a1", whose heads read the stream that the source is written to
            and write to the one that the target reads; without it, of a target that splits what
            heads write, its own.
        model, saes, reference, prepend_bos, memory, workers, folder: as in `connections`; one
            prompt is one shard.

    Raises:
        OptionError: several prompts; or no layer is named, and the target is not of heads.
        DictionaryError: the target is not active on the prompt.
        GraphError and others: as in `connections`.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> saes = sc.load_saes("demo", ["mlp_out.0", "resid_post.1"])
        >>> prompt = sc.tasks.ioi(model, n=1, seed=0)
        >>> by_head = sc.head_connections(model, "m0.f3", "post1.f5", saes, prompt, through="a1")
        >>> tuple(by_head.shape) == (4, *2 * prompt.clean.shape[1:])
        True
    """
    first, last = (parse_node(one) if isinstance(one, str) else one for one in (source, target))
    layer = _layer(first, last, through)
    assert first.index is not None
    assert last.index is not None
    work, _ = prepared(
        model, f"{last.site}{last.layer}", [last.index], saes, prompt, method="direct",
        reference=reference, steps=None, features=None, components=(), through=through,
        positions=None, prepend_bos=prepend_bos, batch_size=None, memory=memory,
    )  # fmt: skip
    if len(work.task) != 1:
        raise OptionError(f"{len(work.task)} prompts: give one, since tokens differ between them")
    known = {one.name: one for one in work.sources}
    placed = known.get(f"{first.site}{first.layer}")
    if placed is None or first.index not in range(placed.dictionary.n_features):
        raise GraphError(f"{first.name!r} is no feature upstream, of {', '.join(known)}")
    job = HeadsJob(work.adapter.model, work.of([placed]), "direct", first.index, layer)
    (found,) = run_shards(job, shards_of(1, 1), Means(workers, folder))
    if not bool(found["active"]):
        raise DictionaryError(
            f"{last.name!r} is not active on the prompt: give one on which it fires"
        )
    return found["values"]


@dataclass(frozen=True, eq=False)
class HeadsJob(ConnectionsJob):
    """The same of one feature on one prompt, which is one shard.

    Args:
        feature: of the only source.
        layer: of the heads.
    """

    feature: int
    layer: int

    name = "head connections"

    @property
    def said(self) -> dict[str, Any]:
        """All that decides the values."""
        return {**super().said, "feature": self.feature, "layer": self.layer}

    def open(self) -> Callable[[Shard], Partial]:
        """The values, and the target's activation."""
        return lambda _: _by_head(self.work, self.feature, self.layer)


def _by_head(work: Work, feature: int, layer: int) -> Partial:
    """The value of each head and each two tokens."""
    (placed,), adapter = work.sources, work.adapter
    with torch.no_grad():
        seen = look(adapter, [placed, work.target], work.task)
        ((_, change),) = work.changes(work.task, seen, work.other(work.task))
        factor = placed.factor(seen.encoded[placed.name].to(placed.dictionary.W_enc.dtype))
        moved = change[..., feature]
        moved = moved if factor is None else moved * factor[..., 0]
        stream = read_stream(work, seen)
        along = (moved[..., None] * placed.W_dec[feature]).to(stream.dtype)
        q, k, v = ports_of(work, layer, stream)
        pattern = adapter.pattern(layer, seen.calls[layer], q, k)[0]
        z = adapter.attend(layer, seen.calls[layer], q, k, v)
    dv: Tensor = torch.func.jvp(lambda x: ports_of(work, layer, x)[2], (stream,), (along,))[1]
    with torch.enable_grad(), adapter.frozen():
        z = z.detach().requires_grad_()
        encoded = target_of_z(work, seen, layer, z)
        f = work.target.dictionary.encode(encoded)[..., work.target.columns]
        f = (f * real_tokens(work.task, z.device)[..., None]).sum()
        (y,) = torch.autograd.grad(f, z)
    dv = dv[0].repeat_interleave(z.shape[2] // dv.shape[2], 1)
    values = wide(pattern.mT) * torch.einsum("shk,thk->hst", wide(dv), wide(y[0]))
    return {"values": values.cpu(), "active": f.detach().double().cpu()}


def _layer(source: Node, target: Node, through: str | None) -> int:
    """The layer whose heads are meant."""
    for node in (source, target):
        if node.kind != "feature" or node.index is None or node.pos is not None:
            raise GraphError(f"{node.name!r} is no feature: name it like 'm3.f17'")
    if through is None:
        if target.site != "a" or target.layer is None:
            raise OptionError(
                f"{target.name!r} does not split what heads write: say through which layer's, as "
                "in through='a1'"
            )
        return target.layer
    if not (through.startswith("a") and through[1:].isdecimal()):
        raise OptionError(f"through={through!r}: name a layer's heads, as in 'a1'")
    return int(through[1:])
