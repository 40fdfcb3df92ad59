"""EAP with integrated gradients on the inputs: the gradient averaged along the embedding's path.

Hanna, Pezzelle and Belinkov 2024, arXiv 2403.17806. The default rule takes midpoints, whose error
falls as 1 / steps^2; `rule="left"` is the published one.
"""

from sae_circuits.attribution.method import Method, along_embedding, path_points

METHOD = Method(
    name="eap-ig",
    score_batch=along_embedding(path_points),
    reference="arXiv 2403.17806",
    options={"steps": 5, "rule": "midpoint"},
)
