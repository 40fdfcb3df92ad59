"""Which corpus a command takes, by its options `--corpus`, `--field` and `--n-ctx`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sae_circuits.errors import FileFormatError, OptionError

if TYPE_CHECKING:
    from sae_circuits.features.corpus import Corpus

Corpora = Annotated[
    list[str],
    typer.Option(
        "--corpus",
        help="demo:N or demo:N:SEED, N tokens of the bundled model's language; or a .txt, .jsonl "
        "or .json file. Again for each, and one follows the other.",
    ),
]
Field = Annotated[str, typer.Option(help="What holds the text, in objects of JSON files.")]
NCtx = Annotated[
    int | None,
    typer.Option(
        "--n-ctx", min=1, help="Tokens of a prompt at most; by default those the model reads."
    ),
]

_DEMO = re.compile(r"demo:(?P<n>[0-9][0-9_,]*)(?::(?P<seed>[0-9]+))?")


@dataclass(frozen=True)
class Texts:
    """What the options say."""

    said: tuple[str, ...]
    field: str = "text"
    n_ctx: int | None = None

    def check(self) -> None:
        """Refuse what can be seen to be wrong before a model is loaded.

        Raises:
            OptionError: a size of the bundled corpus that is none.
            FileFormatError: there is no such file.
        """
        for one in self.said:
            if one.partition(":")[0] == "demo" and not Path(one).exists():
                _demo(one)
            elif not Path(one).is_file():
                raise FileFormatError(
                    f"cannot read {one!r}: no such file; give a .txt, .jsonl or .json file, or "
                    "demo:20000 for so many tokens of the bundled model's language"
                )

    def open(self, model: Any) -> Corpus:
        """Read or make all of it with a model's tokenizer."""
        return reduce(add, (self._one(one, model) for one in self.said))

    def _one(self, said: str, model: Any) -> Corpus:
        from sae_circuits.features.corpora import from_files
        from sae_circuits.features.demo_text import demo_corpus

        if not Path(said).exists():
            n, seed = _demo(said)
            return demo_corpus(n, seed, model=model)
        return from_files(said, model, field=self.field, n_ctx=self.n_ctx)


def _demo(said: str) -> tuple[int, int]:
    """The size and the seed of a part of the bundled corpus."""
    found = _DEMO.fullmatch(said)
    n = int(re.sub("[_,]", "", found["n"])) if found else 0
    if found is None or n < 1:
        raise OptionError(
            f"--corpus {said!r}: give a number of tokens, and a seed if you like, as demo:20000 "
            "or demo:20000:1"
        )
    return n, int(found["seed"] or 0)
