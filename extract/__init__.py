"""Stage 1: encode every image and caption once."""

from extract.inputs import Columns
from extract.pipeline import Report, encode

__all__ = ["Columns", "Report", "encode"]
