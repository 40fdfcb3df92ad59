"""Small random SAEs and transcoders of sae-lens's own classes."""

from __future__ import annotations

from typing import Any

import torch


def random_sae(
    kind: str,
    hook: str,
    d_in: int,
    n_features: int,
    *,
    hook_out: str | None = None,
    seed: int = 0,
    size: float = 1.0,
    **options: Any,
) -> Any:
    """An SAE of one of sae-lens's architectures, whose every parameter matters.

    Args:
        hook: the name of the hook point that it reads; `hook_out` that of the one it writes, for
            a transcoder.
        size: standard deviation of the parameters.
        options: of the architecture's configuration, such as `k` or `dtype`.
    """
    from sae_lens.registry import get_sae_class

    cls, cfg = get_sae_class(kind)
    torch.manual_seed(seed)
    config = cfg(d_in=d_in, d_sae=n_features, device="cpu", **options)
    config.metadata.hook_name = hook
    if hook_out is not None:
        config.metadata.hook_name_out = hook_out
    sae = cls(config)
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            parameter.copy_(size * torch.randn_like(parameter))
            if name == "threshold":
                parameter.abs_()
    return sae
