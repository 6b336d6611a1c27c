"""Floor 2, the craft of optimizers: which parameters get which rate and decay, and the update itself."""
