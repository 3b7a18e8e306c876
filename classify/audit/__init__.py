"""Likely errors in a run's data."""
