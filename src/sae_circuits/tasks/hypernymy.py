"""Hypernymy: what are these a kind of? (Hanna et al., arXiv 2403.17806)."""

from __future__ import annotations

from typing import Any

from sae_circuits.tasks.keyed import entries, keyed
from sae_circuits.tasks.recipes import build
from sae_circuits.tasks.task import Task

TEMPLATES = (
    "They talked about {keys} and other",
    "She wrote a book about {keys} and other",
    "He knows a lot about {keys} and other",
    "There was a picture of {keys} and other",
)
# No class holds another, or a member of another: eagles are animals, and birds are no class beside.
FACTS = entries(
    {
        "fruits": "apples, oranges, bananas, grapes, pears, peaches, cherries, lemons, mangoes, "
        "strawberries, blueberries, raspberries, plums, limes",
        "vegetables": "carrots, potatoes, onions, cabbages, spinach, turnips, radishes, beets, "
        "leeks, broccoli",
        "birds": "eagles, owls, crows, ducks, hawks, doves, parrots, robins, swans, geese, "
        "sparrows, larks",
        "insects": "ants, bees, beetles, moths, butterflies, mosquitoes, wasps, "
        "grasshoppers, flies",
        "weapons": "guns, swords, bombs, rifles, spears, grenades, missiles, pistols",
        "tools": "hammers, screwdrivers, wrenches, drills, shovels, saws, pliers",
        "vehicles": "cars, trucks, buses, vans, motorcycles, taxis, bicycles",
        "furniture": "chairs, tables, desks, sofas, beds, couches, wardrobes",
        "clothing": "shirts, coats, jackets, dresses, sweaters, trousers, skirts, gloves",
        "instruments": "guitars, pianos, violins, flutes, trumpets, cellos, clarinets",
    }
)

RECIPE = keyed("hypernymy", TEMPLATES, FACTS)


def hypernymy(model: Any, n: int = 64, seed: int = 0, *, prepend_bos: bool = True) -> Task:
    """Hypernymy: the class of the things that are named.

    Clean: "They talked about apples and other" -> " fruits", not " weapons". Corrupt: members of
    another class, as many tokens long, "They talked about guns and other", whose logit difference
    is reversed.

    Args: see `sae_circuits.tasks.recipes.build`.

    Reference: Hanna et al., arXiv 2403.17806.
    """
    return build(RECIPE, model, n, seed, prepend_bos=prepend_bos)
