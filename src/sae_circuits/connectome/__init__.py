"""What features do to each other."""
