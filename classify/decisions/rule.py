"""From scores to labels: the specification of a decision rule, and the rule that scores and labels give."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, NotRequired, TypedDict

import numpy as np

from encode_once.cache.errors import DataError, UsageError, unknown_name
from encode_once.cache.representation import short_repr
from encode_once.classify.arrays import (
    FloatArray,
    IntArray,
    LabelMatrix,
    PartialLabels,
    Probabilities,
    Scores,
    as_partial_labels,
    as_scores,
)
from encode_once.classify.data.hierarchy import raised
from encode_once.classify.decisions import expected_f1, expected_mean, guarantees
from encode_once.classify.decisions.calibration import FINEST, METHODS, Calibration, logits
from encode_once.classify.decisions.canonical import canonical_order
from encode_once.classify.decisions.exact import tune
from encode_once.classify.decisions.guarantees import MISSES, Guarantee
from encode_once.classify.decisions.objectives import BY_HAND, Objective
from encode_once.classify.decisions.ranking import ALWAYS, NEVER, parts
from encode_once.classify.decisions.shrinkage import ThresholdEstimate, estimate
from encode_once.classify.partial import frequencies, is_partial, positives, unknown_entries

MEAN, SAMPLES = SETS = ("expected-mean", "expected-f1")  # the rules that compare the label sets of a row
RULES = (MEAN, "thresholds", SAMPLES, "argmax")
USUAL_CALIBRATION = dict.fromkeys(SETS, "sigmoid")  # of the other rules: none
USUAL_OBJECTIVE = "samples"  # of the fixed thresholds, the least far from the best: see docs/thresholds.md
CALIBRATIONS = ("auto", "none", *METHODS)


@dataclass(frozen=True)
class DecisionSpec:
    """How labels follow from scores.

    Args:
        objective: what thresholds maximise, one of `classify.decisions.objectives.NAMES`; "auto":
            `USUAL_OBJECTIVE`.
        shrink: tune thresholds for unseen rows; False: the exact optimum on the tuning rows.
        decide: "thresholds"; "expected-mean": each row's label set of the greatest expected mean of micro,
            macro and samples F1; "expected-f1": that of the greatest samples F1; or "argmax": the class of
            the highest score. "auto" is "expected-mean", unless an objective or exact thresholds are
            requested.
        calibrate: how scores become probabilities; "auto" is "sigmoid" for label sets and
            costs, else "none".
        at_least, at_most: labels per row. The label set is the best of these sizes. Thresholds are tuned
            without these bounds; then the labels nearest to their thresholds are added, or those least above
            theirs are dropped.

    Raises:
        UsageError: unknown value.
    """

    objective: str = "auto"
    shrink: bool = True
    decide: str = "auto"
    calibrate: str = "auto"
    at_least: int = 0
    at_most: int | None = None

    def __post_init__(self) -> None:
        if self.decide == "auto":
            plain = self.objective == "auto" and self.shrink
            object.__setattr__(self, "decide", MEAN if plain else "thresholds")  # it is frozen
        if self.objective == "auto":
            object.__setattr__(self, "objective", USUAL_OBJECTIVE)
        Objective.of(self.objective)
        if self.decide not in RULES:
            raise unknown_name("--decide", self.decide, RULES)
        if self.calibrate not in CALIBRATIONS:
            raise unknown_name("--calibrate", self.calibrate, CALIBRATIONS)
        plain = self.calibrate in ("auto", "none") and (self.at_least, self.at_most) == (0, None)
        if self.decide == "argmax" and not plain:
            raise UsageError(
                "argmax gives each row exactly one label, by scores as they are: leave out at_least, at_most "
                "and calibrate"
            )
        if self.at_least < 0 or (self.at_most is not None and self.at_most < max(self.at_least, 1)):
            raise UsageError(f"no row has at least {self.at_least} and at most {self.at_most} labels")

    @property
    def calibration(self) -> str:
        """The method by which scores are calibrated, or "none"."""
        usual = USUAL_CALIBRATION.get(self.decide, "none")
        if self.decide == "thresholds" and Objective.of(self.objective).takes_probabilities:
            usual = "sigmoid"
        return usual if self.calibrate == "auto" else self.calibrate

    @property
    def bounds(self) -> tuple[int, int | None]:
        """The least and the greatest number of labels per row."""
        return (1, 1) if self.decide == "argmax" else (self.at_least, self.at_most)

    @property
    def learns(self) -> bool:
        """Whether the rule depends on scores and labels; argmax, 0.5 and a choice by hand do not."""
        tunes = self.decide == "thresholds" and bool(Objective.of(self.objective).measure)
        return self.calibration != "none" or self.decide in SETS or tunes

    def __str__(self) -> str:
        parts = [self.method]
        parts += [f"{self.at_least} or more labels per row"] if self.at_least else []
        parts += [f"{self.at_most} or fewer labels per row"] if self.at_most is not None else []
        return ", ".join(parts)

    @property
    def method(self) -> str:
        """The rule in words, without bounds."""
        objective = Objective.of(self.objective)
        if self.decide == MEAN:
            parts = ["sets of the greatest expected mean of micro, macro and samples F1"]
        elif self.decide == SAMPLES:
            parts = ["sets of the greatest expected F1"]
        elif self.decide == "argmax":
            parts = ["the class of the highest score"]
        elif self.objective == BY_HAND:
            parts = ["thresholds chosen by hand"]
        elif objective.fixed is not None:
            parts = [f"{objective.fixed:g} is the threshold of every class"]
        elif objective.measure in ("precision", "recall") and self.shrink:
            target = f"a {objective.measure} of {float(objective.share):g}"
            classes = "in all classes together" if objective.shared else "of each class"
            parts = [f"thresholds hold {target} {classes} on unseen rows, with {1 - MISSES:.0%} confidence"]
        else:
            parts = [f"thresholds maximise {self.objective}"]
            parts += [] if self.shrink else ["exactly"]
        parts += [f"scores calibrated by {self.calibration}"] if self.calibration != "none" else []
        return ", ".join(parts)

    def fit(
        self, scores: Scores, labels: PartialLabels, intervals: bool = True, pairs: IntArray | None = None
    ) -> "DecisionRule":
        """The rule for scores and labels (n, c), whatever the order of rows and classes.

        Unknown labels count neither as positive nor as negative: a class's threshold and calibration depend
        on the rows whose label is known, samples F1 on the known labels of each row.

        intervals: also compute what labels do not need: the thresholds' intervals and expected loss, and the
            thresholds next to label sets, which are NaN without.
        pairs: of classes in a hierarchy, see `Hierarchy.pairs`; labels have to be closed upward.

        Raises:
            DataError: shapes that do not match, scores that are NaN or outside [0, 1], labels that are not 0
                or 1; argmax of a single class.
            UsageError: the thresholds are chosen by hand; argmax of classes that do not exclude each other.
        """
        if self.decide == "argmax" and pairs is not None:
            raise UsageError(
                "argmax gives each row one label, but classes of a hierarchy do not exclude each other"
            )
        if self.objective == BY_HAND:
            raise UsageError(
                f"{BY_HAND} thresholds are not tuned: they come from a file (tune RUN --from FILE)"
            )
        labels = as_partial_labels(labels)
        scores = as_scores(scores, labels)
        if self.decide == "argmax" and labels.shape[1] < 2:
            raise DataError(
                "argmax chooses among two classes or more, but there is one: use --decide thresholds"
            )
        rows, classes = canonical_order(scores, labels)
        block = np.ix_(rows, classes)
        places = np.argsort(classes)
        in_order = None if pairs is None else places[pairs]
        rule = self._fitted(scores[block], labels[block], intervals, in_order)
        frequent = np.argsort(-frequencies(labels)[classes], kind="stable")
        return DecisionRule(
            self,
            rule.estimate.of_classes(places),
            rule.calibration and rule.calibration.of_classes(places),
            precedence=classes[frequent],
            sizes=rule.sizes,
            gains=None if rule.gains is None else rule.gains[:, places],
            pairs=pairs,
        )

    def fit_folds(
        self, scores: Scores, labels: PartialLabels, folds: IntArray, pairs: IntArray | None = None
    ) -> "tuple[DecisionRule, ...]":
        """The rule of each fold, fitted on the rows (n,) of the others; for its rows alone."""
        others = (folds != fold for fold in range(folds.max() + 1))
        return tuple(self.fit(scores[rows], labels[rows], False, pairs) for rows in others)

    def _fitted(
        self, scores: Scores, labels: PartialLabels, intervals: bool, pairs: IntArray | None
    ) -> "DecisionRule":
        """The rule for scores and labels in canonical order."""
        calibration = None
        if self.calibration != "none":
            calibration = Calibration.fitted(self.calibration, scores, labels)
        # The thresholds next to label sets are for programs that only compare scores, as they are; argmax has
        # none.
        by_thresholds = self.decide == "thresholds"

        def values() -> Probabilities:
            if not by_thresholds:
                return scores.astype(np.float64)
            return raised(calibration(scores) if calibration else scores.astype(np.float64), pairs)

        objective = Objective.of(self.objective).of_classes(labels.shape[1])
        if self.decide == "argmax" or not (intervals or by_thresholds):
            thresholds = ThresholdEstimate(np.full(labels.shape[1], np.nan))
        elif intervals or self.shrink:
            thresholds = estimate(values(), labels, objective, self.shrink)
        else:
            thresholds = ThresholdEstimate(tune(values(), labels, objective))
        probabilities = calibration(scores) if calibration else scores
        sizes = _sizes(labels, probabilities) if self.decide in SETS else None
        gains = None
        if self.decide == MEAN:
            gains = expected_mean.gains(raised(probabilities.astype(np.float64), pairs))
        return DecisionRule(self, thresholds, calibration, sizes=sizes, gains=gains)


def _sizes(labels: PartialLabels, probabilities: Probabilities | Scores) -> tuple[int, int]:
    """The least and the greatest number of labels that a row may have, of labels (n, c).

    A row with unknown labels may have all or none of these, so that rows without labels may occur or not. If
    labels are independent, a row has none with the probability e = Π (1 - p). If every row has one, that
    divides the likelihood of a row by 1 - e, and multiplies that of a row without known positives by the
    probability that an unknown label is present. The least is 1 if this makes the known labels likelier.
    """
    counts = positives(labels).sum(axis=1)
    if not is_partial(labels):
        return int(counts.min()), int(counts.max())
    unknown, absent = unknown_entries(labels), 1 - probabilities.astype(np.float64)
    all_absent = absent.prod(axis=1)
    unknown_absent = np.where(unknown, absent, 1).prod(axis=1)[counts == 0]
    with np.errstate(divide="ignore"):  # a row that is known to have no label is impossible there
        never_empty = np.log1p(-unknown_absent).sum() > np.log1p(-all_absent).sum()
    return (max(int(counts.min()), 1) if never_empty else 0), int((counts + unknown.sum(axis=1)).max())


class ClassThreshold(TypedDict):
    """The threshold of a class and its 95 % interval; None if there is none."""

    threshold: float | None
    interval: list[float] | None


class RuleSummary(TypedDict):
    """What `metrics.json` says of a decision rule."""

    objective: str
    decided: str
    guarantee: NotRequired[str]


@dataclass(frozen=True)
class DecisionRule:
    """A rule from scores to labels, and the specification it was fitted for."""

    spec: DecisionSpec
    estimate: ThresholdEstimate
    calibration: Calibration | None = None
    folds: tuple["DecisionRule", ...] = ()  # in cross-validation: each fold's rule, fitted on the others
    # Classes, (c,), the most frequent first: of labels that are equally good in a row, the first are chosen.
    precedence: IntArray | None = None
    # Of label sets: the least and the greatest number of labels of a tuning row. A set is empty only if some
    # tuning row has no label, and has no more labels than the one with the most, so that rows of exactly one
    # label get one.
    sizes: tuple[int, int] | None = None
    gains: FloatArray | None = None  # (2, c), of expected-mean, see there
    pairs: IntArray | None = None  # (m, 2), a class and one above it: see `data.hierarchy`; as in `folds`

    __repr__ = short_repr

    @classmethod
    def by_hand(cls, thresholds: FloatArray, at_least: int = 0, at_most: int | None = None) -> "DecisionRule":
        """The rule of thresholds (c,) that a person chose for scores as they are, with bounds per row."""
        spec = DecisionSpec(BY_HAND, calibrate="none", at_least=at_least, at_most=at_most)
        return cls(spec, ThresholdEstimate(thresholds))

    @property
    def thresholds(self) -> FloatArray:
        """Thresholds (c,) of the calibrated scores.

        Label sets do not need them: these thresholds are for programs that only compare scores, and
        are of the scores as they are. NaN in the rules of its folds, which only label the eval rows, and of
        argmax.
        """
        return self.estimate.thresholds

    @property
    def set_sizes(self) -> tuple[int, int]:
        """The least and the greatest number of labels of a label set: `sizes` within the bounds."""
        c = len(self.thresholds)
        least, most = self.sizes or (1, c)
        least = max(min(least, 1), min(self.spec.at_least, c))
        return least, max(least, 1, min(most, self.spec.at_most or c))

    @property
    def has_plain_thresholds(self) -> bool:
        """Whether the thresholds are of scores as they are, and labels follow from them alone.

        Neither bounds nor a hierarchy add any.
        """
        spec, thresholds = self.spec, self.thresholds
        changed = self.pairs is not None or (self.calibration is not None and spec.decide == "thresholds")
        return not (changed or spec.bounds != (0, None) or np.isnan(thresholds).any())

    def __call__(self, scores: Scores) -> LabelMatrix:
        """The labels (n, c) of rows with scores (n, c)."""
        return self.choose(self.probabilities(scores))

    def probabilities(self, scores: Scores) -> Probabilities:
        """Scores (n, c) as float64, calibrated if the rule does that, and closed upward in a hierarchy."""
        return raised(self.calibration(scores) if self.calibration else scores.astype(np.float64), self.pairs)

    def with_pairs(self, pairs: IntArray | None) -> "DecisionRule":
        """The same, and its folds, for classes in a hierarchy."""
        return replace(self, pairs=pairs, folds=tuple(fold.with_pairs(pairs) for fold in self.folds))

    def choose(self, probabilities: Probabilities) -> LabelMatrix:
        """The labels (n, c) of rows with probabilities (n, c), closed upward in a hierarchy."""
        n, c = probabilities.shape
        blocks = [raised(self._chosen(probabilities[rows]), self.pairs) for rows in parts(n, c)]
        return np.concatenate(blocks) if blocks else np.empty((n, c), np.bool_)

    def _chosen(self, probabilities: Probabilities) -> LabelMatrix:
        spec, thresholds = self.spec, self.thresholds
        by_thresholds = spec.decide == "thresholds"
        if by_thresholds and spec.bounds == (0, None):
            return np.asarray(probabilities >= thresholds)
        order = np.arange(len(thresholds)) if self.precedence is None else self.precedence
        probabilities, thresholds, inverse = probabilities[:, order], thresholds[order], np.argsort(order)
        if self.gains is not None:
            return expected_mean.best_sets(probabilities, self.gains[:, order], *self.set_sizes)[:, inverse]
        if spec.decide == SAMPLES:
            return expected_f1.best_sets(probabilities, *self.set_sizes)[:, inverse]
        if by_thresholds:
            chosen = probabilities >= thresholds
            margins = logits(probabilities, FINEST) - logits(thresholds, FINEST)
        else:  # argmax: none by itself; the bounds add the label of the highest score
            chosen, margins = np.zeros(probabilities.shape, np.bool_), probabilities
        return _bounded(chosen, margins, *spec.bounds)[:, inverse]

    @property
    def summary(self) -> RuleSummary:
        """The rule in words, for `metrics.json`."""
        spec = self.spec
        by_thresholds = spec.decide == "thresholds"
        summary: RuleSummary = {
            "objective": spec.objective if by_thresholds else spec.decide,
            "decided": f"{spec.method}, {self._sizes_text}" if self.sizes else str(spec),
        }
        objective = Objective.of(spec.objective)
        if by_thresholds and objective.of_classes(len(self.thresholds)) != objective:
            summary["decided"] += ", which of one class is its F1"
        if self.estimate.guarantee is not None and by_thresholds:
            summary["guarantee"] = self._guarantee_text(self.estimate.guarantee)
        return summary

    @property
    def _sizes_text(self) -> str:
        """`set_sizes` in words."""
        least, most = self.set_sizes
        sizes = str(most) if least == most else f"{least} to {most}"
        return f"{sizes} label{'s' * (most > 1)} per row"

    def _guarantee_text(self, reached: Guarantee) -> str:
        """What a guarantee costs: expected means, and the number of classes it leaves out."""
        of_precision = Objective.of(self.spec.objective).measure == "precision"
        other, values = ("recall", reached.recall) if of_precision else ("precision", reached.precision)
        c = len(self.thresholds)
        never, always = int((self.thresholds >= NEVER).sum()), int((self.thresholds <= ALWAYS).sum())
        parts = []
        if not np.isnan(values).all():
            parts.append(f"expected {other} {np.nanmean(values):.3f}, the mean over classes")
        if never:
            parts.append(f"{never} of {c} classes never predicted, as no threshold passes the test")
        if always:
            parts.append(
                f"{always} of {c} classes predicted in every row, as nothing less is sure to be enough"
            )
        if never or always:
            parts.append("--no-shrink tunes without the guarantee")
        return "; ".join(parts)

    def per_class(self) -> list[ClassThreshold]:
        """The threshold of each class, with its interval if the rule was fitted with intervals."""
        intervals = self.estimate.intervals
        if intervals is None:
            intervals = np.full((len(self.thresholds), 2), np.nan)
        return [
            {
                "threshold": None if np.isnan(threshold) else float(threshold),
                "interval": None if np.isnan(ends).any() else ends.tolist(),
            }
            for threshold, ends in zip(self.thresholds, intervals, strict=True)
        ]

    def as_json(self, classes: Sequence[str]) -> dict[str, Any]:
        """`thresholds.json`: the specification, each class's threshold, and the same for each fold."""
        per_class = dict(zip(classes, self.per_class(), strict=True))
        guarantee, calibration = self.estimate.guarantee, None
        if self.calibration:
            parameters = (values.tolist() for values in self.calibration.parameters)
            calibration = dict(zip(classes, parameters, strict=True))
        gains = None if self.gains is None else dict(zip(classes, self.gains.T.tolist(), strict=True))
        return {
            **asdict(self.spec),
            "thresholds": {name: row["threshold"] for name, row in per_class.items()},
            "intervals": {name: row["interval"] for name, row in per_class.items()},
            "sizes": self.sizes and list(self.sizes),
            "precedence": None if self.precedence is None else [classes[c] for c in self.precedence],
            "expected_loss": self.estimate.loss,
            "guarantee": guarantees.as_json(self.spec.objective, self.thresholds, guarantee, classes)
            if guarantee
            else None,
            "calibrated_by": self.spec.calibration,
            "calibration": calibration,
            "folds": [fold.as_json(classes) for fold in self.folds],
            **({} if gains is None else {"gains": gains}),
            # Programs that know no hierarchy would label rows otherwise; they refuse an unknown entry.
            **({} if self.pairs is None else {"hierarchy": True}),
        }

    @classmethod
    def of_json(cls, content: Mapping[str, Any], classes: Sequence[str]) -> "DecisionRule":
        """The inverse of `as_json`.

        Raises:
            KeyError, TypeError, ValueError: the content is not that of a rule for these classes.
        """
        spec = DecisionSpec(**{field.name: content[field.name] for field in fields(DecisionSpec)})
        guarantee, calibration = content.get("guarantee"), content["calibration"]
        thresholds = ThresholdEstimate(
            np.array([content["thresholds"][name] for name in classes], dtype=np.float64),
            np.array([content["intervals"][name] or [np.nan, np.nan] for name in classes]),
            content["expected_loss"],
            guarantees.of_json(guarantee, classes) if guarantee else None,
        )
        if calibration:
            parameters = [np.array(calibration[name]) for name in classes]
            calibration = Calibration(content["calibrated_by"], parameters)
        folds = tuple(cls.of_json(fold, classes) for fold in content["folds"])
        precedence, names, sizes = None, content.get("precedence"), content.get("sizes")
        if sizes is not None:
            least, most = sizes
            sizes = (least, most)
        if names is not None:
            places = {name: c for c, name in enumerate(classes)}
            precedence = np.array([places[name] for name in names], np.intp)
            if len(names) != len(classes) or len(set(names)) != len(names):
                raise ValueError("precedence must name each class once")
        gains = np.array([content["gains"][name] for name in classes]).T if spec.decide == MEAN else None
        return cls(spec, thresholds, calibration, folds, precedence, sizes, gains)


def _bounded(chosen: LabelMatrix, margins: Probabilities, at_least: int, at_most: int | None) -> LabelMatrix:
    """Chosen labels (n, c); rows with too few or too many get those of the greatest margins (n, c)."""
    c = chosen.shape[1]
    counts = chosen.sum(axis=1)
    allowed = np.clip(counts, min(at_least, c), c if at_most is None else at_most)
    if (allowed == counts).all():
        return chosen
    order = np.lexsort((-margins, ~chosen))  # chosen labels come first, however margins were rounded
    bounded = np.empty_like(chosen)
    np.put_along_axis(bounded, order, np.arange(c) < allowed[:, None], axis=1)
    return bounded
