"""What each part of a run is worth: fit it again without a feature or an option, or with another loss.

An ablation is a sweep whose specs differ from the run's in one thing each. The difference from the run has a
paired interval, over the same draws of the same eval rows.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from encode_once.cache import DataError
from encode_once.cache.terminal import Log
from encode_once.classify import heads
from encode_once.classify.data.labels import MULTI
from encode_once.classify.decisions.objectives import BY_HAND
from encode_once.classify.evaluation.intervals import differences, in_tables
from encode_once.classify.experiments.leaderboard import TECHNICAL, Row, figures, save, with_intervals
from encode_once.classify.experiments.tasks import Task, run_all
from encode_once.classify.experiments.trial import Trial, TrialRunner, option
from encode_once.classify.runs.asked import asked, check_files
from encode_once.classify.runs.predict import fitted_store, own_folder, sources
from encode_once.classify.runs.run import Run
from encode_once.classify.spec import FitSpec, code_key


def ablate(
    run: Run,
    folder: str | Path | None = None,
    log: Log = lambda line: None,
    *,
    trust: bool = False,
    jobs: int = 1,
) -> list[Row]:
    """Fit all variants of a run that do not exist yet; return a row for the run and one for each variant.

    Args:
        folder: of the variants' runs and the table; by default `ablation` in the run's folder.
        log: called with a line about each variant.
        jobs: number of processes, among which the cores are divided.
        trust: open the prompts and the lists of ids that the run names; without it such a run is refused.

    Returns:
        What was changed, each metric and its change with 95 % intervals, seconds, run and error.

    Raises:
        EncodeOnceError: the store no longer has what the run was fitted on, or the program has changed.
    """
    check_files(run, trust=trust)
    if run.decision.spec.objective == BY_HAND:
        raise DataError(
            f"the thresholds of {run.path} were chosen by hand: tune it, for its variants are tuned"
        )
    store, folder = fitted_store(run), Path(folder or own_folder(run, "ablation"))
    sources(run, store)  # raises if a feature is not what it was
    if run.record.code != code_key():
        raise DataError(
            f"{run.path} was fitted by another version of this program, so its variants cannot be compared "
            "with it: fit it again"
        )
    spec = asked(run)
    whole, changed = Trial.of(run, spec), dict(variants(spec))
    tasks = [Task([variant], name=change) for change, variant in changed.items()]
    trials, rows = run_all(TrialRunner(store, folder), tasks, log, jobs), []
    for change, trial in zip(["nothing", *changed], [whole, *trials], strict=True):
        if not trial.error and trial.rows != whole.rows:
            raise DataError(f"{spec.data} is not what it was when {run.path} was fitted: fit it again")
        rows.append({"changed": change, **figures(trial), **_changes(trial, whole)})
    save(folder, "ablation", rows)
    return rows


def variants(spec: FitSpec) -> Iterator[tuple[str, FitSpec]]:
    """Each change and the changed spec: a feature less, an option at its default, or another loss."""
    for dropped in spec.features if len(spec.features) > 1 else ():
        yield f"without {dropped}", replace(spec, features=[f for f in spec.features if f != dropped])
    defaults = heads.defaults_of(spec.head)
    for name, value in spec.options.items():
        if name in TECHNICAL | {"loss"} or json.dumps(value) == json.dumps(defaults[name]):
            continue
        others = {other: kept for other, kept in spec.options.items() if other != name}
        before = option(name, value).partition("=")[2]
        yield f"{option(name, defaults[name])}, not {before}", replace(spec, options=others)
    for loss in heads.class_of(spec.head).LOSSES if spec.task == MULTI else ():
        if loss != spec.options.get("loss", defaults["loss"]):
            yield f"loss={loss}", replace(spec, options={**spec.options, "loss": loss})


def _changes(trial: Trial, whole: Trial) -> Row:
    """How far each metric is from that of the whole run, with intervals; None if there is no difference."""
    changes: dict[str, float] = {}
    if trial is not whole and trial.metrics and whole.metrics:
        for name in in_tables(trial.metrics):
            after, before = trial.metrics[name], whole.metrics.get(name)
            if after is not None and before is not None:
                changes[name] = after - before
    return with_intervals(changes, differences(trial.draws, whole.draws), "_change")
