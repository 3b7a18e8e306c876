"""Many fitted models: sweeps, searches, ablations and recipes."""
