"""Benchmarks of heads, thresholds and splits. Nothing else imports them."""
