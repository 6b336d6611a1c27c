"""The numbers of the faults that halftone is built to survive, by group."""

GROUPS = {"A": 37, "B": 10, "C": 16, "D": 34, "F": 13}
"""Data, configuration, numerics, processes and files, environment. E is for serving."""
CATALOGUE = [f"{group}{number}" for group, last in GROUPS.items() for number in range(1, last + 1)]
