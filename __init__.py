"""Encode images and captions once; fit, tune and compare multi-label classifiers in seconds.

The folder of this file is the package `encode_once`; its rooms are `cache`, `extract`, `classify`, `deploy`.
Names are imported when they are first used, so that `import encode_once` costs nothing.

Examples:
    >>> import encode_once as eo
    >>> eo.encode("input", ["clip-vit-l"], "store")            # doctest: +SKIP
    >>> run, metrics = eo.fit("store", "mlp", run="runs/mlp")  # doctest: +SKIP
    >>> eo.load("store").dataset("train").frame()              # doctest: +SKIP
"""

from typing import TYPE_CHECKING

from encode_once.cache.lazy import lazy

if TYPE_CHECKING:
    from encode_once.cache import Store, trust_code
    from encode_once.classify import (
        DatasetStore,
        DecisionSpec,
        Evaluation,
        FeatureDataset,
        FitSpec,
        Run,
        Samples,
        SystemComparison,
        ThresholdedClassifier,
        ablate,
        compare,
        fit,
        load,
        load_run,
        sweep,
        tune,
    )
    from encode_once.deploy import Predictions, Predictor, evaluate, predict
    from encode_once.extract import Columns, ComputeOptions, EncoderTransformer, ReadOptions, encode

__all__ = [
    "Columns",
    "ComputeOptions",
    "DatasetStore",
    "DecisionSpec",
    "EncoderTransformer",
    "Evaluation",
    "FeatureDataset",
    "FitSpec",
    "Predictions",
    "Predictor",
    "ReadOptions",
    "Run",
    "Samples",
    "Store",
    "SystemComparison",
    "ThresholdedClassifier",
    "ablate",
    "compare",
    "encode",
    "evaluate",
    "fit",
    "load",
    "load_run",
    "predict",
    "sweep",
    "trust_code",
    "tune",
]  # fmt: skip

_ROOMS = {  # the rest: classify
    "Store": "cache",
    "trust_code": "cache",
    "Columns": "extract",
    "ComputeOptions": "extract",
    "EncoderTransformer": "extract",
    "ReadOptions": "extract",
    "encode": "extract",
    "Predictions": "deploy",
    "Predictor": "deploy",
    "evaluate": "deploy",
    "predict": "deploy",
}
__getattr__, __dir__ = lazy(__name__, {name: _ROOMS.get(name, "classify") for name in __all__})
