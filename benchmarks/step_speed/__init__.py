"""A whole training step of halftone's beside a plain raw PyTorch loop of the same mathematics."""
