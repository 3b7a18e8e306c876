"""Stage 1: encode every image and caption once."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from encode_once.extract.pipeline import encode
    from encode_once.extract.readers import Columns
    from encode_once.extract.report import Report

__all__ = ["Columns", "Report", "encode"]

_MODULES = {"Columns": "readers", "Report": "report", "encode": "pipeline"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
