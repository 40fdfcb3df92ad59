"""`PromptView`: one prompt, and the features that do something at each of its tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_circuits.dashboards.views import FeatureView
from sae_circuits.dashboards.window import Values
from sae_circuits.disk.atomic import write_whole
from sae_circuits.errors import unknown

if TYPE_CHECKING:
    from jaxtyping import Int64
    from torch import Tensor

    from sae_circuits.dashboards.layout import Layout
    from sae_circuits.features.dictionary import FeatureDictionary
    from sae_circuits.metrics import Metric

Tokens = int | str | Sequence[int | str]


@dataclass(frozen=True)
class Ranked:
    """A score at every position of a prompt: the features that have it, the largest first.

    Args:
        name: "activation", "quantile", "loss effect", "logit effect" or "attribution".
        unit: of its values, such as "nats"; "" for none.
        said: what it means, in a sentence.
        features: at each position; none where the score is undefined there.
        lowest: where values have signs, those at the other end, the smallest first.
        token: for the logit effect, the id of the token that was chosen; None for the token that
            comes next in the prompt.
    """

    name: str
    unit: str
    said: str
    features: tuple[Values, ...]
    lowest: tuple[Values, ...] = ()
    token: int | None = None


@dataclass(frozen=True)
class Active:
    """Features at one position of a prompt: those that some score ranks there.

    Args:
        ids: of them, rising.
        values: by a score's name, one for each; None where it is undefined. Logit effects are in
            the rankings alone.
    """

    ids: tuple[int, ...] = ()
    values: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class PromptView:
    """A prompt as a page shows it.

    Args:
        view: of all features that some score ranks, each in a compact form.
        tokens: ids of the prompt.
        special: those of them that are no text, such as the one that begins a sequence.
        probabilities: of each token, given those before it; None for the first.
        likely: the tokens that the model takes for the most likely after the prompt, with their
            probabilities.
        scores: by each score, the features at each position.
        active: all that these features do at each position.
    """

    view: FeatureView
    tokens: tuple[int, ...]
    special: tuple[int, ...] = ()
    probabilities: tuple[float | None, ...] = ()
    likely: Values = field(default=Values())
    scores: tuple[Ranked, ...] = field(default=())
    active: tuple[Active, ...] = ()

    @classmethod
    def build(
        cls,
        features: FeatureDictionary,
        prompt: str | Sequence[int] | Int64[Tensor, "pos"],
        *,
        metric: str | Metric | None = None,
        answer: Tokens = (),
        wrong: Tokens = (),
        tokens: Tokens | None = None,
        scores: Sequence[str] | None = None,
        k: int = 10,
        prepend_bos: bool = True,
        **panels: Any,
    ) -> PromptView:
        """Rank the features that do something at each token of a prompt, by several scores.

        activation    as it is
        quantile      share of the corpus's counted tokens with an activation no larger
        loss effect   direct, on the token that comes next, in nats; above 0 it helps
        logit effect  direct, on the logit of a token, less the mean over the vocabulary
        attribution   activation times the gradient of a metric at the prompt's last token

        Only features that are active at a position are ranked there; ties go by the lower id. All
        scores come from one run of the model, and one backward pass where there is a metric.

        Args:
            features: with the model and the dictionary at hand.
            prompt: a text, or token ids.
            metric: to attribute; see `sae_circuits.metrics`. None for none.
            answer, wrong: what the metric compares: tokens, by id or by what they read.
            tokens: whose logits to keep effects on, beside the one that comes next; by default the
                model's five most likely at the prompt's end, then the prompt's own, up to 24.
            scores: which of them; by default all that can be had.
            k: how many features at each position and end.
            prepend_bos: whether a text begins with the beginning-of-sequence token, if there is
                one.
            panels: what else `FeatureView.build` takes, for the panels of the features.

        Raises:
            StoreError: a store without its model, or of another source than a dictionary.
            UnknownName: no such score or metric, or a text that no token reads.
            OptionError: a metric without its answer; attribution without a metric; k below 1.
            DictionaryError, TaskError, ContextError, MetricError, NumericalError: see
                `sae_circuits.features.effects.on_prompt.OnPrompt.of`.

        >>> import sae_circuits as sc
        >>> model, (sae,) = sc.load_model("demo"), sc.load_saes("demo", ["mlp_out.1"])
        >>> features = sc.FeatureDictionary.build(model, sae, sc.demo_corpus(2000))
        >>> view = sc.PromptView.build(features, "When Mary and John went", k=3)
        >>> len(view.tokens), [score.name for score in view.scores[:4]]
        (6, ['activation', 'quantile', 'loss effect', 'logit effect'])
        """
        from sae_circuits.dashboards.prompt import Asked, build

        asked = Asked(metric, answer, wrong, tokens, scores, k)
        return build(features, prompt, asked, prepend_bos, panels)

    def __repr__(self) -> str:
        return f"PromptView({len(self.tokens)} tokens, {len(self.view.profiles)} features)"

    def save(self, path: str | Path) -> Path:
        """Write it to a file of JSON; `load` reads it back.

        Raises:
            OutputError: the place cannot be written.
        """
        from sae_circuits.dashboards.view_file import save_view

        return save_view(self, path)

    @classmethod
    def load(cls, path: str | Path) -> PromptView:
        """Read what `save` wrote, which gives an equal view.

        Raises:
            FileFormatError: no such file, a damaged one, one of another kind, or of a newer
                version.
        """
        from sae_circuits.dashboards.view_file import load_view

        return load_view(path, cls)

    def render(
        self,
        path: str | Path,
        *,
        layout: Layout | str | None = None,
        features: str | None = None,
        links: Mapping[str, str] | None = None,
    ) -> Path:
        """Write it as one HTML page that needs no network.

        Args:
            layout: which panels each feature has: a layout, or the name of a ready one ("prompt",
                which is the default, "compact" or "feature").
            features: the address of a page of features, such as "features.html", to which each
                feature then has a link.
            links: as `FeatureView.render` takes them.

        Raises:
            UnknownName: no such layout.
            OptionError: an address that can be none of a page.
            OutputError: the place cannot be written.
        """
        from sae_circuits.dashboards.prompt_page import prompt_page

        return write_whole(path, prompt_page(self, layout, features, links))

    def _repr_html_(self) -> str:
        from sae_circuits.dashboards.page import frame
        from sae_circuits.dashboards.prompt_page import prompt_page

        return str(frame(prompt_page(self), self.view.about.title))

    def score(self, name: str, token: int | None = None) -> Ranked:
        """One of the scores, by its name, and for a logit effect by its token.

        Raises:
            UnknownName: it is not here.
        """
        found = {(score.name, score.token): score for score in self.scores}
        if (name, token) not in found:
            known = sorted({score.name for score in self.scores})
            raise unknown("score" if name not in known else "token of it", name, known)
        return found[name, token]
