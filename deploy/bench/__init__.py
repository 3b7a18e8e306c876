"""Benchmarks that join packages, each with a reference in the same run: of a run, the store, memory."""
