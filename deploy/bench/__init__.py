"""Measure how fast a run labels new rows, compared with a reference in the same run."""
