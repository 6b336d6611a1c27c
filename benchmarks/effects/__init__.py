"""Published effects on a laptop: gradients that vanish in fp16, updates that vanish in bf16, networks that stall."""
