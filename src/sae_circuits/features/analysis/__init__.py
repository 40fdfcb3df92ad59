"""What each feature is like, from where it is active: tokens, positions, kinds, meanings."""
