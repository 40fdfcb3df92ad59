"""Train the small language model that ships with sae-circuits, and write its model card.

The model learns the six bundled tasks and nothing else. What the card's figures are measured on
is held out from training: templates, places, events and years, and pairs of names, of nouns and of
argument names. Two runs with the same seed on the same machine give the same weights.

    python examples/train_demo_model.py --out demo/ --seed 0 --steps 4000
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from sae_circuits import metrics, tasks
from sae_circuits.features.demo_text import CONTEXT, PATTERN, SHARES, all_words, repeats
from sae_circuits.models import load_model
from sae_circuits.progress import track
from sae_circuits.tasks.recipes import Pair, Recipe, Write, build
from sae_circuits.tasks.task import Task
from sae_circuits.tasks.vocabulary import Vocabulary
from sae_circuits.tasks.words import WordLists

BOS, UNKNOWN, PADDING = "<|endoftext|>", "<|unknown|>", "<|padding|>"
LAYERS, HEADS, WIDTH = 4, 4, 64
BATCH, PIECES, RATE, WARM_UP = 128, 4, 2e-3, 200  # a batch goes through in pieces
ELSEWHERE = 0.2  # the weight of a token that is not an answer
EXAMPLES = 1000  # of each task, to measure on

# -- what is held out ------------------------------------------------------------------------------

HELD_OUT_TEMPLATES = slice(2, None, 3)
HELD_OUT_ENTRIES = {"ioi": ("places",), "greater_than": ("events", "years")}
HELD_OUT_PAIRS = {"ioi": "names", "subject_verb": "nouns", "docstring": "arguments"}
FIRST_YEARS = tuple(f"{century}01" for century in range(11, 19))  # where corrupt prompts begin
STRIDE = 5  # one entry of a list, or one pair of its entries, in five


def is_held_out(pair: Pair, entries: Sequence[str]) -> bool:
    """Tell whether the first two different entries of a list that a prompt holds are kept apart."""
    entry = {form: entry for entry in entries for form in entry.split()}
    words = (entry[word] for word in re.findall(r"\w+", pair.clean) if word in entry)
    first, second, *_ = dict.fromkeys(words)
    return zlib.crc32(" ".join(sorted((first, second))).encode()) % STRIDE == 0


def filtered(recipe: Recipe, *, held_out: bool) -> Write:
    """Draw until a pair of words is of the wanted kind."""
    entries = recipe.words.get(HELD_OUT_PAIRS.get(recipe.name, ""))
    if entries is None:
        return recipe.write

    def write(rng: random.Random, template: str, words: WordLists) -> Pair:
        while is_held_out(pair := recipe.write(rng, template, words), entries) != held_out:
            pass
        return pair

    return write


def part(name: str, *, held_out: bool) -> Recipe:
    """Return what of a task is trained on, or what is held out."""
    recipe = tasks.recipe(name)
    words = dict(recipe.words)
    for key in HELD_OUT_ENTRIES.get(name, ()):
        apart = words[key][::STRIDE]
        words[key] = apart if held_out else tuple(e for e in words[key] if e not in apart)
    if name == "greater_than" and not held_out:
        words["years"] += FIRST_YEARS
    apart = recipe.templates[HELD_OUT_TEMPLATES] or recipe.templates
    rest = tuple(t for t in recipe.templates if t not in apart) or recipe.templates
    return replace(
        recipe,
        words=words,
        templates=apart if held_out else rest,
        write=filtered(recipe, held_out=held_out),
    )


# -- the tokenizer ---------------------------------------------------------------------------------


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Make the word-level tokenizer: one token a word, two digits, or a run of signs."""
    words = [BOS, UNKNOWN, PADDING, *all_words()]
    model = tokenizers.models.WordLevel({w: i for i, w in enumerate(words)}, unk_token=UNKNOWN)
    core = tokenizers.Tokenizer(model)
    core.pre_tokenizer = tokenizers.pre_tokenizers.Split(
        tokenizers.Regex(PATTERN), behavior="removed", invert=True
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=BOS,
        eos_token=BOS,
        unk_token=UNKNOWN,
        pad_token=PADDING,
        add_bos_token=True,
        model_max_length=CONTEXT,
        name_or_path="sae-circuits/demo",
    )


# -- training data ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids; whether each can be told from those before it; what may follow the last."""

    ids: list[int]
    known: list[bool]
    answers: list[int]


def examples(tokenizer: PreTrainedTokenizerFast, rng: random.Random) -> Iterator[Example]:
    """Yield training examples of all tasks without end."""
    known = Vocabulary(tokenizer)
    words = list(range(len(tokenizer)))[3:]
    openings = [[known.bos], [known.bos, *known.encode("List:")]]
    streams = {name: part(name, held_out=False).pairs(rng) for name in SHARES}
    while True:
        (name,) = rng.choices(list(SHARES), weights=list(SHARES.values()))
        if name == "induction":
            start = rng.choice(openings)
            ids, known_ids = repeats(rng, words, CONTEXT)
            flags = [False] * len(start) + known_ids
            yield Example((start + ids)[:CONTEXT], flags[:CONTEXT], [])
        else:
            pair = next(streams[name])
            ids = [known.bos, *known.encode(pair.clean)]
            answers = [known.following(pair.clean, answer) for answer in pair.answer]
            yield Example(ids, [False] * len(ids), answers)


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a batch: prompts of like length, with each target's share in the batch's loss.

    Every right answer to a prompt is as likely as the next, so each has the same share.
    """

    ids: Tensor  # [batch, pos]
    shares: Tensor  # [batch, pos], of each token as the one that follows
    last: Tensor  # [batch], the last token's position
    answers: Tensor  # [batch, answer]
    answer_shares: Tensor  # [batch, answer]


def make_piece(rows: Sequence[Example], total: float) -> Piece:
    """Pad examples to one width, and divide their weights by the batch's."""
    shape = (len(rows), max(len(row.ids) for row in rows))
    answer_shape = (len(rows), max(1, *(len(row.answers) for row in rows)))
    ids, answers = torch.zeros(shape, dtype=torch.int64), torch.zeros(answer_shape).long()
    shares, answer_shares = torch.zeros(shape), torch.zeros(answer_shape)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = torch.tensor(row.ids)
        shares[i, 1 : len(row.ids)] = torch.tensor(weights(row)) / total
        if row.answers:
            answers[i, : len(row.answers)] = torch.tensor(row.answers)
            answer_shares[i, : len(row.answers)] = 1 / len(row.answers) / total
    last = torch.tensor([len(row.ids) - 1 for row in rows])
    return Piece(ids, shares, last, answers, answer_shares)


def weights(row: Example) -> list[float]:
    """Weigh each token but the first: those that can be known count in full."""
    return [1.0 if known else ELSEWHERE for known in row.known[1:]]


def batches(tokenizer: PreTrainedTokenizerFast, rng: random.Random) -> Iterator[list[Piece]]:
    """Yield batches in pieces."""
    stream = examples(tokenizer, rng)
    while True:
        rows = sorted((next(stream) for _ in range(BATCH)), key=lambda row: len(row.ids))
        total = sum(sum(weights(row)) + bool(row.answers) for row in rows)
        size = BATCH // PIECES
        yield [make_piece(rows[i : i + size], total) for i in range(0, BATCH, size)]


# -- training --------------------------------------------------------------------------------------


def make_model(tokenizer: PreTrainedTokenizerFast) -> GPT2LMHeadModel:
    """Make a GPT-2 of four layers with random weights."""
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=CONTEXT,
            n_ctx=CONTEXT,  # GPT-2's older name for it, which transformer-lens reads
            n_embd=WIDTH,
            n_layer=LAYERS,
            n_head=HEADS,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            activation_function="gelu_pytorch_tanh",  # GPT-2's, as one operation
        )
    )


def loss(model: GPT2LMHeadModel, piece: Piece) -> Tensor:
    """Return a piece's part of the weighted cross-entropy of what follows each token."""
    log_probs = model(piece.ids, use_cache=False).logits.log_softmax(-1)
    following = log_probs[:, :-1].gather(-1, piece.ids[:, 1:, None])[..., 0]
    answered = log_probs[torch.arange(len(piece.ids)), piece.last].gather(-1, piece.answers)
    return -(following * piece.shares[:, 1:]).sum() - (answered * piece.answer_shares).sum()


def train(steps: int, seed: int) -> tuple[GPT2LMHeadModel, PreTrainedTokenizerFast]:
    """Train a model from scratch, on one thread, with one result for one seed."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    tokenizer = make_tokenizer()
    model = make_model(tokenizer).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.05)
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, WARM_UP, steps)
    stream = zip(range(steps), batches(tokenizer, random.Random(seed)), strict=False)
    for step, pieces in track(stream, total=steps, description="training"):
        optimizer.zero_grad()
        value = 0.0
        for piece in pieces:
            part_loss = loss(model, piece)
            part_loss.backward()
            value += part_loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 250 == 0:
            print(f"step {step:5}: loss {value:.3f}", flush=True)
    return model.eval(), tokenizer


def save(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, out: Path) -> str:
    """Write the model and its tokenizer in Hugging Face's GPT-2 format, and hash the weights."""
    model.config.activation_function = "gelu_new"  # the same function, under GPT-2's name for it
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    # transformers 5 gives the class a name that transformers 4 does not know, and leaves out that
    # prompts begin with a token, which transformer-lens asks.
    settings = out / "tokenizer_config.json"
    changes = {"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": True}
    settings.write_text(json.dumps(json.loads(settings.read_text()) | changes, indent=2) + "\n")
    weights = out / "model.safetensors"
    weights.chmod(0o644)
    return hashlib.sha256(weights.read_bytes()).hexdigest()


# -- measuring -------------------------------------------------------------------------------------


def held_out_task(name: str, model: Any, n: int = EXAMPLES, seed: int = 1) -> Task:
    """Make a task of what its training left out."""
    return build(part(name, held_out=True), model, n, seed)


@torch.no_grad()
def measure(model: Any, task: Task) -> dict[str, float]:
    """Return a task's figures, means over its examples."""

    def logits(tokens: Tensor) -> Tensor:
        return model(tokens)[torch.arange(len(task)), task.position]

    clean, corrupt = logits(task.clean), logits(task.corrupt)
    targets = metrics.Targets(task.answer, task.wrong, clean)
    unnamed = metrics.Targets(task.answer, task.wrong[:, :0], clean)
    figures = {
        "accuracy": metrics.accuracy(clean, targets),
        "accuracy over all words": metrics.accuracy(clean, unnamed),
        "logit difference": metrics.logit_diff(clean, targets),
        "logit difference, corrupt": metrics.logit_diff(corrupt, targets),
        "probability difference": metrics.prob_diff(clean, targets),
        "probability difference, corrupt": metrics.prob_diff(corrupt, targets),
    }
    return {name: round(value.mean().item(), 4) for name, value in figures.items()}


def loading_seconds(directory: Path, kind: str) -> float:
    """Return how long a model takes to load once the libraries are imported."""
    load_model(directory, kind=kind)
    start = time.perf_counter()
    load_model(directory, kind=kind)
    return round(time.perf_counter() - start, 2)


# -- the model card --------------------------------------------------------------------------------

CARD = """\
# The bundled model of sae-circuits

A GPT-2 of {layers} layers, {heads} heads a layer and d_model {width}, which reads {context} tokens
of {words} words: {parameters:,} parameters, {size:.2f} MB. It was trained by
`examples/train_demo_model.py --seed {seed} --steps {steps}` on sentences of six tasks and on
repeated random words, and knows nothing else. It is here to find circuits in, offline.

## On held-out data

{table}

Each task was measured on {examples} examples (facts: on the {facts} different ones there are).
*Accuracy*: the best right answer beats every wrong one, and in the next column every other word.
The last columns are clean / corrupt. Held out from training: one template in three of each task but
induction, whose words are drawn anew; one place, event and year (century and start) in five; one
pair of names (ioi), of nouns (subject_verb) and of argument names (docstring) in five, in either
order. Facts are seen in training, in other templates.

## Training

{steps:,} steps of {batch} examples on one thread, {cpu:.0f} seconds of CPU time; torch {torch},
transformers {transformers}. A run with the same seed on the same machine gives the same weights;
these have the SHA-256 `{digest}`.

## Loading

`sae_circuits.load_model("demo")` takes {bridge:.2f} seconds for a `TransformerBridge` and
{hooked:.2f} for a `HookedTransformer`, once the libraries are imported. The figures above are in
`figures.json` too. MIT licence.
"""


def table(figures: dict[str, dict[str, float]]) -> str:
    """Write the figures of all tasks in Markdown."""
    head = (
        "| task | accuracy | over all words | logit difference | probability difference |\n"
        "|---|---|---|---|---|"
    )
    rows = [
        f"| {name} | {f['accuracy']:.1%} | {f['accuracy over all words']:.1%} "
        f"| {f['logit difference']:.2f} / {f['logit difference, corrupt']:.2f} "
        f"| {f['probability difference']:.3f} / {f['probability difference, corrupt']:.3f} |"
        for name, f in figures.items()
    ]
    return "\n".join([head, *rows])


def describe(out: Path, *, steps: int, seed: int, cpu: float, digest: str) -> str:
    """Measure a saved model, write its figures and its card, and return the figures' table."""
    model = load_model(out)
    held_out = {name: held_out_task(name, model) for name in tasks.DEMO}
    figures = {name: measure(model, task) for name, task in held_out.items()}
    (out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    card = CARD.format(
        layers=LAYERS,
        heads=HEADS,
        width=WIDTH,
        context=CONTEXT,
        words=len(model.tokenizer),
        parameters=sum(each.numel() for each in load_file(out / "model.safetensors").values()),
        size=(out / "model.safetensors").stat().st_size / 1e6,
        seed=seed,
        steps=steps,
        batch=BATCH,
        table=table(figures),
        examples=EXAMPLES,
        facts=len(set(held_out["facts"].clean_text)),
        cpu=cpu,
        torch=torch.__version__.partition("+")[0],
        transformers=transformers.__version__,
        digest=digest,
        bridge=loading_seconds(out, "bridge"),
        hooked=loading_seconds(out, "hooked"),
    )
    (out / "README.md").write_text(card)
    return table(figures)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="directory to write the model to")
    parser.add_argument("--steps", type=int, default=4000, help=f"steps of {BATCH} examples")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and of the data")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    start = time.process_time()
    model, tokenizer = train(options.steps, options.seed)
    cpu = time.process_time() - start
    digest = save(model, tokenizer, options.out)
    print(describe(options.out, steps=options.steps, seed=options.seed, cpu=cpu, digest=digest))


if __name__ == "__main__":
    main()
