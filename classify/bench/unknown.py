"""What unknown labels cost: entries of the train rows are hidden at random, and heads fitted four ways.

With all labels; with the hidden ones unknown; with the hidden ones taken for negatives, as a program does
that has no unknown labels; and with all labels of fewer train rows, as many as are not hidden. All are
measured on the same eval rows with all their labels. Validation rows are train rows here: what is hidden of
them is hidden from early stopping and from the decision rule, too.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from encode_once.cache import Store
from encode_once.classify import heads
from encode_once.classify.arrays import UNKNOWN, BoolArray, LabelMatrix, PartialLabels, as_labels
from encode_once.classify.data import splits
from encode_once.classify.data.rows import content_keys
from encode_once.classify.data.samples import load_samples
from encode_once.classify.data.tables import choose_table
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.evaluation.evaluation import ScoredRows
from encode_once.classify.evaluation.metrics import MetricName, measure
from encode_once.classify.runs.head_fitter import HeadFitter

# Column of a row → the decision rule, and the metric on the eval rows.
FIGURES: dict[str, tuple[DecisionSpec, MetricName]] = {
    "macro F1": (DecisionSpec(), "macro_f1"),
    "micro F1": (DecisionSpec(), "micro_f1"),
    "macro F1, macro thresholds": (DecisionSpec("macro"), "macro_f1"),
    "mAP": (DecisionSpec("none"), "mAP"),
}


def kinds(Y: LabelMatrix, share: float, seed: int) -> dict[str, tuple[PartialLabels, BoolArray]]:
    """The labels (n, c) as heads learn them, and which rows (n,): a share of either is left out."""
    rng = np.random.default_rng(seed)
    hidden, all_rows = rng.random(Y.shape) < share, np.ones(len(Y), np.bool_)
    return {
        "all known": (Y, all_rows),
        "hidden ones unknown": (np.where(hidden, UNKNOWN, Y).astype(np.int8), all_rows),
        "hidden ones negative": (Y & ~hidden, all_rows),
        "all known, of fewer rows": (Y, rng.random(len(Y)) >= share),
    }


def hiding(
    store: Store,
    names: Sequence[str],
    share: float,
    repeats: int,
    *,
    features: Sequence[str] = (),
    data: str | None = None,
    seed: int = 0,
) -> Iterator[dict[str, Any]]:
    """For each head and kind of labels the means of `FIGURES` over repeats.

    A repeat hides other entries, and fits and draws eval rows with another seed.
    """
    samples = load_samples(store, features, choose_table(store, data))
    Y, keys = as_labels(samples.Y), content_keys(samples.table)
    for name in names:
        figures: dict[str, list[list[float]]] = {}
        for repeat in range(seed, seed + repeats):
            for kind, (labels, of_rows) in kinds(Y, share, repeat).items():
                options = heads.with_seed(name, {}, repeat)
                fitter = HeadFitter(name, options, samples.X, labels, samples.table.ids, keys, repeat)
                (eval_rows,) = splits.folds("stratified:0.2", Y, {}, fitter.draws)
                fitted = fitter.fit(np.setdiff1d(np.flatnonzero(of_rows), eval_rows))
                scored = fitter.scored(fitted.model, fitted.X, eval_rows)
                measured = _measured(fitted.validation, scored, Y[eval_rows], samples.classes)
                figures.setdefault(kind, []).append(measured)
        means = {kind: np.mean(values, axis=0) for kind, values in figures.items()}
        first = next(iter(means))
        for kind, values in means.items():
            changes = values - means[first]
            yield {
                "head": name,
                "labels of the train rows": kind,
                **dict(zip(FIGURES, values.tolist(), strict=True)),
                **({} if kind == first else {"macro F1 minus all known": float(changes[0])}),
            }


def _measured(
    validation: ScoredRows, scored: ScoredRows, labels: LabelMatrix, classes: Sequence[str]
) -> list[float]:
    """`FIGURES` of scored rows with these labels, by rules tuned on the validation rows."""
    metrics = {}
    for spec in {spec for spec, _ in FIGURES.values()}:
        rule = spec.fit(validation.scores, validation.labels, intervals=False)
        metrics[spec] = measure(labels, rule(scored.scores), rule.probabilities(scored.scores), classes)
    return [metrics[spec][name] or 0.0 for spec, name in FIGURES.values()]
