"""Whole jobs from photos to a page: what the larger programs of `tools/` do."""
