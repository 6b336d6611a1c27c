"""Floor 7: argv in, exit code out. The only floor that prints."""
