"""Edges between SAE features through attention and MLPs, beside the published procedure.

    python benchmarks/feature_vjps.py [--quick] [--json FILE] [--peer PYTHON --checkout FOLDER]

Random models with random SAEs on attn_out, mlp_out and resid_post of every layer, about 40 features
active a token; the edges among the strongest features and all error nodes. Timed are the edges as
a whole (`attribute` with `through=True`: runs, encoding, gradients and kernel) and two peers:

- plain: the procedure of sparse feature circuits (Marks et al. 2024, arXiv 2403.19647), written
  here without its code, so that nothing is lost to a framework: for each reader one backward pass
  through its component on the whole batch, and the product with every node that it sees. Its nodes
  are ours, so all edges are compared;
- published: the code of that paper, in FOLDER, run by the PYTHON of an environment that has what it
  needs (see `peer_feature_circuits.py`). It takes a backward pass for each writing dictionary,
  reading feature *and token*. Edges between features are compared: its error nodes hold less (what
  we leave out are nodes there), and are no readers here, so that its time holds no pass for them.

Memory is the peak above what is held before, each in a process of its own. `--quick` takes the
smaller size alone, with two layers.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from measure import flags, machine, peak_bytes, ratios, read_flags, seconds, table, write_json
from plain_feature_circuits import plain_edges
from safetensors.torch import load_file, save_file

import sae_circuits as sc
from sae_circuits.models.dictionaries import Site
from sae_circuits.models.dictionaries.gates import Threshold
from shapes import gpt2_shaped, random_task

ACTIVE, BATCH, TOKENS = 40, 4, 8
SMALL = {"n_layers": 4, "d_model": 128, "n_heads": 4, "d_head": 32, "d_vocab": 5000}
MEDIUM = {"n_layers": 6, "d_model": 512, "n_heads": 8, "d_head": 64, "d_vocab": 5000}
SIZES = {  # sizes, features of a dictionary, features that stay
    "quick": ({**SMALL, "n_layers": 2}, 1024, 100),
    "small": (SMALL, 1024, 215),
    "medium": (MEDIUM, 8192, 123),
}
KINDS = {"attn_out": "a", "mlp_out": "m", "resid_post": "post"}


def random_saes(model: Any, task: sc.Task, n_features: int) -> list[sc.Dictionary]:
    """SAEs of random directions at three places of each layer, with thresholds to match."""
    places = [(kind, layer) for layer in range(model.cfg.n_layers) for kind in KINDS]
    names = [f"blocks.{layer}.hook_{kind}" for kind, layer in places]
    _, kept = model.run_with_cache(task.clean, names_filter=names)
    saes = []
    for seed, ((kind, layer), name) in enumerate(zip(places, names, strict=True)):
        x = kept[name].flatten(0, 1)
        generator = torch.Generator().manual_seed(seed)
        W = torch.randn(n_features, x.shape[1], generator=generator).to(x)
        W = W / W.norm(dim=1, keepdim=True)
        pre = (x @ W.T).flatten().sort(descending=True).values
        n = len(x) * ACTIVE
        threshold = (pre[n - 1] + pre[n]) / 2  # between two, or rounding would move a gate
        saes.append(
            sc.Dictionary(
                name=f"random.{kind}.{layer}",
                reads=Site(kind, layer),
                writes=(Site(kind, layer),),
                W_enc=W.T.contiguous(),
                b_enc=W.new_zeros(n_features),
                decoders=(W,),
                b_dec=W.new_zeros(x.shape[1]),
                gate=Threshold(threshold.expand(n_features)),
            )
        )
    return saes


@cache
def problem(size: str, device: str) -> tuple[Any, sc.Task, sc.TensorGraph]:
    """A model, a task, and a graph of the strongest features of each dictionary."""
    sizes, n_features, n_nodes = SIZES[size]
    model = gpt2_shaped(device=device, **sizes)
    task = random_task(model, BATCH, TOKENS).to(device)
    saes = random_saes(model, task, n_features)
    graph = sc.TensorGraph.from_model(model, saes=saes, through=True)
    nodes = sc.attribute_nodes(model, graph, task, method="eap", batch_size=len(task))
    names = [split.name for split in graph.splits.values()]
    each, more = divmod(n_nodes, len(names))
    kept = [nodes.features(each + (i < more), splits=[name]) for i, name in enumerate(names)]
    return model, task, graph.restrict([node for some in kept for node in some])


def ours(model: Any, task: sc.Task, graph: sc.TensorGraph) -> sc.Scores:
    """Scores of all edges."""
    return sc.attribute(model, graph, task, method="eap", batch_size=len(task))


def make(function: Callable[..., Any], size: str, device: str) -> Callable[[], Any]:
    """One case, ready to run."""
    held = problem(size, device)
    function(*held)  # imports and first calls
    return partial(function, *held)


CASES = {"attribute": ours, "plain": plain_edges}


def beside_plain(size: str, device: str, repeats: int) -> dict[str, Any]:
    """Both, in turn."""
    held = problem(size, device)
    times = seconds({name: partial(f, *held) for name, f in CASES.items()}, repeats)
    found, plain = ours(*held).values, held[2].flat(plain_edges(*held))
    return {
        "size": size,
        "nodes": held[2].n_src,
        "edges": held[2].n_edges,
        **{f"{name}_seconds": min(times[name]) for name in CASES},
        **{
            f"{name}_bytes": peak_bytes(partial(make, f, size, device), device)
            for name, f in CASES.items()
        },
        "plain_over_attribute": ratios(times, "plain", "attribute"),
        "plain_difference": float((found - plain).abs().max() / plain.abs().max()),
    }


def beside_published(size: str, peer: str, checkout: Path) -> dict[str, Any]:
    """One call of the published code."""
    model, task, graph = problem(size, "cpu")  # the peer runs there
    fields = ("n_layers", "d_model", "n_heads", "d_vocab", "n_ctx")
    made = {
        "cfg": {name: getattr(model.cfg, name) for name in fields},
        **{name: getattr(task, name).tolist() for name in ("clean", "corrupt", "answer", "wrong")},
    }
    weights: dict[str, torch.Tensor] = {}
    for split in graph.splits.values():
        dictionary: Any = split.dictionary
        weights[f"{split.name}.W"] = dictionary.W_dec
        weights[f"{split.name}.threshold"] = dictionary.gate.threshold.contiguous()
        weights[f"{split.name}.chosen"] = torch.tensor(list(graph.chosen(split)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "problem.json").write_text(json.dumps(made))
        save_file(
            {k: x.contiguous() for k, x in model.named_parameters()}, folder / "model.safetensors"
        )
        save_file(weights, folder / "saes.safetensors")
        script = Path(__file__).with_name("peer_feature_circuits.py")
        command = [peer, str(script), name, str(checkout), str(torch.get_num_threads())]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"the peer failed:\n{done.stderr[-2000:]}")
        found = json.loads(done.stdout.splitlines()[-1])
        scores = load_file(folder / "peer.safetensors")
    found["difference"] = difference(ours(model, task, graph), scores)
    return {f"published_{name}": value for name, value in found.items()}


def difference(own: sc.Scores, peer: dict[str, torch.Tensor]) -> float:
    """The largest difference of edges between features, in units of the largest of them."""
    graph, dense = own.graph, own.dense()
    src, dest = (
        {
            f"{b.site}{b.layer}": slice(i, i + len(b))
            for i, b in starts.values()
            if b.kind == "feature"
        }
        for starts in (graph.src_starts, graph.dest_starts)
    )
    pairs = [(dense[src[up], dest[down]], x) for (up, down), x in _by_ends(peer)]
    apart = max(float((a - b).abs().max()) for a, b in pairs)
    return apart / max(float(b.abs().max()) for _, b in pairs)


def _by_ends(peer: dict[str, torch.Tensor]) -> list[tuple[list[str], torch.Tensor]]:
    return [(name.split("->"), x.T) for name, x in peer.items()]


def main() -> None:
    parser = flags(__doc__, "one small size", repeats=5)
    parser.add_argument("--peer", help="the python of an environment for the published code")
    parser.add_argument("--checkout", type=Path, help="a folder with the published code")
    args = read_flags(parser)
    rows = []
    for size in ("quick",) if args.quick else ("small", "medium"):
        rows.append(beside_plain(size, args.device, args.repeats))
        if args.peer:
            rows[-1] |= beside_published(size, args.peer, args.checkout)
    print(f"{BATCH} prompts of {TOKENS} tokens; {machine(args.device)}\n")
    show(rows)
    write_json(args.json, {"feature_vjps": rows}, args.device)


def show(rows: list[dict[str, Any]]) -> None:
    head = ["size", "nodes", "edges", "by", "seconds", "over attribute", "peak MB", "differ by"]
    lines = []
    for r in rows:
        for case in ("attribute", "plain", "published"):
            if f"{case}_seconds" not in r:
                continue
            over = r[f"{case}_seconds"] / r["attribute_seconds"]
            over = r.get(f"{case}_over_attribute", over)
            apart = r.get(f"{case}_difference")
            lines.append([
                r["size"], str(r["nodes"]), f"{r['edges']:,}", case, f"{r[f'{case}_seconds']:.2f}",
                f"{over:.1f}", f"{r[f'{case}_bytes'] / 1e6:.0f}",
                "" if apart is None else f"{apart:.1e}",
            ])  # fmt: skip
        if "published_passes" in r:
            print(
                f"{r['size']}: the published code takes {r['published_passes']:,} backward passes"
            )
    print(table(head, lines))


if __name__ == "__main__":
    main()
