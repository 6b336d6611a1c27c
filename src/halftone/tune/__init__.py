"""Searching for settings: many short runs, the poor ones ended early."""
