"""A demonstration on composed pictures."""
