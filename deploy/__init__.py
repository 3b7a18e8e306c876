"""Use a run where it was not fitted: on other data, from Python, or in another program."""

from typing import TYPE_CHECKING

from encode_once.cache.lazy import lazy

if TYPE_CHECKING:
    from encode_once.deploy.predictor import Predictor

__all__ = ["Predictor"]

__getattr__, __dir__ = lazy(__name__, {"Predictor": "predictor"})
