"""The word lists that several tasks draw from.

An entry is one word, or several forms apart by spaces (`"key keys"`). The lists hold common
English words; a builder keeps the entries that its tokenizer writes as one token a form.
"""

from __future__ import annotations

from collections.abc import Mapping

WordLists = Mapping[str, tuple[str, ...]]


def _split(entries: str) -> tuple[str, ...]:
    return tuple(entry.strip() for entry in entries.replace("\n", ",").split(",") if entry.strip())


NAMES = tuple(
    """
    Mary John Tom James Robert Michael William David Richard Joseph Thomas Charles Daniel Matthew
    Anthony Mark Paul Steven Andrew Kenneth Kevin Brian George Edward Jason Ryan Jacob Eric Stephen
    Justin Scott Brandon Benjamin Samuel Gregory Alexander Patrick Jack Dennis Peter Sarah Anna Emma
    Laura Linda Susan Jessica Karen Nancy Lisa Margaret Emily Amanda Rebecca Michelle Amy Rachel
    Helen Maria Julie Victoria Christine Alice Jane
    """.split()
)

PLACES = tuple(
    """
    store school park office hospital station market library house garden restaurant beach church
    museum theater airport hotel bank farm factory kitchen gym bar lake river village castle stadium
    shop square
    """.split()
)

OBJECTS = tuple(
    """
    drink book ring ball gift letter phone camera computer ticket bottle basket knife necklace
    flower hat coat watch map toy pen cup card box bag
    """.split()
)

HUES = tuple("red blue green black white yellow brown pink gray purple".split())

NOUNS = _split(
    """
    key keys, cabinet cabinets, teacher teachers, student students, doctor doctors, lawyer lawyers
    farmer farmers, driver drivers, singer singers, writer writers, player players
    manager managers, officer officers, soldier soldiers, worker workers, child children
    woman women, man men, boy boys, girl girls, friend friends, neighbor neighbors, car cars
    truck trucks, tree trees, picture pictures, table tables, chair chairs, door doors
    window windows, dog dogs, cat cats, bird birds, horse horses, road roads, bridge bridges
    """
)

EVENTS = tuple(
    """
    war battle siege trial conflict reform campaign mission project program study journey dispute
    alliance empire dynasty tour voyage debate revolt strike crisis treaty reign
    """.split()
)

ARGUMENTS = tuple(
    """
    load size files last name path data index value label count mode target source result state
    key type line text width height image model token input output offset
    """.split()
)

FUNCTIONS = tuple("port read write open parse build run fetch update check send print".split())

CAPITALS = _split(
    """
    France Paris, Italy Rome, Japan Tokyo, Spain Madrid, Germany Berlin, Russia Moscow
    China Beijing, Greece Athens, Egypt Cairo, Cuba Havana, Iran Tehran, Iraq Baghdad
    England London, Austria Vienna, Poland Warsaw, Ireland Dublin, Portugal Lisbon, Turkey Ankara
    Syria Damascus, Kenya Nairobi, Norway Oslo, Sweden Stockholm, Denmark Copenhagen
    Belgium Brussels, Lebanon Beirut, Thailand Bangkok, Canada Ottawa, Finland Helsinki
    """
)

LANGUAGES = _split(
    """
    France French, Italy Italian, Japan Japanese, Spain Spanish, Germany German, Russia Russian
    China Chinese, Greece Greek, England English, Poland Polish, Ireland Irish
    Portugal Portuguese, Turkey Turkish, Norway Norwegian, Sweden Swedish, Denmark Danish
    Thailand Thai, Finland Finnish
    """
)

OPPOSITES = _split(
    """
    hot cold, big small, fast slow, old new, good bad, high low, rich poor, strong weak, light dark
    early late, hard soft, long short, open closed, wet dry, full empty, clean dirty, left right
    true false, happy sad, thick thin
    """
)

COLOURS = _split(
    """
    sky blue, grass green, snow white, coal black, blood red, sun yellow, chocolate brown
    elephant gray, carrot orange, flamingo pink
    """
)


def forms(entries: tuple[str, ...]) -> tuple[str, ...]:
    """Return every form of the entries once, in order.

    >>> forms(("key keys", "car cars", "key"))
    ('key', 'keys', 'car', 'cars')
    """
    return tuple(dict.fromkeys(form for entry in entries for form in entry.split()))
