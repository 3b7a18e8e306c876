"""Stage 1: encode every image and caption once."""

from encode_once.extract.pipeline import encode
from encode_once.extract.readers import Columns
from encode_once.extract.report import Report

__all__ = ["Columns", "Report", "encode"]
