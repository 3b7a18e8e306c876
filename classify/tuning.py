"""Tune a run's decision rule again, and save it with all that depends on it."""

import os
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from encode_once.cache import UsageError
from encode_once.cache.errors import unknown_name
from encode_once.classify.decisions.objectives import BY_HAND
from encode_once.classify.decisions.rule import DecisionRule, DecisionSpec
from encode_once.classify.evaluation.evaluation import Evaluation
from encode_once.classify.report import checks
from encode_once.classify.runs.loading import load_run
from encode_once.classify.runs.model_card import model_card
from encode_once.classify.runs.reading import read_thresholds
from encode_once.classify.runs.retune import evaluate_kept, retune
from encode_once.classify.runs.run import Run

FIELDS = [field.name for field in fields(DecisionSpec)]
PLAIN: dict[str, Any] = {"at_least": 0, "at_most": None, "calibrate": "auto"}  # all that argmax goes with


def tune(
    run: Run | str | os.PathLike[str],
    objective: str | None = None,
    *,
    thresholds_file: str | os.PathLike[str] | None = None,
    **decision: Any,
) -> Evaluation:
    """Tune a run's thresholds from its saved scores, without refitting, and save them in its folder.

    What is omitted keeps its current value; but an objective, or `shrink=False`, decides by thresholds.

    Args:
        run: the run, which then has the new rule, or its folder.
        objective: of the thresholds, such as "macro" or "precision:0.9".
        thresholds_file: instead, thresholds that a person chose: a JSON file, as a report page exports it.
        decision: other fields of `DecisionSpec`.

    Returns:
        The evaluation on the run's eval rows.

    Raises:
        UsageError: an unknown field or value, or one that does not go with `thresholds_file`.
        DataError: the file does not have a threshold for each class.

    Examples:
        >>> encode_once.tune("runs/mlp", "macro").frame().threshold    # doctest: +SKIP
    """
    if objective is not None:
        decision["objective"] = objective
    for name in decision:
        if name not in FIELDS:
            raise unknown_name("field of a decision rule", name, FIELDS)
    if "objective" in decision or decision.get("shrink") is False:
        decision.setdefault("decide", "thresholds")
    if DecisionSpec(**decision).objective == BY_HAND:  # fails on an unknown value before anything is read
        raise UsageError(f"{BY_HAND} thresholds come from a file: pass thresholds_file")
    run = run if isinstance(run, Run) else load_run(run)
    tuned = replace(run)  # takes the place of the run once it is saved
    if thresholds_file is not None:
        of_tuning = [name for name in ("objective", "shrink", "calibrate", "decide") if name in decision]
        if of_tuning:  # an objective also sets `decide`
            raise UsageError(f"thresholds of a file are not tuned, so that {of_tuning[0]} has no effect")
        bounds, thresholds = run.decision.spec, read_thresholds(Path(thresholds_file), run.record.classes)
        tuned.decision = DecisionRule.by_hand(thresholds, bounds.at_least, bounds.at_most)
    spec, warnings = _changed(tuned.decision.spec, decision)
    metrics, predictions = retune(tuned, spec)
    findings = checks.findings(*checks.fired(checks.Evidence.of(tuned), vectors=False))
    tuned.save_decision(metrics, predictions, model_card(tuned, findings))
    vars(run).update(vars(tuned))
    return replace(evaluate_kept(run), warnings=[*warnings, *run.card_warnings])


def _changed(spec: DecisionSpec, decision: Mapping[str, Any]) -> tuple[DecisionSpec, list[str]]:
    """A specification with other values; and a warning of what argmax, which takes none, drops."""
    if decision.get("decide") != "argmax":
        return replace(spec, **decision), []
    lost = [
        name for name in PLAIN if name not in decision and getattr(spec, name) not in ("none", PLAIN[name])
    ]
    changed = replace(spec, **{name: PLAIN[name] for name in lost}, **decision)
    values = ", ".join(f"{name} {getattr(spec, name)}" for name in lost)
    line = f"no longer in effect: {values}; argmax gives each row exactly one label, by scores as they are"
    return changed, [line] if lost else []
