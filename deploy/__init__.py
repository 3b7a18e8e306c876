"""Use a run where it was not fitted, and commands that join packages, such as `doctor` and `recipe run`."""

from typing import TYPE_CHECKING

from encode_once.cache.lazy import lazy

if TYPE_CHECKING:
    from encode_once.deploy.other_data import evaluate, predict
    from encode_once.deploy.predictions import Prediction, Predictions, PredictionWarning
    from encode_once.deploy.predictor import Predictor

__all__ = ["Prediction", "PredictionWarning", "Predictions", "Predictor", "evaluate", "predict"]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Prediction": "predictions",
        "PredictionWarning": "predictions",
        "Predictions": "predictions",
        "Predictor": "predictor",
        "evaluate": "other_data",
        "predict": "other_data",
    },
)
