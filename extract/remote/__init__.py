"""Data at URLs: what may be fetched, and how. Images are read into memory, and never stored on disk."""
