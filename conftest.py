"""For doctests alone (`pytest src`): pytest would otherwise load packages twice."""

from __future__ import annotations


def pytest_sessionstart() -> None:
    """Import the package as a user does, before pytest imports its modules one by one.

    Loading `sae_circuits.ablate.run` by its path, pytest puts the package `ablate` where
    `sae_circuits` has the function `ablate`.
    """
    import sae_circuits  # noqa: F401  for its effect on sys.modules
