"""Floor 2, the craft of precision: which format each part computes in, and the step that survives it."""
