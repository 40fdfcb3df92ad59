"""What features do: a corpus run through a model and a dictionary, as tables to ask."""
