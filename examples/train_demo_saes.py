"""Train the SAEs and transcoders that ship with the bundled model, and write their card.

For each layer: an SAE on z, on the MLP's output and on the stream after the layer, and a
transcoder and a skip transcoder for the MLP. The SAEs are trained by sae-lens; transcoders, for
which it has no training class, by a loop of ours (BatchTopK, Bussmann et al. 2024,
arXiv 2412.06410). Two sites of layer 1 have a second SAE of another architecture (JumpReLU,
Rajamanoharan et al. 2024, arXiv 2407.14435), to compare dictionaries.

    python examples/train_demo_saes.py --out saes/ --seed 0
    python examples/train_demo_saes.py --out saes/ --only mlp_out.1-jumprelu resid_post.1-jumprelu
"""

from __future__ import annotations

import argparse
import json
import random
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from train_demo_model import examples, held_out_task

from sae_circuits import metrics, tasks
from sae_circuits.models import load_model
from sae_circuits.models.dictionaries import Dictionary, load_saes
from sae_circuits.progress import track
from sae_circuits.tasks.task import Task

FEATURES, ACTIVE = 256, 16  # and how many of them are active on a token, in the mean
TOKENS, BATCH, STEPS, RATE = 300_000, 1024, 2000, 2e-3  # tokens and steps unless asked otherwise
EXAMPLES = 300  # of each task, to measure on
POINTS = {
    "z": "attn.hook_z",
    "mlp_normalized": "ln2.hook_normalized",
    "mlp_out": "hook_mlp_out",
    "resid_post": "hook_resid_post",
}
SAES = ("z", "mlp_out", "resid_post")
CODERS = ("transcoder", "skip_transcoder")
PRICES = {"mlp_out.1-jumprelu": 0.1, "resid_post.1-jumprelu": 0.2}
"""What one active feature of a token costs in a JumpReLU SAE's loss."""


def names(n_layers: int) -> list[str]:
    """Of all dictionaries, in the order in which they are trained."""
    return [f"{kind}.{i}" for i in range(n_layers) for kind in (*SAES, *CODERS)] + list(PRICES)


def hook(kind: str, layer: int) -> str:
    """The hook point of a site."""
    return f"blocks.{layer}.{POINTS[kind]}"


# -- activations -----------------------------------------------------------------------------------


@torch.no_grad()
def activations(model: Any, seed: int, tokens: int = TOKENS) -> dict[str, Tensor]:
    """What stands at every site on the tokens of training examples, the first of each left out."""
    stream = examples(model.tokenizer, random.Random(seed))
    points = [hook(kind, layer) for kind in POINTS for layer in range(model.cfg.n_layers)]
    kept: dict[str, list[Tensor]] = {name: [] for name in points}
    n = 0
    while n < tokens:
        rows = [next(stream).ids for _ in range(256)]
        ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
        real = torch.zeros_like(ids, dtype=torch.bool)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            real[i, 1 : len(row)] = True
        _, cache = model.run_with_cache(ids, names_filter=points)
        for name in points:
            kept[name].append(cache[name].flatten(2)[real])
        n += int(real.sum())
    return {name: torch.cat(some)[:tokens] for name, some in kept.items()}


def batches(*data: Tensor, seed: int) -> Iterator[tuple[Tensor, ...]]:
    """Random batches without end, of the same tokens in each tensor."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        for rows in torch.randperm(len(data[0]), generator=generator).split(BATCH)[:-1]:
            yield tuple(x[rows] for x in data)


# -- training --------------------------------------------------------------------------------------


def untrained(d_in: int, price: float | None) -> Any:
    """A TopK SAE; with a price for each active feature, a JumpReLU SAE."""
    from sae_lens import saes

    shape = {"d_in": d_in, "d_sae": FEATURES, "normalize_activations": "expected_average_only_in"}
    if price is None:
        return saes.TopKTrainingSAE(saes.TopKTrainingSAEConfig(k=ACTIVE, **shape))
    jumps = {"jumprelu_init_threshold": 0.1, "jumprelu_bandwidth": 0.5}  # inputs' norm is 8
    cfg = saes.JumpReLUTrainingSAEConfig(l0_coefficient=price, **jumps, **shape)
    return saes.JumpReLUTrainingSAE(cfg)


def train_sae(
    x: Tensor, name: str, *, price: float | None, steps: int, seed: int, out: Path
) -> None:
    """Train an SAE with sae-lens, and save what inference needs."""
    from sae_lens import SAETrainer, config

    torch.manual_seed(seed)
    sae = untrained(x.shape[1], price)
    sae.cfg.metadata.hook_name, sae.cfg.metadata.model_name = name, "demo"
    trainer = SAETrainer(
        config.SAETrainerConfig(
            total_training_samples=steps * BATCH,
            train_batch_size_samples=BATCH,
            lr=RATE,
            lr_end=RATE / 10,
            lr_decay_steps=steps // 3,
            dead_feature_window=200,
        ),
        sae,
        (rows for (rows,) in batches(x, seed=seed)),
    )
    trainer.fit().save_inference_model(out)


def train_transcoder(
    x: Tensor, y: Tensor, layer: int, *, skip: bool, steps: int, seed: int, out: Path
) -> None:
    """Train a transcoder from an MLP's input to its output, and save it in sae-lens's form.

    In training the features that are largest over a batch are active; the mean of the smallest of
    these becomes the threshold of all.
    """
    from sae_lens import saes

    torch.manual_seed(seed)
    make = saes.JumpReLUSkipTranscoder if skip else saes.JumpReLUTranscoder
    configure = saes.JumpReLUSkipTranscoderConfig if skip else saes.JumpReLUTranscoderConfig
    coder = make(
        configure(d_in=x.shape[1], d_sae=FEATURES, d_out=y.shape[1], apply_b_dec_to_input=False)
    )
    coder.cfg.metadata.hook_name = hook("mlp_normalized", layer)
    coder.cfg.metadata.hook_name_out = hook("mlp_out", layer)
    coder.cfg.metadata.model_name = "demo"
    with torch.no_grad():
        coder.W_dec.div_(coder.W_dec.norm(dim=1, keepdim=True))
        coder.b_dec.copy_(y.mean(0))
    optimizer = torch.optim.Adam([p for n, p in coder.named_parameters() if n != "threshold"], RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, 3.3 * (1 - step / steps) + 0.1)
    )
    spread, lowest = y.var(0).sum(), 0.0
    for _, (some_x, some_y) in zip(range(steps), batches(x, y, seed=seed), strict=False):
        pre = some_x @ coder.W_enc + coder.b_enc
        scaled = pre.relu() * coder.W_dec.norm(dim=1)
        cut = scaled.flatten().topk(ACTIVE * BATCH, sorted=False).values.min()
        lowest = 0.99 * lowest + 0.01 * cut.item()
        made = (pre * (scaled >= cut)) @ coder.W_dec + coder.b_dec
        made = made + some_x @ coder.W_skip.T if skip else made
        loss = (made - some_y).pow(2).sum(1).mean() / spread
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        coder.threshold.copy_(lowest / coder.W_dec.norm(dim=1))
    coder.save_model(out)


def train(name: str, data: dict[str, Tensor], *, steps: int, seed: int, out: Path) -> None:
    """Train the dictionary of a name on what stands at its sites."""
    kind, number = name.removesuffix("-jumprelu").split(".")
    layer = int(number)
    if kind in SAES:
        at, price = hook(kind, layer), PRICES.get(name)
        train_sae(data[at], at, price=price, steps=steps, seed=seed, out=out)
    else:
        x, y = (data[hook(site, layer)] for site in ("mlp_normalized", "mlp_out"))
        skip = kind == "skip_transcoder"
        train_transcoder(x, y, layer, skip=skip, steps=steps, seed=seed, out=out)
    halve(out)


def halve(folder: Path) -> None:
    """Store weights in 16 bits: half the size, and far finer than the reconstruction's error."""
    path = folder / "sae_weights.safetensors"
    save_file({name: x.half() for name, x in load_file(path).items()}, path)
    path.chmod(0o644)
    settings = folder / "cfg.json"
    cfg = json.loads(settings.read_text()) | {"dtype": "float16", "device": "cpu"}
    settings.write_text(json.dumps(cfg, indent=2, sort_keys=True) + "\n")


# -- measuring -------------------------------------------------------------------------------------


@torch.no_grad()
def measure(d: Dictionary, x: Tensor, y: Tensor) -> dict[str, float]:
    """Figures on tokens that were not trained on: input x, and y what it should give."""
    f = d.encode(x)
    residue = (y - d.decode(f, x)).pow(2).sum() / (y - y.mean(0)).pow(2).sum()
    return {
        "L0": round((f != 0).sum(1).float().mean().item(), 2),
        "explained variance": round(1 - residue.item(), 4),
        "never active": int((~(f != 0).any(0)).sum()),
    }


@torch.no_grad()
def spliced(model: Any, task: Task, d: Dictionary | None) -> tuple[float, float]:
    """Accuracy and logit difference with a dictionary's output in place of what stands there."""
    held: dict[str, Tensor] = {}

    def read(x: Tensor, hook: Any) -> None:
        held["x"] = x.flatten(2)

    def write(y: Tensor, hook: Any) -> Tensor:
        return d(held["x"]).view_as(y)

    hooks = []
    if d is not None:
        hooks = [
            (hook(d.reads.kind, d.reads.layer), read),
            (hook(d.writes[0].kind, d.writes[0].layer), write),
        ]
    logits = model.run_with_hooks(task.clean, fwd_hooks=hooks)
    logits = logits[torch.arange(len(task)), task.position]
    targets = metrics.Targets(task.answer, task.wrong, logits)
    accuracy = metrics.accuracy(logits, targets).mean().item()
    return accuracy, metrics.logit_diff(logits, targets).mean().item()


def figures(
    model: Any, found: list[Dictionary], tokens: int, seed: int, n_examples: int
) -> dict[str, dict[str, float]]:
    """All figures of all dictionaries, on other tokens than they were trained on."""
    held = activations(model, seed + 1, tokens)
    measured_on = [held_out_task(name, model, n_examples) for name in tasks.DEMO]
    whole = [spliced(model, task, None) for task in measured_on]
    result = {}
    for d in track(found, total=len(found), description="measuring"):
        x, y = (held[hook(s.kind, s.layer)] for s in (d.reads, d.writes[0]))
        with_it = [spliced(model, task, d) for task in measured_on]
        result[d.name] = {
            **measure(d, x, y),
            "accuracy": round(sum(a for a, _ in with_it) / len(with_it), 4),
            "logit difference kept": round(
                sum(a[1] / b[1] for a, b in zip(with_it, whole, strict=True)) / len(whole), 4
            ),
        }
    return result


CARD = """\
# Dictionaries of the bundled model

For each of its four layers: SAEs on z, on the MLP's output and on the stream after it (TopK), and a
transcoder and a skip transcoder for the MLP (JumpReLU, trained as BatchTopK). To compare
dictionaries, two sites of layer 1 have a second SAE (JumpReLU), which loads by its name only.
They are {n}, of {features} features each, in sae-lens's own format, weights in 16 bits:
{size:.2f} MB in all.

They were trained by `examples/train_demo_saes.py --seed {seed}` on {tokens:,} tokens of the model's
training data, {steps:,} steps of {batch}, in about {seconds:.0f} seconds each on one thread.

{table}

Measured on as many other tokens, the first of each prompt left out. *Explained*: the share of the
variance of what the dictionary is to give. *Never*: features not active on any of these tokens.
The last two columns are means over the six tasks on held-out data ({examples} examples each), with
the dictionary's output alone in place of what stands there, without its error: accuracy, and the
share of the logit difference that is left. The figures are in `figures.json` too. MIT licence.
"""


def table(rows: dict[str, dict[str, float]]) -> str:
    """The figures in Markdown."""
    lines = [
        "| dictionary | L0 | explained | never | accuracy | logit difference |",
        "|---|---|---|---|---|---|",
    ]
    for name, f in rows.items():
        lines.append(
            f"| {name} | {f['L0']:.1f} | {f['explained variance']:.1%} | {f['never active']} "
            f"| {f['accuracy']:.1%} | {f['logit difference kept']:.1%} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a folder for all dictionaries")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokens", type=int, default=TOKENS, help="to train on")
    parser.add_argument("--steps", type=int, default=STEPS, help="of training, for each")
    parser.add_argument(
        "--examples", type=int, default=EXAMPLES, help="of each task, to measure on"
    )
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="train these, and take others as they lie there"
    )
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    started = time.process_time()
    model = load_model("demo", kind="hooked")
    if wrong := set(args.only or ()) - set(names(model.cfg.n_layers)):
        parser.error(f"no such dictionary: {', '.join(sorted(wrong))}")
    data = activations(model, args.seed, args.tokens)
    chosen = args.only or names(model.cfg.n_layers)
    for name in track(chosen, total=len(chosen), description="training"):
        train(name, data, steps=args.steps, seed=args.seed, out=args.out / name)
    seconds = (time.process_time() - started) / len(chosen)
    found = load_saes(args.out, dtype=torch.float32)
    rows = figures(model, found, args.tokens, args.seed, args.examples)
    (args.out / "figures.json").write_text(json.dumps(rows, indent=2) + "\n")
    size = sum(path.stat().st_size for path in args.out.rglob("*.safetensors")) / 1e6
    card = CARD.format(
        n=len(found), features=FEATURES, size=size, seed=args.seed, tokens=args.tokens,
        steps=args.steps, batch=BATCH, seconds=seconds, table=table(rows), examples=args.examples,
    )  # fmt: skip
    (args.out / "README.md").write_text(card)
    for extra in args.out.glob("*/sparsity.safetensors"):
        extra.unlink()
    print(card)


if __name__ == "__main__":
    main()
