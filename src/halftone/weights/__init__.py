"""Floor 2, the craft of weights: files that cannot lie, what loads where, freezing, averaging."""
