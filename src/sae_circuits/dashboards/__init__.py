"""Dashboards: what a feature does, as a frozen view and as a page to look at."""
