"""`prompt_scores`: the features that are active at one position of a prompt, and what they do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64
from torch import Tensor

from sae_circuits.features.columns import Activity
from sae_circuits.features.effects.losses import named
from sae_circuits.features.effects.on_prompt import OnPrompt
from sae_circuits.graph.tables import rows_table
from sae_circuits.models.dictionaries import Dictionary

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
    every = OnPrompt.of(model, dictionary, prompt, prepend_bos=prepend_bos)
    here = every.at(position)
    a, effects = here.activations.double().cpu().numpy(), here.loss_effects()
    of_counted, of_active = np.full((2, len(here)), np.nan)
    if activity is not None:
        of_counted, of_active = here.quantiles(activity)
    key = a if np.isnan(effects).all() else effects
    ids = here.features.tolist()
    rows = [
        (ids[i], *map(float, (a[i], of_counted[i], of_active[i], effects[i])))
        for i in np.argsort(-key, kind="stable")
    ]
    table = [dict(zip(COLUMNS, (*row, named(row[-1])), strict=True)) for row in rows]
    return rows_table(table).reindex(columns=list(COLUMNS))
