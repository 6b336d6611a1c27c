"""Floor 2, the craft of data: from a name or a folder to batches of uint8 images on the device."""
