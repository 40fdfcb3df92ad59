"""A model small enough to run the whole pipeline in seconds, in a folder as models come."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from sae_circuits.cli.app import app
from small_tokenizers import word_level


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers of two heads with random weights that are far from zero: 46 edges."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("model")
    tokenizer = word_level()
    tokenizer.init_kwargs |= {"name_or_path": str(folder), "add_bos_token": True}
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=32, n_embd=16, n_layer=2, n_head=2,
        bos_token_id=0, eos_token_id=0, initializer_range=0.4,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def finished_run(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short run of `discover`, to be copied and not changed."""
    out = tmp_path_factory.mktemp("finished") / "run"
    arguments = ["discover", "--model", str(model_folder), "--n", "4", "--edges", "10",
                 "--method", "eap", "--no-curve", "--out", str(out)]  # fmt: skip
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return out
