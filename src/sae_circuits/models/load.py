"""Models by name: the bundled one, a local directory, or whatever transformer-lens can fetch."""

from __future__ import annotations

import contextlib
import difflib
import io
import logging
import secrets
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from threading import RLock
from types import MappingProxyType
from typing import Any

import torch

from sae_circuits.errors import ModelError, UnknownName, in_words, unknown
from sae_circuits.models.places import as_device, as_dtype

_KINDS = ("bridge", "hooked")
_ELSEWHERE = {"hookedtransformer": "hooked", "transformerbridge": "bridge"}
_BUNDLED = MappingProxyType(
    {"demo": "4 layers of 4 heads and an MLP, d_model 64, trained on the six bundled tasks (1 MB)"}
)


def names() -> Mapping[str, str]:
    """Return the bundled models: a description of each by its name.

    >>> list(names())
    ['demo']
    """
    return _BUNDLED


def demo_path() -> Path:
    """Return the directory of the bundled model, in Hugging Face GPT-2 format.

    >>> (demo_path() / "config.json").exists()
    True
    """
    return Path(str(files("sae_circuits"))) / "data" / "demo"


def load_model(
    model: Any,
    *,
    kind: str = "bridge",
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    fold: bool = False,
) -> Any:
    """Load a model by name, or return the one that is passed.

    Args:
        model: `"demo"`, which is bundled and needs no network; a directory in Hugging Face's
            format; a name that transformer-lens knows, or any of Hugging Face's with a slash; or a
            model already held, which comes back unchanged.
        kind: the class of transformer-lens: "bridge" for a `TransformerBridge`, "hooked" for a
            `HookedTransformer`. Both compute the same. A bridge comes unless asked otherwise,
            since it takes more models, and later versions have no other class.
        device: where to put the model; transformer-lens's choice if None.
        dtype: of the weights, such as torch.bfloat16 or "bfloat16"; float32 if None.
        fold: fold the norms' weights into the next layer and centre what is written to the stream,
            as transformer-lens once did by default. The outputs stay, up to a constant.

    Raises:
        UnknownName: no model has this name; the message gives the nearest ones.
        OptionError: there is no such device, or no such dtype.
        ModelError: a model that cannot be fetched or read, or options for a model
            that is held already.

    >>> load_model("demo").cfg.n_layers
    4
    """
    if kind not in _KINDS:
        raise unknown("kind of model", kind, _KINDS, _ELSEWHERE)
    if model is None or isinstance(model, (bool, int, float)):
        raise ModelError(f"model is {in_words(model)}: give a name, a directory or a model")
    if not isinstance(model, (str, Path)):
        if device is not None or dtype is not None or fold:
            raise ModelError(
                f"{type(model).__name__} is a model already: device, dtype and fold are for models "
                "that are loaded by name"
            )
        return model
    device, dtype = as_device(device), as_dtype(dtype)
    source = _source(str(model), kind)
    load = _bridge if kind == "bridge" else _hooked
    with _quiet():
        try:
            return load(source, device, dtype or torch.float32, fold)
        except Exception as error:  # whatever those libraries raise, it is this model's failure
            raise ModelError(_failed(str(model), error)) from error


def _source(name: str, kind: str) -> str:
    """Return the directory or the hub's name behind a name, and refuse names of nothing."""
    if name in _BUNDLED:
        return str(demo_path())
    if Path(name).is_dir():
        if not (Path(name) / "config.json").exists():
            raise ModelError(f"the directory {name!r} holds no model: it has no config.json")
        return name
    official = _official_names()
    if name.lower() in official:
        return official[name.lower()]
    if "/" in name and kind == "bridge":  # bridges take all of the hub's models
        return name
    raise _unknown_model(name, [*_BUNDLED, *official])


def _official_names() -> dict[str, str]:
    """Return the hub's name of each model that transformer-lens lists, by each of its names."""
    from transformer_lens.loading_from_pretrained import make_model_alias_map

    return make_model_alias_map()


def _unknown_model(name: str, known: list[str]) -> UnknownName:
    near = difflib.get_close_matches(name.lower(), known, n=3)
    guess = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    return UnknownName(
        f"unknown model {name!r}: {guess}Take a bundled one ({', '.join(_BUNDLED)}), a directory, "
        "or a name that transformer-lens lists"
    )


def _bridge(source: str, device: Any, dtype: torch.dtype, fold: bool) -> Any:
    from transformer_lens.model_bridge import TransformerBridge

    model = TransformerBridge.boot_transformers(source, device=device, dtype=dtype)
    if fold:
        model.enable_compatibility_mode()
    return model


def _hooked(source: str, device: Any, dtype: torch.dtype, fold: bool) -> Any:
    from transformer_lens import HookedTransformer

    processing = dict.fromkeys(
        ("fold_ln", "center_writing_weights", "center_unembed", "fold_value_biases"), fold
    )
    if not Path(source).is_dir():
        return HookedTransformer.from_pretrained_no_processing(
            source, device=device, dtype=dtype, **processing
        )
    # `from_pretrained` takes registered names only; these are its steps for a directory.
    from transformer_lens import loading_from_pretrained as loading
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with _by_its_own_name(source) as path:
        config = loading.get_pretrained_model_config(path, fold_ln=fold, device=device, dtype=dtype)
    read = AutoModelForCausalLM.from_pretrained(source, dtype=dtype)
    weights = loading.get_pretrained_state_dict(source, config, hf_model=read, dtype=dtype)
    config.tokenizer_name = source
    model = HookedTransformer(config, AutoTokenizer.from_pretrained(source), move_to_device=False)
    model.load_and_process_state_dict(weights, **processing)
    model.move_model_modules_to_device()
    return model


@contextlib.contextmanager
def _by_its_own_name(folder: str) -> Iterator[str]:
    """A path to a folder in which no other folder's name stands, where the system has links.

    transformer-lens takes the whole path for a model's name: one in /home/robert is a BERT to it.
    """
    place = Path(tempfile.gettempdir()) / str(secrets.randbelow(10**12))  # digits name no model
    link = place / Path(folder).name
    try:
        place.mkdir()
        link.symlink_to(Path(folder).resolve(), target_is_directory=True)
    except OSError:
        yield folder
        return
    try:
        yield str(link)
    finally:
        link.unlink()
        place.rmdir()


def _failed(name: str, error: Exception) -> str:
    reason = (str(error).strip() or type(error).__name__).partition("\n")[0].rstrip(".;")
    remedy = (
        "; check the name and the network, or pass a directory that holds the model, or 'demo', "
        "which needs no network"
    )
    return f"model {name!r} could not be loaded: {reason}{remedy * isinstance(error, OSError)}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what transformer-lens and transformers say while they make a model."""
    from transformers.utils import logging as hf_logging

    with _ONE_AT_A_TIME:
        disabled, bar = logging.root.manager.disable, hf_logging.is_progress_bar_enabled()
        logging.disable(logging.WARNING)
        hf_logging.disable_progress_bar()
        try:
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                yield
        finally:
            logging.disable(disabled)
            if bar:
                hf_logging.enable_progress_bar()


_ONE_AT_A_TIME = RLock()  # what is kept back is the process's, and threads may load side by side


def same_model(one: str | None, other: str | None) -> bool:
    """Whether two names may be of one model: aliases of it, or not known.

    >>> same_model("gpt2-small", "gpt2"), same_model("gpt2", "gpt2-xl"), same_model(None, "gpt2")
    (True, False, True)
    """
    listed = _official_names()

    def official(name: str) -> str:
        return listed.get(name.lower(), name).rpartition("/")[2].lower()

    if {one, other} & {None, "", "custom"}:
        return True
    return official(str(one)) == official(str(other))
