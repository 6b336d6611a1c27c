"""One room per kind of source. Each turns what a person named into `Parts`."""
