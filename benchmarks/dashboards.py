"""Views and pages of features: time, size and memory, beside what has to be computed anyway.

    python benchmarks/dashboards.py [--quick] [--json FILE]

A random model of two layers and a random SAE with 16 features active on a token read 256 random
prompts of 64 tokens; 64 features are shown. "Build" is what the store costs a feature, which is
made once; "view" the time a feature takes from there to its JSON; "floor" what of it the model's
run over all prompts takes, and "products" those of final streams with the unembedding. The page
shows 70 windows of 11 tokens a feature, as published tools do, or the store's default.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from measure import flags, machine, peak_bytes, read_flags, table, wait, write_json
from transformer_lens import HookedTransformer, HookedTransformerConfig

import sae_circuits as sc
from sae_circuits.dashboards.build import profiles
from sae_circuits.dashboards.model_effects import Options
from sae_circuits.dashboards.view_file import dumped, plain
from sae_circuits.features.corpus import Corpus, Vocabulary
from sae_circuits.features.examples import Wanted, Windows
from sae_circuits.features.store.tables import Contents
from sae_circuits.models.dictionaries import Dictionary, Site
from sae_circuits.models.dictionaries.gates import TopK

D_MODEL, D_SAE, LAYERS, ACTIVE = 128, 1024, 2, 16
PROMPTS, LENGTH, FEATURES = 256, 64, 64
PUBLISHED = Contents(Windows(5, 5), Wanted(20, 10, 0, random=0))


@dataclass(frozen=True)
class Case:
    """A vocabulary, which windows to show, and how."""

    vocabulary: int = 5000
    published: bool = True
    loss_effects: bool = True
    block: int = 64
    device: str = "cpu"


def store(case: Case) -> tuple[sc.FeatureDictionary, float]:
    """A store of random features, and the seconds that its making took."""
    torch.manual_seed(0)
    config = HookedTransformerConfig(
        n_layers=LAYERS, d_model=D_MODEL, n_ctx=LENGTH, d_head=32, n_heads=4, d_mlp=4 * D_MODEL,
        d_vocab=case.vocabulary, act_fn="gelu", normalization_type="LNPre", seed=0,
        model_name="random", device=case.device,
    )  # fmt: skip
    model = HookedTransformer(config).eval()
    model.unembed.W_U.data = torch.randn(D_MODEL, case.vocabulary).to(case.device) / D_MODEL**0.5
    W = torch.nn.functional.normalize(torch.randn(D_SAE, D_MODEL), dim=1)
    site = Site.parse(f"blocks.{LAYERS - 1}.hook_resid_pre")
    sae = Dictionary(
        "random", site, (site,), W.T.contiguous(), torch.zeros(D_SAE), (W,),
        torch.zeros(D_MODEL), TopK(ACTIVE),
    )  # fmt: skip
    rng = np.random.default_rng(0)
    prompts = list(rng.integers(0, case.vocabulary, (PROMPTS, LENGTH)))
    vocabulary = Vocabulary(tuple(f" {i}" for i in range(case.vocabulary)))
    corpus = Corpus.of_prompts(prompts, vocabulary, "random")
    sae = sae.to(case.device)
    contents = PUBLISHED if case.published else Contents()
    start = time.perf_counter()
    found = sc.FeatureDictionary.build(model, sae, corpus, contents=contents)
    return found, time.perf_counter() - start


def viewed(features: sc.FeatureDictionary, case: Case) -> list[str]:
    """The JSON of the features, one after the other."""
    options = Options(loss_effects=case.loss_effects)
    found = profiles(features, range(FEATURES), options, block=case.block)
    return [dumped(plain(one)) for one in found]


def best_of(function: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """The least seconds of several calls: by the clock, and of this process's own work."""
    times = list[tuple[float, float]]()
    for _ in range(repeats):
        start = time.perf_counter(), time.process_time()
        function()
        wait()
        times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return min(t[0] for t in times), min(t[1] for t in times)


def floor(features: sc.FeatureDictionary) -> tuple[float, float]:
    """Seconds of the model's run over all prompts, and of as many products as there are tokens."""
    source: Any = features.source
    model, tokens = source.adapter.model, torch.from_numpy(features.corpus.tokens.astype(np.int64))
    rows, W = tokens.view(PROMPTS, LENGTH), model.W_U
    x = torch.randn(64, D_MODEL).to(W.device)
    with torch.no_grad():
        model(rows[:64], return_type=None)
        run = best_of(lambda: [model(some, return_type=None) for some in rows.split(64)], 3)[0]
        product = best_of(lambda: x @ W, 5)[0] / len(x)
    return run, product


def view_function(case: Case) -> Callable[[], Any]:
    """A function to measure, with its store."""
    torch.set_num_threads(1)
    features, _ = store(case)
    viewed(features, replace(case, loss_effects=False))
    return partial(viewed, features, case)


def measured(case: Case, repeats: int) -> dict[str, Any]:
    """Milliseconds and bytes a feature."""
    features, build = store(case)
    pages = viewed(features, case)
    clock, own = best_of(partial(viewed, features, case), repeats)
    run, product = floor(features)
    return {
        "vocabulary": case.vocabulary,
        "windows": "published" if case.published else "default",
        "loss_effects": case.loss_effects,
        "block": case.block,
        "build_ms": 1e3 * build / D_SAE,
        "view_ms": 1e3 * clock / FEATURES,
        "own_ms": 1e3 * own / FEATURES,
        "floor_ms": 1e3 * run / FEATURES,
        "product_us": 1e6 * product,
        "kb": sum(len(page.encode()) for page in pages) / FEATURES / 1e3,
    }


def main() -> None:
    """Print a table of all cases."""
    parser = flags(__doc__, "no large vocabulary, one repeat", repeats=5)
    args = read_flags(parser)
    cases = [
        Case(loss_effects=False), Case(), Case(published=False), Case(block=16), Case(block=1),
    ]  # fmt: skip
    if not args.quick:
        cases.append(Case(vocabulary=50_257))
    cases = [replace(case, device=args.device) for case in cases]
    print(f"{D_SAE:,} features, {PROMPTS} prompts of {LENGTH} tokens; {machine(args.device)}\n")
    rows = [measured(case, 1 if args.quick else args.repeats) for case in cases]
    peak = None if args.quick else peak_bytes(partial(view_function, cases[-1]), args.device)
    print(
        table(
            ["vocabulary", "windows", "loss effects", "block", "build", "view", "its own work",
             "floor: run", "a product", "size"],
            [
                [
                    f"{r['vocabulary']:,}", r["windows"], "yes" if r["loss_effects"] else "no",
                    f"{r['block']}", f"{r['build_ms']:.1f} ms", f"{r['view_ms']:.1f} ms",
                    f"{r['own_ms']:.1f} ms", f"{r['floor_ms']:.1f} ms",
                    f"{r['product_us']:.0f} us", f"{r['kb']:.1f} kB",
                ]
                for r in rows
            ],
        )
    )  # fmt: skip
    if peak is not None:
        print(f"\nPeak memory of the last one above what was held: {peak / 1e6:.0f} MB")
    write_json(args.json, {"cases": rows, "peak_bytes": peak}, args.device)


if __name__ == "__main__":
    main()
