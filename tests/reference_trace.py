"""Attribution graphs the slow way: a frozen run with a coefficient for each source, and autograd.

Every source (a token, an active feature, an error node) is multiplied by a coefficient, which is 1
in the run that is explained. Patterns and norm scales are put in from that run, and each MLP is
replaced by its features, its error and its constants. A row of the matrix is then the gradient of
one pre-activation with respect to all coefficients.

For HookedTransformers; follows the published description, node by node and edge by edge.
"""

from __future__ import annotations

from contextlib import contextmanager

import torch
from torch import Tensor

from sae_circuits.models.dictionaries import Dictionary


class Reference:
    """The graph of one prompt, with names as keys.

    Attributes:
        sources, targets: names. A target is a feature or a logit.
        A: [target, source].
        bias: what each target is when every coefficient is 0.
        value: what each target is in the run.
    """

    def __init__(self, model, tokens: Tensor, transcoders: list[Dictionary], logits: list[int]):
        self.model, self.tokens = model, tokens[None]
        self.by_layer = {d.reads.layer: d for d in transcoders}
        self.logits = logits
        self._measure()
        start = torch.ones(len(self.sources), dtype=torch.float64, requires_grad=True)
        value = self.run(start)
        self.value = value.detach()
        self.targets = [s for s in self.sources if ".f" in s]
        self.targets += [f"logits.t{t}@{len(tokens) - 1}" for t in logits]
        rows = [torch.autograd.grad(x, start, retain_graph=True)[0] for x in value]
        self.A = torch.stack(rows)
        self.bias = self.run(torch.zeros_like(start)).detach()

    @contextmanager
    def _mlp_inputs(self, found: dict[int, Tensor]):
        """Note what each transcoder reads."""
        handles = []
        for layer, block in enumerate(self.model.blocks):
            d = self.by_layer.get(layer)
            if d is None:
                continue
            if d.reads.kind == "mlp_in":
                module = block.mlp
            elif d.reads.kind == "mlp_normalized":
                module = getattr(getattr(block, "ln2", None), "hook_normalized", block.mlp)
            else:  # the stream before the norm
                module = block.ln2 if hasattr(block, "ln2") else block.mlp

            def note(_module, args, layer=layer):
                found[layer] = args[0][0]

            handles.append(module.register_forward_pre_hook(note))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @torch.no_grad()
    def _measure(self) -> None:
        """The run that is explained: what is frozen, and the sources' vectors."""
        read: dict[int, Tensor] = {}
        with self._mlp_inputs(read):
            logits, cache = self.model.run_with_cache(self.tokens)
        self.probability = logits[0, -1].softmax(0)
        self.frozen = {
            name: cache[name] for name in cache if name.endswith(("hook_pattern", "hook_scale"))
        }
        self.input = cache["blocks.0.hook_resid_pre"][0]
        n_pos, n_layers = len(self.input), len(self.model.blocks)
        self.sources = [f"input@{p}" for p in range(n_pos)]
        self.scale, self.first_read = {}, read
        self.features: dict[int, list[tuple[int, int, int]]] = {}  # layer: (source, pos, index)
        self.errors: dict[int, list[int]] = {}
        self.activation = [1.0] * n_pos
        written = [torch.zeros_like(self.input) for _ in range(n_layers)]
        for layer in range(n_layers):
            if f"blocks.{layer}.hook_mlp_out" not in cache:
                continue
            d = self.by_layer.get(layer)
            f = None if d is None else d.encode(read[layer])
            if d is not None:
                self.scale[layer] = d.scale(read[layer])
                for to, site in enumerate(d.writes):
                    written[site.layer] += f @ d.decoders[to]
                written[layer] += d.b_dec
                if d.W_skip is not None:
                    written[layer] += read[layer] @ d.W_skip
            self.features[layer], self.errors[layer] = [], []
            for pos in range(n_pos):
                for index in [] if f is None else f[pos].nonzero()[:, 0].tolist():
                    self.features[layer].append((len(self.sources), pos, index))
                    self.sources.append(f"m{layer}.f{index}@{pos}")
                    self.activation.append(float(f[pos, index]))
                self.errors[layer].append(len(self.sources))
                self.sources.append(f"m{layer}.error@{pos}")
                self.activation.append(1.0)
        self.error = {
            layer: cache[f"blocks.{layer}.hook_mlp_out"][0] - written[layer]
            for layer in self.errors
        }

    def run(self, coefficient: Tensor) -> Tensor:
        """Every target's value, with each source multiplied by its coefficient."""
        read: dict[int, Tensor] = {}
        n_pos = len(self.input)

        def put_in(x, hook):
            return self.frozen[hook.name]

        def enter(x, hook):
            return (coefficient[:n_pos, None] * self.input)[None]

        def replace(x, hook):
            layer = hook.layer()
            at = torch.tensor(self.errors[layer])
            out = coefficient[at, None] * self.error[layer]
            for earlier, d in self.by_layer.items():
                for to, site in enumerate(d.writes):
                    if site.layer == layer:
                        source, pos, index = torch.tensor(self.features[earlier]).view(-1, 3).T
                        a = torch.tensor(self.activation, dtype=torch.float64)[source]
                        vectors = (coefficient[source] * a)[:, None] * d.decoders[to][index]
                        out = out.index_add(0, pos, vectors)
            if (d := self.by_layer.get(layer)) is not None:
                out = out + d.b_dec
                if d.W_skip is not None:
                    out = out + read[layer] @ d.W_skip
            return out[None]

        hooks = [(name, put_in) for name in self.frozen]
        hooks += [("blocks.0.hook_resid_pre", enter)]
        hooks += [(f"blocks.{layer}.hook_mlp_out", replace) for layer in self.errors]
        last: list[Tensor] = []

        def note(_module, args):
            last.append(args[0][0, -1])

        handle = self.model.unembed.register_forward_pre_hook(note)
        try:
            with self._mlp_inputs(read), self.model.hooks(hooks):
                self.model(self.tokens)
        finally:
            handle.remove()
        found = []
        for layer, d in self.by_layer.items():
            x, scale = read[layer], self.scale[layer]
            x = x if scale is None else (x - scale.shift) / scale.divide
            pre = (x if d.b_in is None else x - d.b_in) @ d.W_enc + d.b_enc
            _, pos, index = torch.tensor(self.features[layer]).view(-1, 3).T
            found.append(pre[pos, index])
        W_U, b_U = self.model.unembed.W_U, self.model.unembed.b_U
        logits = last[0] @ W_U + (0 if b_U is None else b_U)
        return torch.cat([*found, logits[self.logits] - logits.mean()])


def dense(graph) -> tuple[list[str], Tensor]:
    """The matrix [node, node] of a graph, destinations first, and the nodes' names."""
    A = torch.zeros(len(graph.nodes), len(graph.nodes), dtype=torch.float64)
    A[graph.dest, graph.src] = graph.weight.double()
    return [node.name for node in graph.nodes], A


def normalised(A: Tensor) -> Tensor:
    return A.abs() / A.abs().sum(1, keepdim=True).clamp(min=1e-300)


def influence(A: Tensor, start: Tensor) -> Tensor:
    """`start^T (A + A^2 + ...)` of a row-normalised matrix."""
    B, flow = normalised(A), start
    total = torch.zeros_like(start)
    while (flow := flow @ B).any():
        total = total + flow
    return total


def fewest(scores: Tensor, share: float) -> Tensor:
    """Which scores are among the fewest that hold a share of all."""
    order = scores.argsort(descending=True, stable=True)
    so_far, n, whole = 0.0, 0, float(scores.sum())
    while n < len(order) and so_far < share * whole:
        so_far += float(scores[order[n]])
        n += 1
    keep = torch.zeros(len(scores), dtype=torch.bool)
    keep[order[:n]] = True
    return keep


def pruned(
    names: list[str], A: Tensor, start: Tensor, node_share: float, edge_share: float
) -> tuple[set[str], set[tuple[str, str]]]:
    """Kept nodes, and kept edges as (source, destination)."""
    n = len(names)
    keep = fewest(influence(A, start), node_share)
    fixed = torch.tensor([s.startswith(("input", "logits")) for s in names])
    keep |= fixed
    left = A * keep[:, None] * keep
    scores = normalised(left) * (influence(left, start) + start)[:, None]
    edges = fewest(scores.flatten(), edge_share).view(n, n)
    while True:
        before = keep.clone()
        for i, name in enumerate(names):
            if fixed[i]:
                continue
            dead = not edges[:, i].any() or (".f" in name and not edges[i].any())
            if dead:
                keep[i] = False
        edges &= keep[:, None] & keep
        if (keep == before).all():
            break
    rows, columns = edges.nonzero(as_tuple=True)
    found = {(names[c], names[r]) for r, c in zip(rows.tolist(), columns.tolist(), strict=True)}
    return {name for name, k in zip(names, keep.tolist(), strict=True) if k}, found
