"""Compare new rows with the eval rows of a run: scores, features, missing features and labels.

Each kind of comparison is a family of tests. The false-alarm rate that was asked for is divided by the number
of families, and holds within a family by Holm's correction. So without any shift an alarm of any test has at
most that chance.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import TypedDict

import numpy as np

from encode_once.cache import DataError, EncodeOnceError, Store, Table
from encode_once.cache.keys import Keys
from encode_once.cache.packed_columns import taken
from encode_once.cache.representation import short_repr
from encode_once.cache.terminal import short_list
from encode_once.classify.arrays import (
    BoolArray,
    FloatArray,
    LabelMatrix,
    PartialLabels,
    Probabilities,
    RowIndex,
    Vectors,
)
from encode_once.classify.data import features as featuring
from encode_once.classify.data.blocks import Block, Matrix
from encode_once.classify.data.rows import content_keys, content_order
from encode_once.classify.decisions.calibration import Calibration
from encode_once.classify.evaluation.evaluation import Evaluation
from encode_once.classify.monitoring.two_samples import (
    energy_test,
    holm,
    score_shifts,
    share_shifts,
    stability_index,
)
from encode_once.classify.partial import frequencies, rows_by_class
from encode_once.classify.runs.own_table import own_table
from encode_once.classify.runs.predict import fitted_store, label_rows, sources, unknown_labels
from encode_once.classify.runs.retune import evaluate_kept
from encode_once.classify.runs.run import Run
from encode_once.classify.runs.score_file import read_score_file

ALPHA = 0.01  # the chance of an alarm without a shift
NEAR = 0.05  # a score is near its threshold within this distance
SAMPLE = 1000  # rows of each side whose vectors are compared
PERMUTATIONS = 5  # times as many as the smallest p-value that can be significant needs
MAX_PERMUTATIONS = 100_000  # a minute for each feature that has shifted
FEW = 50  # rows below which only large shifts can be detected
WORDS = {
    "scores": "class scores",
    "features": "features",
    "missing": "rows without a vector of",
    "labels": "shares of the labels",
}


class ClassShift(TypedDict):
    """A class in the new rows; names that end in `_before` are of the run's eval rows.

    All but `psi` and the p-values are shares of rows. `expected` is the mean calibrated score, `labelled` the
    share that gets the label, `above` and `near` that of scores above and near the threshold. `prevalence` is
    the share that has the label of the rows where it is known, None if there are none; before, that of all
    rows the run keeps.
    """

    label: str
    psi: float
    p: float
    adjusted_p: float
    labels_adjusted_p: float | None
    expected: float
    prevalence: float | None
    prevalence_before: float | None
    labelled: float
    labelled_before: float
    above: float | None  # None without a threshold
    above_before: float | None
    near: float | None
    near_before: float | None


class FeatureShift(TypedDict):
    """A feature of the new rows; None where it was not compared. `missing` are shares of rows."""

    feature: str
    energy_distance: float | None
    p: float | None
    adjusted_p: float | None
    missing: float
    missing_before: float
    missing_adjusted_p: float


class Alarm(TypedDict):
    """The tests of a family that alarm: classes or features."""

    test: str
    subjects: list[str]


class Monitored(TypedDict):
    """How new rows differ from a run's eval rows."""

    run: str
    source: str
    rows: int
    eval_rows: int
    alpha: float
    alarms: list[Alarm]
    per_class: list[ClassShift]
    features: list[FeatureShift]
    unknown_labels: dict[str, int]
    warnings: list[str]


@dataclass(frozen=True)
class NewRows:
    """Rows that a run labelled.

    missing, matrix, keys and kept are None if only scores are known.
    """

    source: str
    ids: Sequence[str]
    probabilities: Probabilities  # (n, c): what the decision rule looks at
    labels: LabelMatrix  # (n, c): those that it chose
    truth: PartialLabels | None = None  # (n, c): their own, if they have any
    missing: BoolArray | None = None  # (n, features)
    matrix: Matrix | None = None
    keys: Keys | None = None  # (n, 16)
    kept: RowIndex | None = None  # (n,): rows of the matrix
    unknown: dict[str, int] = field(default_factory=dict)  # label that the run does not know → rows
    warnings: Sequence[str] = ()

    __repr__ = short_repr

    def __len__(self) -> int:
        return len(self.ids)


def rows_of_table(run: Run, store: Store, table: Table) -> NewRows:
    """The rows of a table that the run was not fitted on.

    Raises:
        DataError: there is none.
        MissingRowsError: rows that were never extracted.
    """
    matrix = featuring.load(sources(run, store), table)
    predicted, keys = label_rows(run, matrix), content_keys(table)
    seen = run.has_seen_rows(table)
    kept = np.flatnonzero(~seen)
    if not len(kept):
        raise DataError(f"{table.source} has no rows, or none that {run.path} was not fitted on")
    warnings = [*predicted.warnings]
    if seen.any():
        warnings.append(
            f"{int(seen.sum())} of {len(table)} rows are left out: the run was fitted or tuned on the same "
            "image or, without an image, the same caption"
        )
    truth, unknown = None, dict[str, int]()
    if table.labels is not None:
        labels = taken(table.labels, kept)
        truth = run.labels_of(table)[kept]
        unknown = unknown_labels(run, labels)
    if unknown and not run.spec.only_classes:  # else other labels are left out on purpose
        warnings.append(f"labels the run does not know: {short_list(_counted(unknown))}")
    return NewRows(
        table.source,
        [*taken(table.ids, kept)],
        predicted.probabilities[kept],
        predicted.labels[kept],
        truth,
        predicted.missing[kept],
        matrix,
        keys[kept],
        kept,
        unknown,
        warnings,
    )


def rows_of_score_file(run: Run, path: Path) -> NewRows:
    """The rows of a file that `predict --scores` wrote.

    Raises:
        DataError: it is not such a file, or of other classes.
    """
    ids, probabilities = read_score_file(path, run.record.classes)
    note = f"{path} holds scores only: features, and rows that the run was fitted on, are not looked at"
    return NewRows(str(path), ids, probabilities, run.decision.choose(probabilities), warnings=[note])


def monitor(run: Run, new: NewRows, alpha: float = ALPHA) -> Monitored:
    """Compare new rows with the run's eval rows.

    alpha: the chance of any alarm if both are independent rows of one distribution.
    """
    evaluation, warnings = evaluate_kept(run), [*new.warnings, *_cautions(run, new)]
    classes, features = run.record.classes, [*run.record.features]
    missing_before = run.eval.missing
    if missing_before is None:
        missing_before = np.zeros((len(run.eval.ids), len(features)), np.bool_)
    p = {"scores": _by_name(classes, score_shifts(evaluation.probabilities, new.probabilities))}
    if new.missing is not None:
        p["missing"] = _by_name(features, share_shifts(missing_before, new.missing, "greater"))
    if new.truth is not None:
        p["labels"] = _by_name(classes, share_shifts(run.eval.labels, new.truth))
    pairs = _feature_pairs(run, new, warnings)
    families = len(p) + bool(pairs)
    needed = families * len(pairs) / alpha
    permutations = ceil(min(PERMUTATIONS * needed, MAX_PERMUTATIONS))
    if needed > MAX_PERMUTATIONS:
        least = families * len(pairs) / MAX_PERMUTATIONS
        warnings.append(f"no shift of a feature can alarm: that needs --alpha {least:.1g} or more")
    distances = {name: energy_test(*pair, permutations) for name, pair in pairs.items()}
    if pairs:
        p["features"] = {name: test.p for name, test in distances.items()}
    adjusted = {family: _corrected(values, families) for family, values in p.items()}
    alarms: list[Alarm] = [
        {"test": WORDS[family], "subjects": [name for name, value in values.items() if value <= alpha]}
        for family, values in adjusted.items()
    ]
    shifts: list[FeatureShift] = [
        {
            "feature": name,
            "energy_distance": distances[name].statistic if name in distances else None,
            "p": distances[name].p if name in distances else None,
            "adjusted_p": adjusted["features"][name] if name in distances else None,
            "missing": float(new.missing[:, place].mean()),
            "missing_before": float(missing_before[:, place].mean()),
            "missing_adjusted_p": adjusted["missing"][name],
        }
        for place, name in enumerate(features if new.missing is not None else ())
        if new.missing is not None
    ]
    return {
        "run": str(run.path),
        "source": new.source,
        "rows": len(new),
        "eval_rows": len(run.eval.ids),
        "alpha": alpha,
        "alarms": [alarm for alarm in alarms if alarm["subjects"]],
        "per_class": _per_class(run, evaluation, new, p["scores"], adjusted),
        "features": shifts,
        "unknown_labels": new.unknown,
        "warnings": warnings,
    }


def _by_name(names: Sequence[str], values: FloatArray) -> dict[str, float]:
    return dict(zip(names, values.tolist(), strict=True))


def _corrected(p: dict[str, float], families: int) -> dict[str, float]:
    """The p-values of a family, corrected for all tests of that many families."""
    return _by_name([*p], np.minimum(holm(np.array([*p.values()])) * families, 1))


def alarm_line(monitored: Monitored) -> str:
    """The tests that alarm, in a line; empty if there is none."""
    tests = "; ".join(f"{alarm['test']} {short_list(alarm['subjects'], 5)}" for alarm in monitored["alarms"])
    return tests and f"alarm: {tests} (chance without a shift: at most {monitored['alpha']:g})"


def _counted(counts: dict[str, int]) -> list[str]:
    return [f"{name} ({count})" for name, count in sorted(counts.items(), key=lambda item: -item[1])]


def _cautions(run: Run, new: NewRows) -> Iterator[str]:
    """What makes the comparison weak, or its false-alarm rate wrong."""
    n, groups = len(run.eval.ids), run.eval.groups
    if min(len(new), n) < FEW:
        yield f"{len(new)} new rows and {n} eval rows: only large shifts can be detected"
    if groups is not None and len(np.unique(groups)) < n:
        yield "eval rows belong together in groups: there are more false alarms than stated"
    if run.eval.folds is not None:
        yield (
            "the eval rows have out-of-fold scores: alarms may be due to the model of all rows, which scores "
            "the new ones"
        )


def _per_class(
    run: Run,
    evaluation: Evaluation,
    new: NewRows,
    p: dict[str, float],
    adjusted: dict[str, dict[str, float]],
) -> list[ClassShift]:
    rule, validation, before = run.decision, run.validation, evaluation.probabilities
    thresholds = rule.thresholds
    if rule.calibration and rule.spec.decide != "thresholds":  # whose thresholds are of plain scores
        thresholds = rule.calibration(thresholds[None].astype(np.float32))[0]
    calibrated = new.probabilities
    if not rule.calibration:
        usual = Calibration.fitted("sigmoid", validation.scores, validation.labels)
        calibrated = usual(calibrated.astype(np.float32))
    labels = run.eval.labels
    if run.eval.folds is None:  # otherwise these are the same rows
        labels = np.concatenate([labels, validation.labels])
    truth = new.truth
    shares_before = _prevalences(labels)
    shares = [None] * len(shares_before) if truth is None else _prevalences(truth)
    of_labels = adjusted.get("labels")
    index = stability_index(before, new.probabilities)
    return [
        {
            "label": label,
            "psi": float(index[c]),
            "p": p[label],
            "adjusted_p": adjusted["scores"][label],
            "labels_adjusted_p": of_labels[label] if of_labels else None,
            "expected": float(calibrated[:, c].mean()),
            "prevalence": shares[c],
            "prevalence_before": shares_before[c],
            "labelled": float(new.labels[:, c].mean()),
            "labelled_before": float(evaluation.predictions[:, c].mean()),
            "above": _share(new.probabilities[:, c] >= thresholds[c], thresholds[c]),
            "above_before": _share(before[:, c] >= thresholds[c], thresholds[c]),
            "near": _share(abs(new.probabilities[:, c] - thresholds[c]) <= NEAR, thresholds[c]),
            "near_before": _share(abs(before[:, c] - thresholds[c]) <= NEAR, thresholds[c]),
        }
        for c, label in enumerate(run.record.classes)
    ]


def _prevalences(labels: PartialLabels) -> list[float | None]:
    """The share of positives of each class; None where no row's label is known."""
    pairs = zip(frequencies(labels).tolist(), rows_by_class(labels).tolist(), strict=True)
    return [share if rows else None for share, rows in pairs]


def _share(rows: BoolArray, threshold: float) -> float | None:
    """The share of rows; None if they were compared with no threshold, as argmax has none."""
    return None if np.isnan(threshold) else float(rows.mean())


def _feature_pairs(run: Run, new: NewRows, warnings: list[str]) -> dict[str, tuple[Vectors, Vectors]]:
    """Feature → vectors of eval rows and of new rows, both of a sample; adds a warning if there are none."""
    if new.matrix is None or new.keys is None or new.kept is None:
        return {}
    try:
        store = fitted_store(run)
        table, rows = own_table(run, store)
        before = featuring.load(sources(run, store), table)
    except EncodeOnceError as error:
        warnings.append(f"features are not compared, as those of the eval rows are gone: {error}")
        return {}
    chosen = rows[content_order(run.eval.keys, run.eval.ids)]
    chosen_new = new.kept[content_order(new.keys, new.ids)]
    pairs = {}
    for block, block_before in zip(new.matrix.blocks, before.blocks, strict=True):
        pair = _vectors(block_before, chosen), _vectors(block, chosen_new)
        if min(map(len, pair)) > 1:
            pairs[block.name] = pair
        else:
            warnings.append(f"{block.name} is not compared: too few rows have it")
    return pairs


def _vectors(block: Block, rows: RowIndex) -> Vectors:
    """The vectors (m, width) of the first rows that have the feature; sequences as their mean.

    Rows are ordered by the hashes of their contents, so that the first are a random sample.
    """
    rows = rows[~block.missing()[rows]][:SAMPLE]
    vectors = block.take(rows)  # (m, length, width), NaN after a sequence's end
    if vectors.shape[1] == 1:
        return np.nan_to_num(vectors[:, 0])
    return np.asarray(np.nan_to_num(np.nanmean(vectors, axis=1)), np.float32)
