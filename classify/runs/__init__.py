"""One fitted model: fit it, keep it, apply it, tune it again, export it."""
