"""One DuckDB file with all that is known of the features of a dictionary."""
