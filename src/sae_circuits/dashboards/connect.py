"""Connections put into a view of features: see `FeatureView.connect`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sae_circuits.connectome.connect import Connections
from sae_circuits.dashboards.connected import Connected, differing
from sae_circuits.dashboards.gathered import Found, connected_with, says_something
from sae_circuits.dashboards.listed import hosted_by, listed
from sae_circuits.dashboards.places import Hosted
from sae_circuits.dashboards.profile import Profile
from sae_circuits.dashboards.views import FeatureView
from sae_circuits.errors import OptionError, unknown

if TYPE_CHECKING:
    from sae_circuits.features.dictionary import FeatureDictionary


def connect(
    view: FeatureView,
    connections: Mapping[int, Sequence[Found]],
    stores: Mapping[str, FeatureDictionary] | None = None,
    n: int = 20,
) -> FeatureView:
    """A view with connections of its features."""
    known = {one.feature for one in view.profiles}
    for feature in connections.keys() - known:
        raise unknown("feature of the view", feature, map(str, sorted(known)))
    found = {feature: _of_feature(view, feature, own, n) for feature, own in connections.items()}
    profiles = tuple(_with(one, found.get(one.feature)) for one in view.profiles)
    names = [name for one in profiles for c in one.connections for name in c.names]
    shown = {one.name: one for one in (*view.listed, *listed(dict.fromkeys(names), stores))}
    told = [one for own in connections.values() for one in own]
    hosted = {one.place: one for one in view.hosted} | hosted_in(told) | hosted_by(stores)
    return replace(
        view, profiles=profiles, listed=tuple(shown.values()), hosted=tuple(hosted.values())
    )


def hosted_in(found: Sequence[Found]) -> dict[str, Hosted]:
    """The dictionaries of connections that Neuronpedia hosts, by place."""
    every = [one.neuronpedia for one in found if isinstance(one, Connections)]
    return {place: Hosted(place, hosted) for some in every for place, hosted in some.items()}


def _of_feature(
    view: FeatureView, feature: int, found: Sequence[Found], n: int
) -> tuple[Connected, ...]:
    others = [one for one in found if not isinstance(one, Connected)]
    if others and view.about.place is None:
        raise OptionError(
            f"{view.about.dictionary!r} stands at no place that connections know: give them as "
            "Connected, by hand"
        )
    name = f"{view.about.place}.f{feature}"
    for one in others:
        if not says_something(one, name):
            raise OptionError(
                f"{one!r} says nothing of {name}: give connections of which it is the target or an "
                "upstream feature, or virtual weights of its dictionary"
            )
    return connected_with(name, found, n)


def _with(profile: Profile, found: tuple[Connected, ...] | None) -> Profile:
    if found is None:
        return profile
    return replace(profile, connections=found, differing=differing(found))
