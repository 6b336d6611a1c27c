"""Whether a run that is killed and resumed ends as if it never had been: tried, on the user's own recipe."""
