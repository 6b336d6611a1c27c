"""Floor 6: looking into a network while it trains. Precision now; warmup, weights and speed when they are built."""
