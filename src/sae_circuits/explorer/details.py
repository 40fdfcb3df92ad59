"""What stores say of the features of a drawing: numbers, labels, tokens and examples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sae_circuits.dashboards.places import place_of, require_address
from sae_circuits.dashboards.window import Values
from sae_circuits.errors import OptionError
from sae_circuits.features.captions import part_of
from sae_circuits.graph import AttributionGraph, Node, TensorGraph
from sae_circuits.progress import track

if TYPE_CHECKING:
    from sae_circuits.features.dictionary import FeatureDictionary
    from sae_circuits.features.feature import Example, Feature

NONE = Values()
N_TOKENS, N_EXAMPLES, AROUND = 8, 4, 8


@dataclass(frozen=True)
class Shown:
    """An example of a feature: tokens, by ids of the view's texts, and what it does on each."""

    tokens: tuple[int, ...]
    activations: tuple[float, ...]
    at: int


@dataclass(frozen=True)
class Detail:
    """What is known of a feature.

    Args:
        name: such as "m3.f17", without a position.
        label: the best, if it has one.
        statistics: names and what they are, as people read them.
        fires: tokens on which it fires most often, with the share of its firings.
        raises: tokens that it makes more likely, with the effect.
        lowers: and less.
        examples: the largest activations.
        link: the address of its dashboard.
    """

    name: str
    label: str | None = None
    statistics: tuple[tuple[str, str], ...] = ()
    fires: Values = NONE
    raises: Values = NONE
    lowers: Values = NONE
    examples: tuple[Shown, ...] = ()
    link: str | None = None


@dataclass
class Texts:
    """Strings by number, each once."""

    ids: dict[str, int] = field(default_factory=dict)

    def __getitem__(self, text: str) -> int:
        return self.ids.setdefault(text, len(self.ids))

    @property
    def by_id(self) -> dict[int, str]:
        """The strings by their numbers."""
        return {i: text for text, i in self.ids.items()}


def details_of(
    nodes: Iterable[Node],
    graph: TensorGraph | AttributionGraph,
    stores: Sequence[FeatureDictionary],
    links: Mapping[str, str],
) -> tuple[tuple[Detail, ...], dict[int, str]]:
    """What stores say of features, and the strings of all tokens in it.

    Args:
        nodes: of the page; those of which no store tells are passed over.
        graph: in which the features are.
        stores: of the dictionaries that are split in it.
        links: by place, such as "m3" or "mlp_out.3", the address of a page of its features.

    Raises:
        StoreError: a store of a dictionary that is not in the graph.
        OptionError: an address that can be none, or one of a place that is none.
    """
    pages = {_place(site): require_address(address) for site, address in links.items()}
    by_place = {part_of(graph, store): store for store in stores}
    here = {*by_place, *pages}
    every = {replace(n, pos=None) for n in nodes if n.kind == "feature"}
    known = sorted((n for n in every if f"{n.site}{n.layer}" in here), key=lambda n: n.name)
    texts, found = Texts(), []
    for node in track(known, description="features"):
        place, index = f"{node.site}{node.layer}", node.index
        assert index is not None
        page = pages.get(place)
        link = None if page is None else f"{page}#feature={index}"
        if place not in by_place:
            found.append(Detail(node.name, link=link))
            continue
        found.append(_detail(node.name, by_place[place].feature(index), texts, link))
    return tuple(found), texts.by_id


def _place(site: str) -> str:
    found = place_of(site)
    if found is None:
        raise OptionError(
            f"{site!r} names no place of a dictionary: write it as 'm3' or 'mlp_out.3'"
        )
    return found


def _detail(name: str, feature: Feature, texts: Texts, link: str | None) -> Detail:
    def values(rows: Iterable[Mapping[str, Any]], of: str) -> Values:
        some = list(rows)[:N_TOKENS]
        return Values(tuple(texts[row["text"]] for row in some), tuple(row[of] for row in some))

    return Detail(
        name,
        feature.label,
        tuple(_statistics(feature)),
        values(feature.tokens, "share"),
        values((row for row in feature.logits if row["kind"] == "top"), "effect"),
        values((row for row in feature.logits if row["kind"] == "bottom"), "effect"),
        tuple(_shown(example, texts) for example in feature.top(N_EXAMPLES)),
        link,
    )


def _statistics(feature: Feature) -> Iterable[tuple[str, str]]:
    said = feature.statistics
    if said["density"] is not None:
        yield "active on", f"{100 * said['density']:.3g}% of tokens"
    if said["max_active"] is not None:
        yield "mean where active", f"{said['mean_active']:.3g}"
        yield "largest", f"{said['max_active']:.3g}"


def _shown(example: Example, texts: Texts) -> Shown:
    at = example.position - example.first
    start, stop = max(at - AROUND, 0), at + AROUND // 2 + 1
    tokens = tuple(texts[token] for token in example.tokens[start:stop])
    return Shown(tokens, example.activations[start:stop], at - start)
