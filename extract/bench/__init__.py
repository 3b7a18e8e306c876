"""Benchmarks of extraction. Nothing else imports them."""
