"""Floor 6: what this machine offers, and what to do about it."""
