"""Floor 1: what this machine is and can do."""
