"""The tests. They import one another from here, not from what else may be installed as `tests`."""
