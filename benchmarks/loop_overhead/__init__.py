"""What a training loop costs per step, beside the arithmetic that everybody must do."""
