"""Stage 1: encode every image and caption once."""

from typing import TYPE_CHECKING

from encode_once.cache.lazy import lazy

if TYPE_CHECKING:
    from encode_once.extract.compute import ComputeOptions
    from encode_once.extract.pipeline import encode
    from encode_once.extract.readers import Columns, ReadOptions
    from encode_once.extract.report import Report
    from encode_once.extract.transformer import EncoderTransformer

__all__ = ["Columns", "ComputeOptions", "EncoderTransformer", "ReadOptions", "Report", "encode"]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Columns": "readers",
        "ComputeOptions": "compute",
        "EncoderTransformer": "transformer",
        "ReadOptions": "readers",
        "Report": "report",
        "encode": "pipeline",
    },
)
