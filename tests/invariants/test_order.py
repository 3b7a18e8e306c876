"""The order of a table's rows changes nothing: the same rows evaluate, the same scores and labels result."""

import numpy as np
import pytest

from encode_once.classify import fit

FAST = {"mlp": {"epochs": 5}, "forest": {"trees": 20}, "gbm": {"rounds": 20}, "linear": {"Cs": [0.1, 1.0]}}


@pytest.mark.parametrize("head", ["forest", "gbm", "knn", "linear", "mlp"])
@pytest.mark.parametrize("split", ["stratified:0.2", "kfold:3"])
def test_a_shuffled_table_gives_the_same_run(data, tmp_path, head, split):
    scores, labels = [], []
    orders = {"in-order": None, "shuffled": np.random.default_rng(1).permutation(len(data.labels))}
    for name, order in orders.items():
        store = data.save(tmp_path / name, order)
        options = FAST.get(head, {})
        run, metrics = fit(store, head, split=split, run=tmp_path / name / "run", options=options)
        scores.append(dict(zip(run.eval.ids, run.eval.scores, strict=True)))
        lines = (run.path / "predictions.csv").read_text().splitlines()
        labels.append((sorted(lines), metrics["micro_f1"], metrics["macro_f1"]))
    assert scores[0].keys() == scores[1].keys()
    for row_id, row_scores in scores[0].items():
        np.testing.assert_allclose(row_scores, scores[1][row_id], atol=1e-6)
    assert labels[0] == labels[1]
