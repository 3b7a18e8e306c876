"""Benchmarks of the store. Nothing else imports them."""
