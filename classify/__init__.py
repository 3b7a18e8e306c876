"""Stage 2: fit light heads on cached features, tune thresholds, measure, predict.

Names are imported when they are first used: reading a run needs no torch.
"""

from typing import TYPE_CHECKING

from encode_once.cache.lazy import lazy

if TYPE_CHECKING:
    from encode_once.classify.data.dataset import FeatureDataset
    from encode_once.classify.decisions.classifier import ThresholdedClassifier
    from encode_once.classify.decisions.rule import DecisionSpec
    from encode_once.classify.experiments.ablation import ablate
    from encode_once.classify.experiments.sweep import sweep
    from encode_once.classify.runs.fit import fit
    from encode_once.classify.runs.predict import evaluate, predict
    from encode_once.classify.runs.retune import measure_kept, retune
    from encode_once.classify.runs.run import Run, load_run
    from encode_once.classify.spec import FitSpec

__all__ = [
    "DecisionSpec", "FeatureDataset", "FitSpec", "Run", "ThresholdedClassifier", "ablate", "evaluate", "fit",
    "load_run", "measure_kept", "predict", "retune", "sweep",
]  # fmt: skip

__getattr__, __dir__ = lazy(
    __name__,
    {
        "DecisionSpec": "decisions.rule",
        "FeatureDataset": "data.dataset",
        "FitSpec": "spec",
        "Run": "runs.run",
        "ThresholdedClassifier": "decisions.classifier",
        "ablate": "experiments.ablation",
        "evaluate": "runs.predict",
        "fit": "runs.fit",
        "load_run": "runs.run",
        "measure_kept": "runs.retune",
        "predict": "runs.predict",
        "retune": "runs.retune",
        "sweep": "experiments.sweep",
    },
)
