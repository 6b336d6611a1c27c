"""The command `weights`, with a module for what looks, what averages and what converts."""
