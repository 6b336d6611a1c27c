"""Floor 3: the loop. Built things go in, events come out."""
