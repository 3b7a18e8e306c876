"""The summary of runs: what `report` prints, what its `--json` is, and what its page shows."""

from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any, TypedDict

import numpy as np

from encode_once.cache import EncodeOnceError
from encode_once.cache.terminal import short_list
from encode_once.cache.text_table import table_text
from encode_once.classify.arrays import LabelMatrix, PartialLabels
from encode_once.classify.data.split_lists import short_split
from encode_once.classify.decisions.rule import ClassThreshold
from encode_once.classify.evaluation import compare
from encode_once.classify.evaluation.compare import Comparison
from encode_once.classify.evaluation.metrics import Metrics
from encode_once.classify.partial import without_unknown
from encode_once.classify.report import checks
from encode_once.classify.report.checks import Evidence, Fired
from encode_once.classify.runs.asked import check_labels
from encode_once.classify.runs.model_card import private
from encode_once.classify.runs.retune import RuleScores, compare_rules

PAIRS = 30  # of classes that are shown as predicted together most too often, or too rarely


class About(TypedDict):
    """The run in one paragraph."""

    head: str
    options: dict[str, Any]
    features: list[str]
    data: str
    classes: int
    split: str
    eval_rows: int
    tuning_rows: int
    decide: str  # the kind of decision rule
    objective: str  # of its thresholds
    folds: bool  # whether each eval row is labelled by the rule of its fold
    hierarchy: bool  # whether each label adds those above it
    decided: str  # the rule in words
    tuned_on: str
    created: str
    seconds: float
    code: str
    defaults: dict[str, Any]  # options of the head that were not set
    origin: dict[str, str]  # `Origin.shown`, without the folders of paths


class PairCounts(TypedDict):
    """Two classes, and in how many eval rows both are true, and both predicted."""

    classes: list[str]
    true: int
    predicted: int


class RunSummary(TypedDict):
    """A run: what it is, what it reaches on its eval rows, and what to know before trusting it."""

    run: str
    about: About
    metrics: Metrics  # with intervals
    rules: list[RuleScores]  # F1 by other decision rules
    thresholds: dict[str, ClassThreshold]  # of plain scores; empty if the run has none
    reported: dict[str, float]  # figures of the report that the run's recipe is from
    pairs: list[PairCounts]
    history: list[dict[str, Any]]  # `heads.history.Epoch`
    checks: list[Fired]
    warnings: list[str]


class Summary(TypedDict):
    """Runs, the best by micro F1 first, and how they differ from the first that was named."""

    runs: list[RunSummary]
    comparison: Comparison | None  # None for a single run, or runs that cannot be compared
    notes: list[str]  # what could not be compared or checked, and why


def summarise(
    runs: Sequence[Evidence], ignore: Collection[str] = (), *, vectors: bool = True
) -> tuple[Summary, list[Evidence]]:
    """The summary of runs, and the runs in its order.

    Args:
        ignore: codes of checks to leave out.
        vectors: also make checks that read vectors and run the models.

    Raises:
        UsageError: `ignore` has an unknown code.
    """
    notes: list[str] = []
    summaries = []
    for evidence in runs:
        fired, skipped = checks.fired(evidence, ignore, vectors=vectors)
        notes += [f"{evidence.run.path}: {line}" for line in skipped]
        summaries.append((_of_run(evidence, fired), evidence))
    comparison = None
    if len(runs) > 1:
        try:
            check_labels([evidence.run for evidence in runs])
            comparison, _ = compare.against_first([evidence.evaluation for evidence in runs])
        except EncodeOnceError as error:
            notes.append(f"figures of different runs are not comparable: {error}")
    summaries.sort(key=lambda pair: -pair[0]["metrics"]["micro_f1"])
    summary: Summary = {"runs": [run for run, _ in summaries], "comparison": comparison, "notes": notes}
    return summary, [evidence for _, evidence in summaries]


def _of_run(evidence: Evidence, fired: list[Fired]) -> RunSummary:
    run, evaluation = evidence.run, evidence.evaluation
    metrics = evaluation.with_intervals()
    rule, classes = run.decision, run.record.classes
    return {
        "run": str(run.path),
        "about": {
            "head": run.spec.head,
            "options": {name: value for name, value in run.spec.options.items() if name != "classes"},
            "features": [*run.record.features],
            "data": run.record.table,
            "classes": len(classes),
            "split": short_split(run.spec.split),
            "eval_rows": len(run.eval.ids),
            "tuning_rows": len(evidence.tuning_rows.ids),
            "decide": rule.spec.decide,
            "objective": rule.spec.objective,
            "folds": bool(rule.folds),
            "hierarchy": rule.pairs is not None,
            "decided": metrics["decided"],
            "tuned_on": metrics["tuned_on"],
            "created": run.record.created,
            "seconds": run.record.seconds,
            "code": run.record.code,
            "defaults": run.record.defaults,
            "origin": {title: private(run, line) for title, line in run.record.origin.shown.items()},
        },
        "metrics": metrics,
        "rules": compare_rules(run, metrics),
        "thresholds": dict(zip(classes, rule.per_class(), strict=True)) if rule.has_plain_thresholds else {},
        "reported": evidence.recipe.figures if evidence.recipe else {},
        "pairs": _pairs(classes, run.eval.labels, evaluation.predictions),
        "history": [asdict(epoch) for epoch in run.history],
        "checks": fired,
        "warnings": run.record.warnings,
    }


def _pairs(classes: Sequence[str], labels: PartialLabels, predictions: LabelMatrix) -> list[PairCounts]:
    """The pairs of classes whose number of rows with both differs most between truth and prediction."""
    true, predicted = (
        table.T.astype(np.float32) @ table.astype(np.float32)
        for table in without_unknown(labels, predictions)
    )
    rows, columns = np.triu_indices(len(classes), k=1)
    differences = np.abs(true - predicted)[rows, columns]
    order = np.argsort(-differences, kind="stable")[:PAIRS]
    return [
        {"classes": [classes[i], classes[j]], "true": int(true[i, j]), "predicted": int(predicted[i, j])}
        for i, j in zip(rows[order].tolist(), columns[order].tolist(), strict=True)
        if true[i, j] or predicted[i, j]
    ]


def text(summary: Summary) -> str:
    """The summary for a terminal: a line for each run and rule, then the checks that fired."""
    rows = [
        {"run": run["run"], "head": run["about"]["head"], "features": short_list(run["about"]["features"], 3),
         "split": run["about"]["split"], "n": run["about"]["eval_rows"], **scores}
        for run in summary["runs"]
        for scores in run["rules"]
    ]  # fmt: skip
    lines = [table_text(rows)]
    for run in summary["runs"]:
        lines += [f"{run['run']}: {checks.line(check)}" for check in run["checks"]]
    return "\n".join(lines)
