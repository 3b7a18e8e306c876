"""What labels and scores are worth, with intervals and comparisons."""
