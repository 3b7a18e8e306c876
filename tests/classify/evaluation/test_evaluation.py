import numpy as np
import pandas as pd
import pytest

from encode_once.classify import DecisionSpec, fit, retune
from encode_once.classify.runs.retune import evaluate_kept

pytestmark = pytest.mark.usefixtures("fit_once")


@pytest.mark.parametrize("split", ["stratified:0.2", "kfold:2"])
def test_a_frame_has_the_figures_of_each_class(filled, tmp_path, split):
    run, _ = fit(filled(200), "linear", run=tmp_path / "run", split=split, validation="tenth")
    retune(run, DecisionSpec("macro"))
    evaluation = evaluate_kept(run)
    frame = evaluation.frame()
    assert frame.index.tolist() == run.record.classes
    for row in evaluation.metrics["per_class"]:
        shown = frame.loc[row["label"]]
        for name in ("f1", "precision", "recall", "ap", "support", "calibration_error"):
            assert shown[name] == row[name]
        if split == "kfold:2":  # several thresholds per class
            assert shown[["threshold", "threshold_low", "threshold_high"]].isna().all()
        else:
            assert shown.threshold == row["threshold"]
            assert [shown.threshold_low, shown.threshold_high] == row["interval"]
    assert (frame.drop(columns="support").dtypes == np.float64).all()
    assert pd.api.types.is_integer_dtype(frame.support)
