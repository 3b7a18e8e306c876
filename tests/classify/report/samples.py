"""Runs that are made of scores and labels alone."""

from pathlib import Path

import numpy as np

from encode_once.cache.keys import content_key, pack
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.evaluation.evaluation import ScoredRows
from encode_once.classify.runs.record import RunRecord
from encode_once.classify.runs.run import Run
from encode_once.classify.spec import FitSpec

CLASSES = ["a", "b", "c"]


def scored(seed, n=400, rates=(0.2, 0.5, 0.7)):
    """Rows whose scores are true probabilities, high for some classes and low for others."""
    rng = np.random.default_rng(seed)
    scores = rng.beta(0.5 * np.array(rates), 0.5 * (1 - np.array(rates)), (n, len(rates)))
    labels = rng.random(scores.shape) < scores
    names = [f"{seed}-{row}" for row in range(n)]
    keys = pack(content_key(name.encode()) for name in names).copy()
    return ScoredRows(names, scores.astype(np.float32), labels, keys=keys)


def make_run(tuning=None, evaluated=None, *, decision=None, path="run", **spec):
    """A run on rows that nothing is wrong with."""
    tuning = scored(0) if tuning is None else tuning
    evaluated = scored(1) if evaluated is None else evaluated
    tuned = evaluated if spec.get("tune_on") == "eval" else tuning
    rule = (decision or DecisionSpec()).fit(tuned.scores, tuned.labels)
    classes = CLASSES[: evaluated.labels.shape[1]]
    record = RunRecord({}, classes, "no store", "photos/train.csv", "ImageID", " ", created="2026-01-01")
    return Run(Path(path), FitSpec("linear", **spec), record, None, tuning, evaluated, tuning.keys, rule)
