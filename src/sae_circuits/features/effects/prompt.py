"""`prompt_scores`: the features that are active at one position of a prompt, and what they do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from sae_circuits.errors import OptionError, TaskError
from sae_circuits.features.columns import Activity
from sae_circuits.features.effects.directions import stream_directions
from sae_circuits.features.effects.final import ROWS, Final
from sae_circuits.features.effects.losses import difference, named
from sae_circuits.features.effects.sight import Seen, Sight, read_prompts
from sae_circuits.features.quantiles import quantiles_of
from sae_circuits.graph.tables import rows_table
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries import Dictionary
from sae_circuits.tasks import Task

if TYPE_CHECKING:
    import pandas

COLUMNS: tuple[str, ...] = (
    "feature",
    "activation",
    "quantile_of_counted",
    "quantile_of_active",
    "loss_effect",
    "effect",
)


@torch.no_grad()
def prompt_scores(
    model: Any,
    dictionary: Dictionary,
    prompt: str | Int64[Tensor, "pos"],
    position: int,
    activity: Activity | None = None,
    *,
    prepend_bos: bool = True,
) -> pandas.DataFrame:
    """What the features active at one position of a prompt do there, the most helpful first.

    Columns: `feature`; `activation`; `quantile_of_counted`, the share of a corpus's counted tokens
    at which its activation is no larger, and `quantile_of_active`, that of the tokens at which it
    is active; `loss_effect`, the direct loss effect on the token at `position + 1`, in nats;
    `effect`, "helps", "hurts" or "neither". Quantiles are NaN without a corpus, and where the
    corpus has no such token; the effect on the loss is NaN at the prompt's last position, where
    the rows go by activation. Ties go by the lower id.

    Args:
        model: a TransformerLens model of either kind; left as it was found.
        dictionary: of the features.
        prompt: a text, or token ids.
        position: of the token at which features are active, from 0.
        activity: of the same dictionary, on a corpus.
        prepend_bos: whether a text begins with the beginning-of-sequence token, if there is one.

    Raises:
        OptionError: a position outside the prompt; an activity of another number of features.
        DictionaryError, GraphError: a dictionary that does not fit the model.
        TaskError, ContextError: a prompt that the model cannot read.
        NumericalError: weights or a stream that is not finite.

    >>> import sae_circuits as sc
    >>> model, (sae,) = sc.load_model("demo"), sc.load_saes("demo", ["resid_post.2"])
    >>> scores = prompt_scores(model, sae, "When Mary and John went", 3)
    >>> scores["loss_effect"].is_monotonic_decreasing
    True
    """
    adapter = Adapter.of(model)
    sight = Sight.of(adapter, dictionary)
    if activity is not None and activity.n_features != dictionary.n_features:
        raise OptionError(
            f"the activity is of {activity.n_features} features, and {dictionary!r} has "
            f"{dictionary.n_features}: give that of this dictionary"
        )
    if not isinstance(prompt, str) and (not isinstance(prompt, Tensor) or prompt.ndim != 1):
        raise TaskError("the prompt is not one: give a text, or token ids [pos]")
    final = Final.of(adapter, sight.dictionary.W_enc.dtype)
    task = read_prompts(model, adapter, prompt, prepend_bos=prepend_bos)
    n = task.clean.shape[1]
    if not 0 <= position < n:
        raise OptionError(f"position {position} is outside the prompt: take 0 to {n - 1}")
    return _table(sight, final, task, position, activity)


def _table(
    sight: Sight, final: Final, task: Task, position: int, activity: Activity | None
) -> pandas.DataFrame:
    seen = sight.look(task)
    activations, coefficients = sight.activations(seen.encoded[0, position])
    active = activations.nonzero()[:, 0]
    a, ids = activations[active].double().cpu().numpy(), active.cpu().numpy()
    effects = np.full(len(ids), np.nan)
    if position + 1 < task.clean.shape[1]:
        effects = _effects(sight, final, seen, task, position, active, coefficients[active])
    of_counted, of_active = np.full((2, len(ids)), np.nan)
    if activity is not None:
        n_counted = int(activity.counted.sum())
        of_counted, of_active = quantiles_of(a, activity.columns(ids), n_counted)
    key = a if np.isnan(effects).all() else effects
    rows = [
        (int(ids[i]), *map(float, (a[i], of_counted[i], of_active[i], effects[i])))
        for i in np.argsort(-key, kind="stable")
    ]
    table = [dict(zip(COLUMNS, (*row, named(row[-1])), strict=True)) for row in rows]
    return rows_table(table).reindex(columns=list(COLUMNS))


def _effects(
    sight: Sight,
    final: Final,
    seen: Seen,
    task: Task,
    position: int,
    active: Int64[Tensor, "feature"],
    coefficients: Float[Tensor, "feature"],
) -> Float64[np.ndarray, "feature"]:
    """Direct loss effects of the active features on the next token."""
    r, token = seen.final[0, position], task.clean[0, position + 1].to(seen.final.device)
    found = []
    for ids, c in zip(active.split(ROWS), coefficients.split(ROWS), strict=True):
        moved = c[:, None] * stream_directions(sight.adapter, sight.dictionary, ids)
        found.append(difference(final, r.expand_as(moved), moved, token.expand(len(ids))))
    return torch.cat(found).double().cpu().numpy() if found else np.zeros(0)
