"""The command `diagnose`, with a module for each of its kinds."""
