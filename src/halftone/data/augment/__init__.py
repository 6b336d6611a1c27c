"""Random changes to whole batches on the device; every image of a batch gets its own draw."""
