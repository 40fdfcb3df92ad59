"""The three ways to say how upstream features change a target: see `connect.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae_circuits.connectome.look import Looked, look, read_after, real_tokens
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries.placed import Placed
from sae_circuits.progress import track
from sae_circuits.tasks import Task

Found = tuple[dict[str, Tensor], dict[str, float], float]  # values, errors, activation


@dataclass(frozen=True, eq=False)
class Work:
    """All that the three ways need."""

    adapter: Adapter
    sources: Sequence[Placed]
    target: Placed
    feature: int
    task: Task
    reference: str | float
    positions: Sequence[int] | None
    steps: int | None

    def run(self, method: str, size: int, asked: dict[str, list[int]] | None) -> Found:
        """Values and errors by dictionary, and the target's activation."""
        means = self._means(size) if self.reference == "mean" else {}
        totals: dict[str, Tensor] = {}
        errors: dict[str, float] = {}
        active, n = 0.0, len(self.task)
        batches = list(self.task.batches(size))
        for batch in track(batches, description=f"{method} connections"):
            found, wrong, own = getattr(self, f"_{method}")(batch, means, size, asked)
            active += own / n
            for name, values in found.items():
                totals[name] = totals.get(name, 0) + values.double().cpu() / n
            for name, value in wrong.items():
                errors[name] = errors.get(name, 0.0) + value / n
        return totals, errors, active

    def _activation(
        self, encoded: Float[Tensor, "row pos d_in"], real: Bool[Tensor, "row pos"]
    ) -> Float[Tensor, "row"]:
        """The target's, summed over tokens."""
        f = self.target.dictionary.encode(encoded)[..., self.feature]
        return (f * real).sum(1)

    # -- changes of upstream features ------------------------------------------------------------

    def _set(self, batch: Task) -> Bool[Tensor, "batch pos"]:
        """Where upstream features are set."""
        real = real_tokens(batch, self.adapter.device)
        if self.positions is None:
            return real
        chosen = torch.zeros(real.shape[1], dtype=torch.bool, device=real.device)
        chosen[list(self.positions)] = True
        return real & chosen

    def _changes(
        self, batch: Task, seen: Looked, means: Mapping[str, Tensor], other: Looked | None
    ) -> Iterator[tuple[Placed, Float[Tensor, "batch pos feature"]]]:
        """D of each dictionary's features, 0 at padding and where they are not to be set."""
        where = self._set(batch)[..., None]
        for source in self.sources:
            f = source.dictionary.encode(seen.encoded[source.name].detach())
            if other is not None:
                then: Tensor | float = source.dictionary.encode(other.encoded[source.name])
            elif self.reference == "mean":
                then = means[source.name].to(f.dtype)
            else:
                then = 0.0 if self.reference == "zero" else float(self.reference)
            yield source, (then - f) * where

    def _other(self, batch: Task) -> Looked | None:
        """The run that features are set to, if that is one."""
        if self.reference != "corrupt":
            return None
        return look(self.adapter, self.sources, batch.swapped())

    @torch.no_grad()
    def _means(self, size: int) -> dict[str, Tensor]:
        """The mean activation of upstream features over real tokens."""
        sums: dict[str, Tensor] = {}
        for batch in self.task.batches(size):
            seen, real = (
                look(self.adapter, self.sources, batch),
                real_tokens(batch, self.adapter.device),
            )
            for source in self.sources:
                f = source.dictionary.encode(seen.encoded[source.name])
                own = (f.double() * real[..., None]).sum((0, 1))
                sums[source.name] = sums.get(source.name, 0) + own
        return {name: x / int(self.task.lengths.sum()) for name, x in sums.items()}

    def _written(
        self, source: Placed, seen: Looked, change: Float[Tensor, "batch pos some"]
    ) -> Float[Tensor, "batch pos some"]:
        """How much of their directions features add where they write."""
        d = source.dictionary
        scale = d.scale(seen.encoded[source.name].detach()) if d.is_sae else None
        return change if scale is None else change * scale.multiply

    # -- three ways ------------------------------------------------------------------------------

    def _patching(
        self,
        batch: Task,
        means: Mapping[str, Tensor],
        size: int,
        asked: dict[str, list[int]] | None,
    ) -> Found:
        """Each feature set by itself, and all recomputed from where it writes on."""
        seen = look(self.adapter, [*self.sources, self.target], batch)
        real = real_tokens(batch, self.adapter.device)
        before = self._activation(seen.encoded[self.target.name], real)
        found: dict[str, Tensor] = {}
        with torch.no_grad():
            for source, change in self._changes(batch, seen, means, self._other(batch)):
                values = change.new_full((change.shape[2],), 0.0 if asked is None else torch.nan)
                ids = change.any(0).any(0).nonzero()[:, 0]
                if asked is not None:
                    values[asked[source.name]] = 0.0
                    ids = ids[torch.isin(ids, ids.new_tensor(asked[source.name]))]
                for some in ids.split(max(1, size // len(batch))) if len(ids) else ():
                    moved = self._written(source, seen, change[..., some])
                    W = source.dictionary.W_dec[some]
                    added = torch.einsum("bpf,fw->fbpw", moved, W).flatten(0, 1)
                    encoded = read_after(self.adapter, seen, source, self.target, added)
                    after = self._activation(encoded, real.repeat(len(some), 1))
                    values[some] = (after.view(len(some), -1) - before).sum(1)
                found[source.name] = values
        return found, {}, float(before.sum())

    def _total(self, batch: Task, means: Mapping[str, Tensor], size: int, asked: Any) -> Found:
        """One backward pass for all features, or one for each step and dictionary."""
        seen = look(self.adapter, [*self.sources, self.target], batch, grad=True)
        own, of = self._gradients(batch, seen)
        other, where = self._other(batch), self._set(batch)[..., None]
        found, errors = dict[str, Tensor](), dict[str, float]()
        for source, change in self._changes(batch, seen, means, other):
            W, x = source.dictionary.W_dec, seen.at[source.name].detach().flatten(2)
            moved = self._written(source, seen, change)
            g = of[source.name]
            if self.steps is not None:
                g = self._averaged(batch, source, moved @ W, self.steps)
            found[source.name] = (moved * (g.to(W.dtype) @ W.T)).sum((0, 1))
            if self.reference in ("zero", "corrupt"):
                then = 0 if other is None else other.at[source.name].flatten(2)
                whole = ((then - x) * where * g).sum()
                errors[source.name] = float(whole - found[source.name].sum())
        return found, errors, own

    def _gradients(self, batch: Task, seen: Looked) -> tuple[float, dict[str, Tensor]]:
        """The target's activation, and its gradient at what stands where each dictionary writes."""
        real = real_tokens(batch, self.adapter.device)
        own = self._activation(seen.encoded[self.target.name], real).sum()
        places = [seen.at[source.name] for source in self.sources]
        grads = torch.autograd.grad(own, places, allow_unused=True)
        each = zip(self.sources, places, grads, strict=True)
        found = {s.name: (torch.zeros_like(x) if g is None else g) for s, x, g in each}
        return float(own.detach()), {name: g.flatten(2) for name, g in found.items()}

    def _averaged(
        self, batch: Task, source: Placed, added: Float[Tensor, "batch pos width"], steps: int
    ) -> Float[Tensor, "batch pos width"]:
        """The gradient at one dictionary's place, along the way of all its features together."""
        total = torch.zeros_like(added)
        for k in range(steps):
            moved = {source.name: added * ((k + 0.5) / steps)}
            saes = [*self.sources, self.target]
            seen = look(self.adapter, saes, batch, grad=True, moved=moved)
            total += self._gradients(batch, seen)[1][source.name] / steps
        return total

    def _direct(self, batch: Task, means: Mapping[str, Tensor], size: int, asked: Any) -> Found:
        """Along the stream that the target reads."""
        seen = look(self.adapter, [*self.sources, self.target], batch)
        real = real_tokens(batch, self.adapter.device)
        stream = self._read_stream(seen).detach().requires_grad_()
        with torch.enable_grad(), self.adapter.frozen():
            own = self._activation(self._read(seen, stream), real).sum()
            (g,) = torch.autograd.grad(own, stream)
        found = {}
        with torch.no_grad():
            for source, change in self._changes(batch, seen, means, self._other(batch)):
                factor = source.factor(seen.encoded[source.name].to(source.dictionary.W_enc.dtype))
                moved = change if factor is None else change * factor
                along = g.to(source.W_dec.dtype) @ source.W_dec.T
                found[source.name] = (moved * along).sum((0, 1))
        return found, {}, float(own.detach())

    def _read_stream(self, seen: Looked) -> Float[Tensor, "batch pos d_model"]:
        """The stream that the target's features read, or the component before them."""
        target, arch = self.target, self.adapter.architecture
        if target.part in ("pre", "mid", "post") and not target.is_transcoder:
            return seen.at[target.name]
        stream = seen.streams[target.layer]
        if target.part == "a" or arch.parallel:
            return stream
        return stream + self.adapter.attn_out(target.layer, seen.calls[target.layer], stream)

    def _read(
        self, seen: Looked, stream: Float[Tensor, "batch pos d_model"]
    ) -> Float[Tensor, "batch pos d_in"]:
        """What its encoder gets, with attention patterns held as they are."""
        target, adapter, layer = self.target, self.adapter, self.target.layer
        if target.part != "a":
            return target.read(stream)
        ports = {}
        for port, x in (("q", stream.detach()), ("k", stream.detach()), ("v", stream)):
            n = adapter.W_in(layer, port).shape[0]
            project = adapter.projection(layer, port, list(range(n)))
            read = adapter.read(layer, x)
            ports[port] = project(read.expand(n, *read.shape)).movedim(0, 2)
        z = adapter.attend(layer, seen.calls[layer], ports["q"], ports["k"], ports["v"])
        return target.of_heads(z).to(target.dictionary.W_enc.dtype)
