"""Country and capital: of which country is this the capital? (Hanna et al., arXiv 2403.17806)."""

from __future__ import annotations

from typing import Any

from sae_circuits.tasks.keyed import keyed
from sae_circuits.tasks.recipes import build
from sae_circuits.tasks.task import Task
from sae_circuits.tasks.words import CAPITALS

TEMPLATES = (
    "The city of {keys} is the capital of",
    "They went to {keys}, the capital of",
    "She lives in {keys}, the capital of",
    "He was born in {keys}, the capital of",
)
MORE = tuple(
    entry.strip()
    for entry in """
    Kabul: Afghanistan; Tirana: Albania; Luanda: Angola; Buenos Aires: Argentina; Yerevan: Armenia
    Canberra: Australia; Baku: Azerbaijan; Dhaka: Bangladesh; Minsk: Belarus; Gaborone: Botswana
    Sofia: Bulgaria; Phnom Penh: Cambodia; Santiago: Chile; Zagreb: Croatia; Nicosia: Cyprus
    Quito: Ecuador; Tallinn: Estonia; Addis Ababa: Ethiopia; Suva: Fiji; Tbilisi: Georgia
    Accra: Ghana; Tegucigalpa: Honduras; Budapest: Hungary; Reykjavik: Iceland; New Delhi: India
    Jakarta: Indonesia; Kingston: Jamaica; Amman: Jordan; Vientiane: Laos; Riga: Latvia
    Monrovia: Liberia; Tripoli: Libya; Vilnius: Lithuania; Antananarivo: Madagascar
    Kuala Lumpur: Malaysia; Bamako: Mali; Valletta: Malta; Ulaanbaatar: Mongolia; Rabat: Morocco
    Maputo: Mozambique; Windhoek: Namibia; Kathmandu: Nepal; Managua: Nicaragua; Abuja: Nigeria
    Muscat: Oman; Islamabad: Pakistan; Lima: Peru; Doha: Qatar; Bucharest: Romania; Kigali: Rwanda
    Dakar: Senegal; Belgrade: Serbia; Bratislava: Slovakia; Ljubljana: Slovenia; Mogadishu: Somalia
    Khartoum: Sudan; Bern: Switzerland; Taipei: Taiwan; Kampala: Uganda; Montevideo: Uruguay
    Caracas: Venezuela; Hanoi: Vietnam; Lusaka: Zambia; Harare: Zimbabwe
    """.replace("\n", ";").split(";")
    if entry.strip()
)
# London is the capital of England, and of the United Kingdom too.
KNOWN = tuple(
    f"{capital}: {country}" for country, capital in map(str.split, CAPITALS) if country != "England"
)

RECIPE = keyed("country_capital", TEMPLATES, KNOWN + MORE)


def country_capital(model: Any, n: int = 64, seed: int = 0, *, prepend_bos: bool = True) -> Task:
    """Country and capital: the country whose capital is named.

    Clean: "The city of Paris is the capital of" -> " France", not " Italy". Corrupt: another
    capital of as many tokens, "The city of Rome is the capital of", whose logit difference is
    reversed.

    Args: see `sae_circuits.tasks.recipes.build`.

    Reference: Hanna et al., arXiv 2403.17806 (fact retrieval).
    """
    return build(RECIPE, model, n, seed, prepend_bos=prepend_bos)
