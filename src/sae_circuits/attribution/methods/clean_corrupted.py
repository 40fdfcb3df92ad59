"""Change times the mean of the gradients at the clean and at the corrupt run.

Hanna, Pezzelle and Belinkov 2024, arXiv 2403.17806 (there: clean-corrupted).
"""

from sae_circuits.attribution.method import Method, along_embedding

METHOD = Method(
    name="clean-corrupted",
    score_batch=along_embedding(lambda: [(1.0, 0.5), (0.0, 0.5)]),
    reference="arXiv 2403.17806",
)
