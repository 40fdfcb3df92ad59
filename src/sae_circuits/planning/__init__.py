"""A dry run: what a call costs before anything runs."""
