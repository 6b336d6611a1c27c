"""Where every `auto` is settled, with its reason."""
