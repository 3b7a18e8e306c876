"""Checks of a run with stable codes: what may make its figures worth less than they look.

A check that fires says what was detected; `CHECKS` says why it matters and what to do. A code never changes
its meaning; `--ignore CODE` leaves a check out.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from typing import TypedDict

import numpy as np

from encode_once.cache import EncodeOnceError, Store
from encode_once.cache.errors import unknown_name
from encode_once.cache.keys import present
from encode_once.cache.terminal import short_list
from encode_once.classify.arrays import BoolArray, IntArray
from encode_once.classify.audit.audit import MIN_POSITIVES
from encode_once.classify.data import features as featuring
from encode_once.classify.data.labels import MULTI
from encode_once.classify.evaluation import intervals
from encode_once.classify.evaluation.evaluation import Evaluation, ScoredRows
from encode_once.classify.evaluation.metrics import average_f1, calibration_error, ranked_classes
from encode_once.classify.experiments.recipes import Recipe, all_recipes
from encode_once.classify.partial import is_partial, positives, rows_by_class
from encode_once.classify.runs.own_table import OwnTable, own_table
from encode_once.classify.runs.predict import differences, fitted_store, sources
from encode_once.classify.runs.retune import evaluate_kept, tuned_on_eval
from encode_once.classify.runs.run import Run

MIN_SUPPORT = 5  # positives among the eval rows below which a class's figures are mostly chance
MAX_GAP = (
    0.02  # of micro F1 on the tuning rows above the interval of the eval rows, that tuning does not explain
)
MISCALIBRATED = 0.02  # calibration error of a class that is worth a word, if chance does not explain it
CHANCE = 3  # times the calibration error that probabilities without any fault have on so many rows
SIMULATIONS = 20
MAX_NAMED_CLASSES = 6  # classes that a check names
SUFFICIENT_SHARE = 0.98  # of the micro F1 of all features that a single one reaches, if it carries everything
DRAWN_SPLITS = ("stratified", "random", "tail")
LABEL_MORE = "label more rows of these classes"
MAX_PROBED_ROWS = 2000  # eval rows on which features are left out


@dataclass(frozen=True)
class Evidence:
    """A run with what checks look at; each part is computed once, when a check needs it."""

    run: Run
    store: Store  # that it was fitted from; it may be gone

    @classmethod
    def of(cls, run: Run) -> "Evidence":
        """A run with the store that it names."""
        return cls(run, fitted_store(run))

    @cached_property
    def own_table(self) -> OwnTable:
        """The table that the run was fitted on; raises as `own_table` does."""
        return own_table(self.run, self.store)

    @cached_property
    def evaluation(self) -> Evaluation:
        """The run on its eval rows."""
        return evaluate_kept(self.run)

    @cached_property
    def recipe(self) -> Recipe | None:
        """The recipe that the run is of: the folder has its name, and head and features fit."""
        name, run = self.run.path.name.partition("@")[0], self.run
        for recipe in all_recipes():
            allowed = recipe.possible_features
            fits = all(any(fnmatch(name, pattern) for pattern in allowed) for name in run.record.features)
            if recipe.name == name and recipe.head == run.spec.head and fits:
                return recipe
        return None

    @property
    def tuning_rows(self) -> ScoredRows:
        """The rows that thresholds were tuned on."""
        return self.run.eval if self.run.spec.tune_on == "eval" else self.run.validation

    @property
    def has_drawn_split(self) -> bool:
        """Whether the program chose the eval rows, other than by `kfold`, and not the user's data."""
        return self.run.spec.split.partition(":")[0] in DRAWN_SPLITS

    def classes(self, faulty: BoolArray, fault: str) -> str | None:
        """How many classes (c,) have a fault, as "have no scores", and which; None if none has it."""
        if not faulty.any():
            return None
        names = short_list([self.run.record.classes[c] for c in np.flatnonzero(faulty)], MAX_NAMED_CLASSES)
        if faulty.sum() == 1:
            fault = f"has {fault.removeprefix('have ')}"
        return f"{faulty.sum()} of {len(faulty)} classes {fault}: {names}"


@dataclass(frozen=True)
class RunCheck:
    """A check: `detect` returns what it found, or nothing. A remedy may depend on how the run was fitted."""

    code: str
    title: str
    why: str
    remedy: str | Callable[[Evidence], str]
    detect: Callable[[Evidence], str | None]
    vectors: bool = False  # whether it reads vectors and runs the model


class Fired(TypedDict):
    """A check that fired, as reports show it."""

    code: str
    title: str
    detected: str
    why: str
    remedy: str


def fired(
    evidence: Evidence, ignore: Collection[str] = (), *, vectors: bool = True
) -> tuple[list[Fired], list[str]]:
    """The checks that fire, and a line for each that could not be made.

    vectors: also make checks that read vectors of the store and run the model, which takes seconds.

    Raises:
        UsageError: `ignore` has an unknown code.
    """
    check_codes(ignore)
    results: list[Fired] = []
    skipped = []
    for check in CHECKS:
        if check.code in ignore or (check.vectors and not vectors):
            continue
        try:
            detected = check.detect(evidence)
        except EncodeOnceError as error:
            skipped.append(f"{check.code} ({check.title}) was not checked: {error}")
            continue
        if detected:
            remedy = check.remedy if isinstance(check.remedy, str) else check.remedy(evidence)
            results.append(Fired(code=check.code, title=check.title, detected=detected, why=check.why,
                                 remedy=remedy))  # fmt: skip
    return results, skipped


def findings(checks: Sequence[Fired], skipped: Sequence[str], ignore: Collection[str] = ()) -> list[str]:
    """What `fired` returned, and the codes that it left out, a line each, as a model card shows them."""
    lines = [f"{check['code']}: {check['detected']}; {check['why']}" for check in checks]
    return [*lines, *skipped, *(f"{code} was not checked: it was left out by --ignore" for code in ignore)]


def check_codes(codes: Collection[str]) -> None:
    """Raise a UsageError for an unknown code."""
    for code in codes:
        if code not in CODES:
            raise unknown_name("check", code, CODES)


def line(check: Fired) -> str:
    """A check that fired as one line."""
    return f"{check['code']}: {check['detected']}; {check['remedy']} (--ignore {check['code']})"


def _duplicates(evidence: Evidence) -> str | None:
    run, rows = evidence.run, evidence.run.eval
    if run.spec.tune_on == "eval":
        return None  # the run has seen them all, which is another check's
    if rows.folds is None:
        seen = run.has_seen(rows.keys)
    else:
        contents = [key.tobytes() for key in rows.keys]
        folds = defaultdict[bytes, set[int]](set)
        for content, fold in zip(contents, rows.folds.tolist(), strict=True):
            folds[content].add(fold)
        seen = present(rows.keys) & np.array([len(folds[content]) > 1 for content in contents])
    if not seen.any():
        return None
    return f"{seen.sum()} of {len(rows.ids)} eval rows have the same content as rows it was fitted on"


def _rare(evidence: Evidence) -> str | None:
    rows = evidence.tuning_rows
    support = positives(rows.labels).sum(axis=0)
    rare = support < MIN_POSITIVES
    if not evidence.run.decision.spec.learns:
        return None
    drawn = evidence.run.spec.validation == "tenth" and rows is not evidence.run.eval
    is_tenth = drawn and evidence.has_drawn_split  # else the validation rows may be the user's own
    share = " (a tenth of the train rows; --validation folds: all)" if is_tenth else ""
    return evidence.classes(
        rare,
        f"have fewer than {MIN_POSITIVES} positives among the {len(rows.ids)} rows that the decision rule is "
        f"tuned on{share}",
    )


def _outside_interval(evidence: Evidence) -> str | None:
    rule = evidence.run.decision
    ends = rule.estimate.intervals
    if rule.spec.decide != "thresholds" or ends is None:
        return None
    with np.errstate(invalid="ignore"):
        outside = (rule.thresholds < ends[:, 0]) | (rule.thresholds > ends[:, 1])
    return evidence.classes(outside, "have a threshold outside of its own 95 % interval")


def _at_chance(evidence: Evidence) -> str | None:
    per_class = evidence.evaluation.metrics["per_class"]
    n = rows_by_class(evidence.run.eval.labels)
    support = np.array([row["support"] for row in per_class])
    ap = np.array([np.nan if row["ap"] is None else row["ap"] for row in per_class])
    with np.errstate(invalid="ignore"):
        useless = (support >= MIN_SUPPORT) & (support < n) & (ap <= support / np.maximum(n, 1))
    return evidence.classes(
        useless,
        "have scores that rank eval rows no better than chance (average precision at most the share of "
        "positives)",
    )


def _gap(evidence: Evidence) -> str | None:
    run = evidence.run
    if run.eval.folds is not None or run.spec.tune_on == "eval" or not run.decision.spec.learns:
        return None
    rows = run.validation
    tuned = average_f1(rows.labels, run.decision(rows.scores), "micro")
    figure = evidence.evaluation.metrics["micro_f1"]
    ends = intervals.interval(evidence.evaluation.own_draws["micro_f1"], figure)
    if ends is None or tuned <= ends[1] + MAX_GAP:
        return None
    return (
        f"micro F1 is {tuned:.3f} on the {len(rows.ids)} rows the rule was tuned on, but {figure:.3f} "
        f"({ends[0]:.3f} … {ends[1]:.3f}) on the eval rows"
    )


def _miscalibrated(evidence: Evidence) -> str | None:
    rows, probabilities = evidence.run.eval, evidence.evaluation.probabilities
    rng = np.random.default_rng(0)
    excess = []
    for labels, scores in ranked_classes(rows.labels, probabilities):
        simulated = [calibration_error(rng.random(len(scores)) < scores, scores) for _ in range(SIMULATIONS)]
        by_chance = float(np.mean(simulated))
        error = calibration_error(labels, scores)
        excess.append(error > max(MISCALIBRATED, CHANCE * by_chance))
    return evidence.classes(
        np.array(excess),
        f"have scores that are not probabilities (calibration error above {MISCALIBRATED} and {CHANCE} times "
        "that of chance)",
    )


def _missing(evidence: Evidence) -> str | None:
    missing = evidence.run.eval.missing
    if missing is None or not missing.any():
        return None
    counts = zip(evidence.run.record.features, missing.sum(axis=0).tolist(), strict=True)
    parts = [f"{count} of {name}" for name, count in counts if count]
    return f"of {len(missing)} eval rows, vectors are missing: {', '.join(parts)}"


def _contaminated(evidence: Evidence) -> str | None:
    """A recipe knows; of other runs nobody does."""
    if (recipe := evidence.recipe) is None or not recipe.contaminated:
        return None
    return f"recipe {recipe.name} uses a network that was trained on these pictures with their labels"


def _tuned_on_eval(evidence: Evidence) -> str | None:
    if not tuned_on_eval(evidence.run):
        return None
    return f"the decision rule was tuned on the {len(evidence.run.eval.ids)} eval rows themselves"


def _stale(evidence: Evidence) -> str | None:
    return "; ".join(differences(evidence.run, evidence.store)) or None


def _never_predicted(evidence: Evidence) -> str | None:
    occurs = positives(evidence.run.eval.labels).any(axis=0)
    predicted = evidence.evaluation.predictions.any(axis=0)
    return evidence.classes(np.asarray(occurs & ~predicted), "have eval rows but no prediction")


def _few_eval_rows(evidence: Evidence) -> str | None:
    rows = evidence.run.eval
    few = positives(rows.labels).sum(axis=0) < MIN_SUPPORT
    return evidence.classes(
        few, f"have fewer than {MIN_SUPPORT} positives among the {len(rows.ids)} eval rows"
    )


def _calibrate(evidence: Evidence) -> str:
    if evidence.run.spec.task != MULTI:  # such a run has no rule to tune
        return f"{LABEL_MORE}, or try another --head"
    method = evidence.run.decision.spec.calibration
    if method == "none":
        return "tune with --calibrate sigmoid, or isotonic with thousands of rows"
    other = "; with thousands of rows, tune with --calibrate isotonic" if method != "isotonic" else ""
    return f"{LABEL_MORE}, as the calibration by {method} had too few{other}"


def _predict_more(evidence: Evidence) -> str:
    rule = evidence.run.decision.spec
    if evidence.run.spec.task != MULTI:
        return f"{LABEL_MORE}, or try another --head or other features"
    if rule.decide == "thresholds" and rule.objective == "macro":
        return LABEL_MORE
    return "tune --objective macro gives rare classes lower thresholds"


def _measure_more(evidence: Evidence) -> str:
    if evidence.has_drawn_split:
        return "fit with --split kfold:5, which measures on all rows"
    return LABEL_MORE


def _one_label(evidence: Evidence) -> str | None:
    run = evidence.run
    rows = [run.validation.labels, run.eval.labels]
    one_each = all(not is_partial(labels) and (labels.sum(axis=1) == 1).all() for labels in rows)
    if run.spec.task != MULTI or len(run.record.classes) < 2 or not one_each:
        return None
    return "every validation and eval row has exactly one label"


def _one_feature(evidence: Evidence) -> str | None:
    """Score eval rows with all features but one replaced by their training mean."""
    run = evidence.run
    if len(run.record.features) < 2 or run.eval.folds is not None:  # a fold's own model is not kept
        return None
    table, eval_rows = evidence.own_table
    probed = np.random.default_rng(0).permutation(len(eval_rows))[:MAX_PROBED_ROWS]
    X = featuring.load(sources(run, evidence.store), table)[eval_rows[probed]]
    labels = run.eval.labels[probed]

    def reached(columns: IntArray) -> float:
        part = np.full_like(X, np.nan)
        part[:, columns] = X[:, columns]
        return average_f1(labels, run.decision(run.model.scores(part)), "micro")

    whole = reached(np.arange(X.shape[1]))
    carriers = [name for name, columns in _columns(run) if reached(columns) >= SUFFICIENT_SHARE * whole > 0]
    if len(carriers) != 1:  # several that each suffice are redundant, which is no fault
        return None
    count = len(run.record.features)
    return f"{carriers[0]} alone reaches {SUFFICIENT_SHARE:.0%} of the micro F1 of all {count} features"


def _columns(run: Run) -> Iterator[tuple[str, IntArray]]:
    """Each feature and its columns."""
    start = 0
    for name, (length, width) in run.shapes.items():
        yield name, np.arange(start, start + length * width)
        start += length * width


CHECKS: Sequence[RunCheck] = (
    RunCheck("EO001", "duplicates across the split",
          "a model knows the rows it was fitted on, so figures on copies of them flatter",
          "fit with --groups content, or FEATURE:COSINE for near-duplicates; audit lists the pairs",
          _duplicates),
    RunCheck("EO002", "classes too rare to tune",
          "a threshold or a probability from so few positives is mostly chance",
          LABEL_MORE, _rare),
    RunCheck("EO003", "threshold outside its interval",
          "the threshold that was chosen is not one that the tuning rows support",
          "tune again with the default --shrink, or with more rows", _outside_interval),
    RunCheck("EO004", "no better than chance",
          "the features or the labels of these classes carry nothing that the head could learn",
          "look at their labels with audit, and try other features", _at_chance),
    RunCheck("EO005", "gap between tuning and eval rows",
          "the rule fits the rows it was tuned on better than new ones: they are few, or come from elsewhere",
          "fit with --validation folds, or check that --split separates rows of one kind", _gap),
    RunCheck("EO006", "poor calibration",
          "expected F1, cost ratios and thresholds such as 0.5 take scores for probabilities",
          _calibrate, _miscalibrated),
    RunCheck("EO007", "missing vectors",
          "the training mean replaces a missing vector, so these rows are scored by what is left",
          "run extract again: it lists the images and captions that could not be encoded", _missing),
    RunCheck("EO008", "contaminated features",
          "a network that has seen the eval rows with their labels repeats them",
          "use an encoder that was trained on other pictures", _contaminated),
    RunCheck("EO009", "tuned on the eval rows",
          "figures on rows that chose the thresholds flatter",
          "fit without --tune-on eval", _tuned_on_eval),
    RunCheck("EO010", "stale features",
          "the store now has other vectors than those the run was fitted on",
          "fit the run again", _stale),
    RunCheck("EO011", "class never predicted",
          "a class without a prediction has an F1 of 0, which macro F1 counts in full",
          _predict_more, _never_predicted),
    RunCheck("EO012", "one feature carries everything",
          "the other features cost encoding time and add next to nothing",
          "fit with --features and this one alone, and compare with evaluate", _one_feature, vectors=True),
    RunCheck("EO013", "few eval rows",
          "figures of a class with so few positives are mostly chance, and macro F1 is their mean",
          _measure_more, _few_eval_rows),
    RunCheck("EO014", "one label per row",
          "a rule for any number of labels may give a row none, or several",
          "fit with --task single: softmax, likeliest class, accuracy and confusion matrix", _one_label),
)  # fmt: skip
CODES = [check.code for check in CHECKS]
