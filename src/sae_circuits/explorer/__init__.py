"""The circuit explorer: one page on which a circuit is looked at, filtered, grouped and compared."""
