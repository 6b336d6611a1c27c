"""Two published effects on a laptop: gradients that vanish in fp16, and updates that vanish in bf16."""
