"""The methods: one file each, which states its rule and cites its paper."""

from sae_circuits.attribution.method import Method
from sae_circuits.attribution.methods import (
    acdc,
    atp_star,
    clean_corrupted,
    eap,
    eap_ig,
    eap_ig_activations,
    edge_pruning,
    exact,
    gim,
    information_flow,
    mask_ig,
    random_baseline,
    relp,
    ugs,
)

METHODS: dict[str, Method] = {
    module.METHOD.name: module.METHOD
    for module in (
        eap,
        eap_ig,
        eap_ig_activations,
        clean_corrupted,
        exact,
        relp,
        gim,
        atp_star,
        mask_ig,
        information_flow,
        acdc,
        edge_pruning,
        ugs,
        random_baseline,
    )
}

# What EAP-IG, MIB, ACDC and feature-circuits call them, to be suggested.
ELSEWHERE = {
    "eap-ig-inputs": "eap-ig",
    "eap-ig-edges": "eap-ig",
    "ig": "eap-ig",
    "eap-ig-acts": "eap-ig-activations",
    "attrib": "eap",
    "attribution-patching": "eap",
    "atp": "eap",
    "atp*": "atp-star",
    "information-flow-routes": "information-flow",
    "ifr": "information-flow",
    "eactp": "exact",
    "activation-patching": "exact",
    "patching": "exact",
    "uniform-gradient-sampling": "ugs",
}
