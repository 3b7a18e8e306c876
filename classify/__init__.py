"""Stage 2: fit light heads on cached features, tune thresholds, measure, predict.

Names are imported when they are first used: reading a run needs no torch.
"""

from typing import TYPE_CHECKING

from encode_once.cache.lazy import lazy

if TYPE_CHECKING:
    from encode_once.classify.data.dataset import FeatureDataset
    from encode_once.classify.data.dataset_store import DatasetStore, load
    from encode_once.classify.data.samples import Samples
    from encode_once.classify.decisions.classifier import ThresholdedClassifier
    from encode_once.classify.decisions.rule import DecisionSpec
    from encode_once.classify.evaluation.evaluation import Evaluation
    from encode_once.classify.experiments.ablation import ablate
    from encode_once.classify.experiments.sweep import sweep
    from encode_once.classify.runs.fit import fit
    from encode_once.classify.runs.loading import load_run
    from encode_once.classify.runs.retune import measure_kept, retune
    from encode_once.classify.runs.run import Run
    from encode_once.classify.spec import FitSpec
    from encode_once.classify.systems.compare import SystemComparison, compare
    from encode_once.classify.tuning import tune

__all__ = [
    "DatasetStore", "DecisionSpec", "Evaluation", "FeatureDataset", "FitSpec", "Run", "Samples",
    "SystemComparison", "ThresholdedClassifier", "ablate", "compare", "fit", "load", "load_run",
    "measure_kept", "retune", "sweep", "tune",
]  # fmt: skip

__getattr__, __dir__ = lazy(
    __name__,
    {
        "DatasetStore": "data.dataset_store",
        "DecisionSpec": "decisions.rule",
        "Evaluation": "evaluation.evaluation",
        "FeatureDataset": "data.dataset",
        "FitSpec": "spec",
        "Run": "runs.run",
        "Samples": "data.samples",
        "SystemComparison": "systems.compare",
        "ThresholdedClassifier": "decisions.classifier",
        "ablate": "experiments.ablation",
        "compare": "systems.compare",
        "fit": "runs.fit",
        "load": "data.dataset_store",
        "load_run": "runs.loading",
        "measure_kept": "runs.retune",
        "retune": "runs.retune",
        "sweep": "experiments.sweep",
        "tune": "tuning",
    },
)
