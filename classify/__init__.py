"""Stage 2: fit light heads on cached features, tune thresholds, measure, predict."""

from classify.ablation import ablate
from classify.decisions import Tuning
from classify.fitting import fit
from classify.predicting import evaluate, predict
from classify.runs import Run, load_run
from classify.sweeping import sweep
from classify.tuning import measure_kept, retune

__all__ = [
    "Run", "Tuning", "ablate", "evaluate", "fit", "load_run", "measure_kept", "predict", "retune", "sweep",
]  # fmt: skip
