"""The circuit explorer: one page to look at a circuit, filter it, group it, and compare it."""
