"""Floor 2, the craft of metrics: counts that add, and the numbers that people read from them."""
