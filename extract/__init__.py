"""Stage 1: encode every image and caption once."""

from extract.inputs import Columns
from extract.pipeline import encode
from extract.reports import Report

__all__ = ["Columns", "Report", "encode"]
