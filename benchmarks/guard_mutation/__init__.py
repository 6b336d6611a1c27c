"""Guards of halftone removed one at a time: for each, some test must fail, or the guard is held by nobody."""
