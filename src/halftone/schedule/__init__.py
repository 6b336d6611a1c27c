"""Floor 2, the craft of schedules: the learning rate as a function of the optimizer step."""
