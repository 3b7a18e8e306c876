"""Stage 2: fit light heads on cached features, tune thresholds, measure, predict."""

from encode_once.classify.decisions.rule import Tuning
from encode_once.classify.experiments.ablation import ablate
from encode_once.classify.experiments.sweep import sweep
from encode_once.classify.runs.fit import fit
from encode_once.classify.runs.predict import evaluate, predict
from encode_once.classify.runs.retune import measure_kept, retune
from encode_once.classify.runs.run import Run, load_run

__all__ = [
    "Run", "Tuning", "ablate", "evaluate", "fit", "load_run", "measure_kept", "predict", "retune", "sweep",
]  # fmt: skip
