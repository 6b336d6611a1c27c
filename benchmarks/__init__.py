"""One command per claim; see README.md."""
