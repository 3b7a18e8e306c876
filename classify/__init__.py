"""Stage 2: fit light heads on cached features, tune thresholds, measure, predict.

Names are imported when they are first used: reading a run needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from encode_once.classify.decisions.rule import DecisionSpec
    from encode_once.classify.experiments.ablation import ablate
    from encode_once.classify.experiments.sweep import sweep
    from encode_once.classify.runs.fit import fit
    from encode_once.classify.runs.predict import evaluate, predict
    from encode_once.classify.runs.retune import measure_kept, retune
    from encode_once.classify.runs.run import Run, load_run
    from encode_once.classify.spec import FitSpec

__all__ = [
    "DecisionSpec", "FitSpec", "Run", "ablate", "evaluate", "fit", "load_run", "measure_kept", "predict",
    "retune", "sweep",
]  # fmt: skip

_MODULES = {
    "DecisionSpec": "decisions.rule",
    "FitSpec": "spec",
    "Run": "runs.run",
    "ablate": "experiments.ablation",
    "evaluate": "runs.predict",
    "fit": "runs.fit",
    "load_run": "runs.run",
    "measure_kept": "runs.retune",
    "predict": "runs.predict",
    "retune": "runs.retune",
    "sweep": "experiments.sweep",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
