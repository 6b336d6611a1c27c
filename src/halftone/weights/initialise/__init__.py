"""Starting weights: schemes, gains, and those that look at the training images."""
