"""Decoded pictures kept from the first epoch for those that follow, and for other runs."""
