"""Floor 0: errors, records, files, seeds, lengths, optional imports. Knows nothing of images or torch models."""
