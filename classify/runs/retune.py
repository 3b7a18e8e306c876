"""From kept scores to thresholds, predictions and metrics, without refitting the model."""

from dataclasses import replace
from typing import TypedDict, cast

import numpy as np

from encode_once.classify.arrays import IntArray, LabelMatrix, Probabilities
from encode_once.classify.data.labels import MULTI
from encode_once.classify.data.split_lists import short_split
from encode_once.classify.decisions.objectives import BY_HAND
from encode_once.classify.decisions.rule import USUAL_OBJECTIVE, DecisionRule, DecisionSpec
from encode_once.classify.decisions.shrinkage import ThresholdEstimate
from encode_once.classify.evaluation.evaluation import Evaluation, ScoredRows, measure_rule
from encode_once.classify.evaluation.metrics import Metrics
from encode_once.classify.evaluation.shown import ShownMetrics
from encode_once.classify.runs.run import Run
from encode_once.classify.spec import check_decision

OWN_RULE = "its own"
COMPARED_RULES = {
    "0.5": DecisionSpec("none"),
    "global": DecisionSpec("global-macro"),
    "per class": DecisionSpec("macro"),
    "expected F1": DecisionSpec(decide="expected-f1"),
    "expected mean": DecisionSpec(decide="expected-mean"),
}


def decide(
    spec: DecisionSpec,
    validation: ScoredRows,
    evaluated: ScoredRows,
    tune_on: str,
    pairs: IntArray | None = None,
) -> DecisionRule:
    """The decision rule that a run's kept scores and labels give.

    With cross-validation also the rule of each fold, fitted on the other folds: these rules label the rows,
    so that no row affects its own labels. The rule itself is fitted on all rows and is for new ones.

    pairs: of classes in a hierarchy, see `DecisionSpec.fit`.

    Raises:
        DataError: scores that are not probabilities.
    """
    tuned_on = evaluated if tune_on == "eval" else validation
    rule = spec.fit(tuned_on.scores, tuned_on.labels, pairs=pairs)
    if evaluated.folds is None or tune_on == "eval" or not spec.learns:
        return rule
    return replace(rule, folds=spec.fit_folds(evaluated.scores, evaluated.labels, evaluated.folds, pairs))


def retune(run: Run, spec: DecisionSpec) -> tuple[Metrics, LabelMatrix]:
    """Replace a run's decision rule; return the metrics and predictions of its `eval` rows.

    Thresholds that were chosen by hand stay as they are.

    Raises:
        DataError: scores that are not probabilities.
        UsageError: the rule is not for the run's task.
    """
    check_decision(run.spec.task, spec)
    if spec.objective == BY_HAND and spec.decide != "thresholds":
        spec = replace(spec, objective=USUAL_OBJECTIVE)
    if spec.objective == BY_HAND:
        by_hand = DecisionRule.by_hand(run.decision.thresholds, spec.at_least, spec.at_most)
        run.decision = by_hand.with_pairs(run.pairs)
    else:
        run.decision = decide(spec, run.validation, run.eval, run.spec.tune_on, run.pairs)
    return measure_kept(run)


def measure_kept(run: Run) -> tuple[Metrics, LabelMatrix]:
    """`metrics.json` for a run's decision rule as it is, and the predictions (n, c) of its `eval` rows."""
    evaluation = evaluate_kept(run)
    return cast("Metrics", ShownMetrics(evaluation.metrics)), evaluation.predictions


def evaluate_kept(run: Run) -> Evaluation:
    """The evaluation of a run on its `eval` rows, from the kept scores; computed once, see `Run.once`."""
    return run.once(_evaluate)


def _evaluate(run: Run) -> Evaluation:
    rule, classes = run.decision, run.record.classes
    probabilities, predictions = _decided(run)
    if rule.folds:  # predictions came from several thresholds per class: none belongs next to its F1
        rule = replace(rule, estimate=ThresholdEstimate(np.full(len(classes), np.nan)))
    metrics: Metrics = {
        **measure_rule(rule, run.eval.labels, predictions, probabilities, classes),
        "split": short_split(run.spec.split),
        "tuned_on": _tuned_on(run),
        "warnings": run.record.warnings,
    }
    return Evaluation(
        str(run.path), classes, run.eval, probabilities, predictions, metrics, tuned_on_eval(run)
    )


def _decided(run: Run) -> tuple[Probabilities, LabelMatrix]:
    """The probabilities and predictions (n, c) of a run's `eval` rows: of each fold by the fold's rule."""
    rows, rule = run.eval, run.decision
    if rows.folds is None or not rule.folds:
        probabilities = rule.probabilities(rows.scores)
        return probabilities, rule.choose(probabilities)
    probabilities, predictions = np.empty(rows.scores.shape), np.empty(rows.labels.shape, np.bool_)
    for number, fold_rule in enumerate(rule.folds):
        of_fold = rows.folds == number
        probabilities[of_fold] = fold_rule.probabilities(rows.scores[of_fold])
        predictions[of_fold] = fold_rule.choose(probabilities[of_fold])
    return probabilities, predictions


def tuned_on_eval(run: Run) -> bool:
    """Whether the thresholds were tuned on the very rows the run is evaluated on, which flatters it."""
    return run.spec.tune_on == "eval" and run.decision.spec.learns


def _tuned_on(run: Run) -> str:
    if not run.decision.spec.learns:
        return "nothing: they were chosen by hand" if run.decision.spec.objective == BY_HAND else "nothing"
    if tuned_on_eval(run):
        return f"eval: the {len(run.eval.ids)} rows it is measured on"
    if run.eval.folds is not None:
        return "out-of-fold scores, each fold by the others"
    if run.spec.validation == "folds":
        return f"out-of-fold scores of the {len(run.validation.ids)} train rows"
    return f"{len(run.validation.ids)} validation rows"


class RuleScores(TypedDict):
    """What a decision rule reaches on a run's eval rows."""

    rule: str
    micro_f1: float
    macro_f1: float
    samples_f1: float | None


def compare_rules(run: Run, own: Metrics) -> list[RuleScores]:
    """A run's F1 on its `eval` rows by its own rule, which gave `own`, and each of `COMPARED_RULES`.

    Of the task "single" only its own: the others give any number of labels.
    """
    measured = {OWN_RULE: own}
    if run.spec.task == MULTI:
        measured |= {name: retune(replace(run), spec)[0] for name, spec in COMPARED_RULES.items()}
    return [
        {
            "rule": name,
            "micro_f1": metrics["micro_f1"],
            "macro_f1": metrics["macro_f1"],
            "samples_f1": metrics["samples_f1"],
        }
        for name, metrics in measured.items()
    ]
