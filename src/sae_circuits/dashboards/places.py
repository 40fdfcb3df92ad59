"""Where features can be looked up: the places of dictionaries, and links to pages of features."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sae_circuits.errors import DictionaryError, OptionError
from sae_circuits.graph.splits import PARTS
from sae_circuits.models.dictionaries import Site

NEURONPEDIA = "https://www.neuronpedia.org/"
OWN = ""  # the view's own dictionary, among places

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_PLACE = re.compile(r"(?:a|m|pre|mid|post)\d+", re.ASCII)
_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*):")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Hosted:
    """A dictionary that Neuronpedia hosts.

    Args:
        place: what its features' names begin with, such as "m3".
        id: of it on Neuronpedia, such as "gpt2-small/6-res-jb".
    """

    place: str
    id: str


def place_of(site: str) -> str | None:
    """What the names of a dictionary's features begin with, by where it stands; None for no site.

    >>> place_of("mlp_out.3"), place_of("blocks.3.hook_resid_pre"), place_of("m3"), place_of("x")
    ('m3', 'pre3', 'm3', None)
    """
    if _PLACE.fullmatch(site):
        return site
    try:
        found = Site.of(site)
    except DictionaryError:
        return None
    return f"{PARTS.get(found.kind, 'm')}{found.layer}"


def require_place(site: str) -> str:
    """The same, of a name that has to be one.

    Raises:
        OptionError: it names no place of a dictionary.
    """
    found = place_of(site)
    if found is None:
        raise OptionError(
            f"{site!r} names no place of a dictionary: write it as its features' names begin, such "
            "as 'm3' or 'post0', or as its site, such as 'mlp_out.3'"
        )
    return found


def neuronpedia_address(hosted: str | None) -> str | None:
    """The address of a dictionary on Neuronpedia, to which '/' and a feature's number is added.

    None where the dictionary's metadata name none, or what can be none.

    >>> neuronpedia_address("gpt2-small/6-res-jb")
    'https://www.neuronpedia.org/gpt2-small/6-res-jb'
    >>> neuronpedia_address("gpt2-small/../6-res-jb") is None
    True
    """
    if hosted is None or not _PART.fullmatch(hosted):
        return None
    return NEURONPEDIA + hosted


def require_address(address: str) -> str:
    """An address of a page of features, as links may have it.

    Raises:
        OptionError: another scheme than http, https or file; control characters; a '#'.

    >>> require_address("../m0/index.html")
    '../m0/index.html'
    """
    scheme = _SCHEME.match(address)
    odd = scheme is not None and scheme[1].lower() not in ("http", "https", "file")
    if odd or not address.strip() or "#" in address or _CONTROL.search(address):
        raise OptionError(
            f"{address!r} is no address of a page: give a path from where the page will lie, such "
            "as '../m0/index.html', or an address of http, https or file, without '#'"
        )
    return address


def link_data(
    links: Mapping[str, str] | None,
    hosted: Iterable[Hosted] = (),
    own: str | None = None,
    among: Iterable[str] = (),
) -> dict[str, dict[str, str]]:
    """By place, the addresses of pages of its features, for the script.

    Args:
        links: by place, or by the name that a list of neighbours has for a dictionary.
        hosted: what Neuronpedia hosts.
        own: the id on Neuronpedia of the view's own dictionary.
        among: names that lists of neighbours have for dictionaries, some of which are sites.

    Raises:
        OptionError: an address that can be none.
    """
    found: dict[str, dict[str, str]] = {}

    def say(place: str, kind: str, address: str | None) -> None:
        if address is not None:
            found.setdefault(place, {})[kind] = address

    for name, address in (links or {}).items():
        for place in {name, place_of(name) or name}:
            say(place, "page", require_address(address))
    for name in among:
        if name not in found and (place := place_of(name)) in found:
            found[name] = found[place or name]
    for one in hosted:
        say(one.place, "neuronpedia", neuronpedia_address(one.id))
    say(OWN, "neuronpedia", neuronpedia_address(own))
    return dict(sorted(found.items()))
