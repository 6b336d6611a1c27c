"""The runs of a comparison: processes that train them, and what each came to."""
