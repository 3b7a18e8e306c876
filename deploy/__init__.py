"""Use a run where it was not fitted: on other data, from Python, or in another program."""
