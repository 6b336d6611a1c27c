"""Comparisons: paired runs of several variants, and what they show."""
