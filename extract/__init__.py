"""Stage 1: encode every image and caption once."""

from extract.pipeline import Report, encode

__all__ = ["Report", "encode"]
