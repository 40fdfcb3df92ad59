"""Names that the shell completes, known without loading what they name.

A test holds them to what there is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

MODELS = ("demo", "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "pythia-70m", "pythia-160m")
TASKS = (
    "ioi", "greater_than", "subject_verb", "induction", "docstring", "facts", "gender_bias",
    "hypernymy", "country_capital", "colored_objects", "sports", "multiple_choice", "addition",
    "subtraction",
)  # fmt: skip
METHODS = (
    "eap", "eap-ig", "eap-ig-activations", "clean-corrupted", "exact", "relp", "gim", "atp-star",
    "mask-ig", "information-flow", "acdc", "edge-pruning", "ugs", "random",
)  # fmt: skip
METRICS = ("logit_diff", "prob_diff", "kl", "cross_entropy", "accuracy")
INTERVENTIONS = ("corrupt", "zero", "mean", "mean-positional", "resample")
DIRECTIONS = ("noising", "denoising")
DTYPES = ("float32", "float64", "bfloat16", "float16")
DEVICES = ("cpu", "cuda", "mps")
PRUNERS = ("top-n", "best-first")
ORDERS = ("abs", "help", "hurt")
NEURONS = ("mlp", "heads", "all")
LEVELS = ("edges", "nodes", "neurons")
FORMATS = ("neuronpedia", "circuit-tracer")
LAYOUTS = ("feature", "prompt", "compact")
CONNECTIONS = ("direct", "total", "patching")
KINDS = ("sae", "transcoder", "skip-transcoder")
STRATEGIES = (
    "tokens", "ngrams", "patterns", "previous", "clusters", "logits", "manual", "explainer",
    "neuronpedia",
)  # fmt: skip
SAES = (  # the bundled ones
    "mlp_out.1-jumprelu",
    "resid_post.1-jumprelu",
    *(
        f"{site}.{layer}"
        for site in ("z", "mlp_out", "resid_post", "transcoder", "skip_transcoder")
        for layer in range(4)
    ),
)


def of(names: Sequence[str]) -> Callable[[str], list[str]]:
    """What completes an option whose values are these names.

    >>> of(METHODS)("eap")
    ['eap', 'eap-ig', 'eap-ig-activations']
    """

    def complete(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return complete
