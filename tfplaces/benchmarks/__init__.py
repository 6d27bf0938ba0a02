"""Benchmarks: each compares two things in the same run, so that their ratio holds on other machines."""
