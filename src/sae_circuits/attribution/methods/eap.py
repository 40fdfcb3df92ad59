"""Edge attribution patching: change times gradient at the clean run.

Syed, Rager and Conmy 2023, arXiv 2310.10348; after Nanda's attribution patching, 2023.
"""

from sae_circuits.attribution.method import Method, along_embedding

METHOD = Method(
    name="eap",
    score_batch=along_embedding(lambda: [(1.0, 1.0)]),
    reference="arXiv 2310.10348",
    interventions=("corrupt", "resample", "zero", "mean", "mean-positional"),
)
