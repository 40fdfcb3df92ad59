"""Other rules for the backward pass of the running model; its forward values stay exactly its own.

A rule replaces a tensor y of the run by

    y.detach() + (l - l.detach())

where l is what the gradient shall be taken of: it has y's value and l's gradient. Hooks on norms,
patterns, queries, keys, values and MLPs do so while the model runs, and are then removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sae_circuits.errors import UnsupportedModel
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.hooks import hooked, hooked_pair
from sae_circuits.models.norms import Norm
from sae_circuits.precision import wide

TOLERANCE = {torch.bfloat16: 0.03, torch.float16: 0.01}  # else 1e-4; of a pattern


@dataclass(frozen=True)
class BackwardRules:
    """What the backward pass takes for constant, and what it scales; by default nothing.

    Args:
        norms_constant: every norm's scale; centring and gain stay.
        patterns_constant: attention patterns, so that no gradient reaches queries and keys.
        ratios_constant: an activation is `x * r` with the ratio `r = act(x) / x` constant.
        halve_products: each factor of a gated MLP's product gets half of its gradient.
        softmax_temperature: the gradient at the attention scores s is that through the softmax of
            s / T, but for its factor of 1 / T.
        q_scale, k_scale, v_scale: what the gradients at queries, keys and values are multiplied by.

    >>> BackwardRules().changes, BackwardRules(norms_constant=True).changes
    (False, True)
    """

    norms_constant: bool = False
    patterns_constant: bool = False
    ratios_constant: bool = False
    halve_products: bool = False
    softmax_temperature: float = 1.0
    q_scale: float = 1.0
    k_scale: float = 1.0
    v_scale: float = 1.0

    @property
    def changes(self) -> bool:
        """Whether any gradient is another than the model's own."""
        return self != BackwardRules()

    def port(self, name: str, x: Tensor) -> Tensor:
        """Queries, keys or values with their gradient scaled."""
        scale = getattr(self, f"{name}_scale")
        return x if scale == 1 else valued(x, scale * x)

    @contextmanager
    def inside(self, adapter: Adapter) -> Iterator[None]:
        """Inside, norms, patterns and MLPs of the model have these rules.

        Raises:
            UnsupportedModel: patterns or MLPs on which no hook can lay a rule.
        """
        with ExitStack() as stack:
            if self.norms_constant:
                for module, norm in _norms(adapter):
                    stack.enter_context(hooked_pair(module, _held(norm)))
            for layer in range(adapter.architecture.n_layers):
                if self.patterns_constant or self.softmax_temperature != 1:
                    stack.enter_context(_Pattern(adapter, layer, self).laid())
                if adapter.architecture.has_mlps:
                    stack.enter_context(_activation_laid(adapter, layer, self))
            yield

    @contextmanager
    def at_ports(self, adapter: Adapter) -> Iterator[None]:
        """Inside, what attention makes of queries, keys and values has these rules."""
        with ExitStack() as stack:
            for port in (p for p in "qkv" if getattr(self, f"{p}_scale") != 1):
                for layer in range(adapter.architecture.n_layers):
                    point = adapter.point(adapter.port_name(layer, port))
                    stack.enter_context(hooked(point, partial(self.port, port)))
            yield


OWN = BackwardRules()


def valued(value: Tensor, gradient_of: Tensor) -> Tensor:
    """The first one's value with the second one's gradient.

    >>> x = torch.tensor(3.0, requires_grad=True)
    >>> y = valued(x**2, 0.5 * x)
    >>> y.item(), torch.autograd.grad(y, x)[0].item()
    (9.0, 0.5)
    """
    return value.detach() + (gradient_of - gradient_of.detach()).to(value.dtype)


# -- norms -------------------------------------------------------------------------------------


def _norms(adapter: Adapter) -> Iterator[tuple[nn.Module, Norm]]:
    """Every norm of the model: before and after layers, of queries and keys, before the logits."""
    modules = [getattr(adapter.model, "ln_final", None)]
    for layer in range(adapter.architecture.n_layers):
        block = adapter.block(layer)
        modules += [getattr(block, n, None) for n in ("ln1", "ln2", "ln1_post", "ln2_post")]
        modules += [getattr(block.attn, n, None) for n in ("q_norm", "k_norm")]
    for module in modules:
        norm = Norm.of(module, adapter.model.cfg)
        if module is not None and norm is not None:
            yield module, norm


def _held(norm: Norm) -> Callable[[Tensor, Tensor], Tensor]:
    """A norm's output, linear in its input."""

    def hold(x: Tensor, y: Tensor) -> Tensor:
        stream = wide(x)
        _, scale = norm.normalise(stream.detach())
        return valued(y, norm.gain(norm.centre(stream) / scale))

    return hold


# -- attention patterns ------------------------------------------------------------------------


class _Pattern:
    """The rule for one layer's attention pattern."""

    def __init__(self, adapter: Adapter, layer: int, rules: BackwardRules) -> None:
        self.adapter, self.layer, self.rules = adapter, layer, rules
        self.scores: Tensor | None = None
        self.done = False

    @contextmanager
    def laid(self) -> Iterator[None]:
        """Inside, the pattern has its rule; a run whose z comes before it is refused."""
        at = f"blocks.{self.layer}.attn"
        with ExitStack() as stack:
            for point, see in (
                (f"{at}.hook_attn_scores", self._keep),
                (f"{at}.hook_pattern", self._lay),
                (f"{at}.hook_z", self._require),
            ):
                stack.enter_context(hooked(self.adapter.point(point), see))
            yield

    def _keep(self, scores: Float[Tensor, "batch head pos pos"]) -> None:
        self.scores = scores

    def _lay(self, pattern: Float[Tensor, "batch head pos pos"]) -> Tensor:
        self.done = True
        if self.rules.patterns_constant:
            return pattern.detach()
        scores, T = self.scores, self.rules.softmax_temperature
        if scores is None or not _is_softmax(pattern.detach(), scores.detach()):
            raise UnsupportedModel(
                f"the attention pattern of layer {self.layer} is not the softmax of scores that "
                "are to be seen, so its gradient cannot be taken at another temperature: use "
                "another method, such as 'eap' or 'relp', or set temperature=1"
            )
        return valued(pattern, T * (scores / T).softmax(-1))

    def _require(self, z: Tensor) -> None:
        if not self.done:
            raise UnsupportedModel(
                f"the attention pattern of layer {self.layer} is not to be seen while the model "
                "runs, so no rule can be laid on it: load the model with "
                "attn_implementation='eager'"
            )
        self.done, self.scores = False, None


def _is_softmax(
    pattern: Float[Tensor, "batch head pos pos"], scores: Float[Tensor, "batch head pos pos"]
) -> bool:
    """Whether a pattern is the softmax of scores, by its first example."""
    made = scores[:1].softmax(-1).to(pattern.dtype)
    difference = (made - pattern[:1]).abs().nan_to_num()  # NaN is found where it first appears
    return float(difference.max()) < TOLERANCE.get(pattern.dtype, 1e-4)


# -- MLPs --------------------------------------------------------------------------------------


@contextmanager
def _activation_laid(adapter: Adapter, layer: int, rules: BackwardRules) -> Iterator[None]:
    """Inside, the activation of a layer's MLP, gated or not, has its rule."""
    at, points = f"blocks.{layer}.mlp", adapter.model.hook_dict
    ends = [f"{at}.{name}" for name in ("hook_pre", "hook_pre_linear") if f"{at}.{name}" in points]
    if not rules.ratios_constant and not rules.halve_products:
        yield
        return
    if (
        f"{at}.hook_pre" not in ends
        or f"{at}.hook_post" not in points
        or f"{at}.hook_mid" in points
    ):
        raise UnsupportedModel(
            f"the MLP of layer {layer} of {adapter.architecture.model!r} is more than an "
            "activation between two matrices, gated or not (such as one of experts, or one with "
            "a norm inside), so this method has no rule for it: use another, such as 'eap'"
        )
    kept: dict[str, Tensor] = {}

    def keep(name: str, x: Tensor) -> None:
        kept[name] = x

    def lay(post: Tensor) -> Tensor | None:
        return _through_activation(post, [kept[name] for name in ends], rules)

    with ExitStack() as stack:
        for name in ends:
            stack.enter_context(hooked(adapter.point(name), partial(keep, name)))
        stack.enter_context(hooked(adapter.point(f"{at}.hook_post"), lay))
        yield


def _through_activation(post: Tensor, inputs: list[Tensor], rules: BackwardRules) -> Tensor | None:
    """What an MLP makes of its pre-activations, linear in each of them; None where no rule is laid.

    At x, or at x and u where the MLP is gated, `post` is act(x), or act(x) u. Its slopes are
    act'(x), or act'(x) u and act(x); with the ratio constant act(x) / x stands for act'(x).
    Where x is 0 the slope is the model's own, which is the limit of the ratio.
    """
    gated = len(inputs) == 2
    if not rules.ratios_constant and not gated:
        return None
    slopes = list(torch.autograd.grad(post.sum(), inputs))
    if rules.ratios_constant:
        x = inputs[0].detach()
        whole = slopes[1] * inputs[1].detach() if gated else post.detach()
        slopes[0] = torch.where(x == 0, slopes[0], whole / x)
    share = 0.5 if rules.halve_products and gated else 1.0
    line = sum(share * slope * x for slope, x in zip(slopes, inputs, strict=True))
    assert isinstance(line, Tensor)
    return valued(post, line)
