"""Scored rows, and what a run's decision rule reaches on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, cast

import numpy as np

from encode_once.cache.keys import Keys
from encode_once.cache.packed_columns import taken
from encode_once.cache.representation import html_heading, html_warnings, short_repr
from encode_once.classify.arrays import (
    BoolArray,
    FloatArray,
    Groups,
    LabelMatrix,
    PartialLabels,
    Probabilities,
    RowIndex,
    Scores,
)
from encode_once.classify.data.hierarchy import levels
from encode_once.classify.data.rows import content_order
from encode_once.classify.decisions.rule import DecisionRule
from encode_once.classify.decisions.shrinkage import ThresholdEstimate
from encode_once.classify.evaluation import intervals
from encode_once.classify.evaluation.metrics import ClassMetrics, Metrics, by_level, measure
from encode_once.classify.evaluation.shown import ShownMetrics, metrics_html

if TYPE_CHECKING:
    import pandas as pd


# What metrics say of the decision rule and the tables, which is so of any rows and classes of these.
OF_RULE = "objective", "decided", "guarantee", "split", "tuned_on", "warnings"
OF_CLASS = "level", "threshold", "interval"


@dataclass(frozen=True)
class ScoredRows:
    """Rows with a head's scores and the true labels."""

    ids: list[str]
    scores: Scores  # (n, c)
    labels: PartialLabels  # (n, c), of which some may be unknown
    keys: Keys = field(kw_only=True)  # (n, 16), see `rows.content_keys`
    folds: RowIndex | None = None  # (n,): in cross-validation, the fold whose model gave the scores
    missing: BoolArray | None = None  # (n, features): features without a vector, if any row lacks one
    groups: Groups | None = None  # (n,): rows with equal numbers belong together; None: every row is alone

    __repr__ = short_repr

    def take(self, rows: RowIndex) -> "ScoredRows":
        """These rows, in this order."""
        return ScoredRows(
            [*taken(self.ids, rows)],
            self.scores[rows],
            self.labels[rows],
            keys=self.keys[rows],
            folds=None if self.folds is None else self.folds[rows],
            missing=None if self.missing is None else self.missing[rows],
            groups=None if self.groups is None else self.groups[rows],
        )


@dataclass(frozen=True)
class Evaluation:
    """What a run predicts for rows that it was not fitted on, and the metrics of that."""

    run: str  # its folder
    classes: Sequence[str]
    rows: ScoredRows
    probabilities: Probabilities  # (n, c): the scores of the rows, calibrated if the run does that
    predictions: LabelMatrix  # (n, c)
    metrics: Metrics
    tuned_here: bool = False  # whether the thresholds were tuned on these rows
    warnings: Sequence[str] = ()

    def __repr__(self) -> str:
        return f"<Evaluation of {self.run}: {ShownMetrics(self.metrics)!r}>"

    def _repr_html_(self) -> str:
        heading = html_heading(f"{self.run}: {self.metrics.get('decided', '')}")
        return heading + metrics_html(self.metrics) + html_warnings(self.warnings)

    def frame(self) -> "pd.DataFrame":
        """A DataFrame with a row for each class: the figures of `metrics["per_class"]`.

        The threshold's 95 % interval is in `threshold_low` and `threshold_high`.
        """
        import pandas as pd  # takes half a second

        table = pd.DataFrame(self.metrics["per_class"]).set_index("label")
        intervals = [row.get("interval") or [np.nan, np.nan] for row in self.metrics["per_class"]]
        table[["threshold_low", "threshold_high"]] = np.array(intervals)
        return table.drop(columns="interval").astype({"threshold": float, "ap": float})

    @cached_property
    def own_draws(self) -> dict[str, FloatArray]:
        """Each metric on each bootstrap draw of the rows, in the order of their contents; computed once."""
        return self.draws(content_order(self.rows.keys, self.rows.ids))

    def draws(self, order: RowIndex) -> dict[str, FloatArray]:
        """Each metric on each bootstrap draw of the rows, see `intervals.resampled`.

        order: in which the rows are drawn.
        """
        rows = self.rows
        return intervals.resampled(
            rows.labels, self.predictions, self.probabilities, rows.groups, order=order
        )

    def with_intervals(self, draws: Mapping[str, FloatArray] | None = None) -> Metrics:
        """The metrics with their 95 % intervals under the key `intervals`."""
        draws = draws or self.own_draws
        names = [name for name in intervals.ALL if name in self.metrics]
        ends = {name: intervals.interval(draws[name], self.metrics[name]) for name in names}
        return {**self.metrics, "intervals": ends}

    def subset(self, rows: RowIndex, classes: Sequence[str]) -> "Evaluation":
        """The evaluation of these rows, in this order, with the same classes in the order given."""
        columns = [self.classes.index(name) for name in classes]
        if [*classes] == [*self.classes] and np.array_equal(rows, np.arange(len(self.rows.ids))):
            return self
        block = np.ix_(rows, np.array(columns))
        groups = self.rows.groups
        kept = ScoredRows(
            [*taken(self.rows.ids, rows)],
            self.rows.scores[block],
            self.rows.labels[block],
            keys=self.rows.keys[rows],
            groups=None if groups is None else groups[rows],
        )
        probabilities, predictions = self.probabilities[block], self.predictions[block]
        metrics = measure(kept.labels, predictions, probabilities, classes)
        if "levels" in self.metrics:
            places = [self.metrics["per_class"][column]["level"] for column in columns]
            metrics["levels"] = by_level(kept.labels, predictions, probabilities, places)
        before = [_of(self.metrics["per_class"][column], OF_CLASS) for column in columns]
        per_class = [
            {"label": row["label"], **of_rule, **row}
            for of_rule, row in zip(before, metrics["per_class"], strict=True)
        ]
        metrics["per_class"] = cast("list[ClassMetrics]", per_class)
        return replace(
            self,
            classes=classes,
            rows=kept,
            probabilities=probabilities,
            predictions=predictions,
            metrics=cast("Metrics", {**metrics, **_of(self.metrics, OF_RULE)}),
        )


def _of(figures: Mapping[str, object], names: Sequence[str]) -> dict[str, object]:
    return {name: figures[name] for name in names if name in figures}


def measure_rule(
    rule: DecisionRule,
    labels: PartialLabels,
    predictions: LabelMatrix,
    probabilities: Probabilities,
    classes: Sequence[str],
) -> Metrics:
    """The metrics of predictions (n, c), with the thresholds that made them and the rule in words.

    With a hierarchy, also those of its levels.
    """
    metrics = measure(labels, predictions, probabilities, classes)
    if rule.pairs is not None:
        places = levels(rule.pairs, len(classes))
        metrics["levels"] = by_level(labels, predictions, probabilities, places)
        metrics["per_class"] = [
            {"label": row["label"], "level": level, **row}
            for row, level in zip(metrics["per_class"], places, strict=True)
        ]
    if rule.spec.decide != "thresholds":  # no threshold belongs next to the F1 of sets and argmax
        rule = replace(rule, estimate=ThresholdEstimate(np.full(len(classes), np.nan)))
    per_class = zip(metrics["per_class"], rule.per_class(), strict=True)
    metrics["per_class"] = [{"label": row["label"], **threshold, **row} for row, threshold in per_class]
    return {**metrics, **rule.summary}
