"""Fit the run in service again on the table as it is now, and compare both on rows that neither has seen.

A version of the same table, settings and program is not fitted twice: after a kill, the next update continues
with what the last one has written.
"""

from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from encode_once.cache import DataError, Store, StoreBusyError, Table
from encode_once.cache.aliases import read_aliases
from encode_once.cache.format.locks import locked
from encode_once.cache.format.replacement import MARKER, whole
from encode_once.cache.terminal import Log, short_list
from encode_once.classify.data.hierarchy import Hierarchy
from encode_once.classify.data.labels import class_names
from encode_once.classify.data.rows import content_keys
from encode_once.classify.decisions.objectives import BY_HAND
from encode_once.classify.evaluation.compare import Comparison, against_first, check_tuning
from encode_once.classify.evaluation.metrics import MetricName
from encode_once.classify.runs import own_files
from encode_once.classify.runs.asked import asked, check_files
from encode_once.classify.runs.changes import changed_defaults
from encode_once.classify.runs.fit import fit
from encode_once.classify.runs.loading import load_run
from encode_once.classify.runs.model_card import model_card
from encode_once.classify.runs.predict import evaluate
from encode_once.classify.runs.reading import RunError, read_json
from encode_once.classify.runs.retune import evaluate_kept, retune
from encode_once.classify.runs.run import FILES, Run
from encode_once.classify.spec import FitSpec
from encode_once.deploy.service_versions import new_version, versions

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK = ".update.lock"


Status = Literal["promoted", "kept", "nothing new"]


class Verdict(NamedTuple):
    """What becomes of a new version, and why; "kept" is the old one."""

    status: Status
    reason: str
    comparison: Comparison | None = None  # None: there is nothing to compare


@contextmanager
def updating(folder: Path) -> "Iterator[None]":
    """Let only one process update the runs of a folder; the remains of fits that were killed are removed.

    Raises:
        StoreBusyError: another process does so.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder / LOCK, str(folder)))
        except StoreBusyError as error:
            raise StoreBusyError(f"another update of {folder} is running: let it end") from error
        for path in versions(folder):
            if not (path / "run.json").exists() and not (path / MARKER).exists():
                rmtree(path)
        yield


def spec_again(run: Run, *, trust: bool, anyway: bool) -> tuple[FitSpec, list[str]]:
    """The spec by which a run is fitted again, and warnings of what differs.

    Its decision rule is the current one, as `tune` may have changed it; thresholds that were chosen by hand
    are tuned, since they belong to the scores of one model. Its validation rows are those asked for, as
    "auto" may choose others for more rows.

    Args:
        trust: as for `load_run`.
        anyway: also if the new version will be tuned on the rows that both are compared on.

    Raises:
        DataError: the run names prompts or lists of ids, without `trust`; or it will be tuned on these rows.
    """
    check_files(run, trust=trust)
    spec, warnings = asked(run), []
    decision = spec.decision
    if decision.objective == BY_HAND:
        decision = replace(run.spec.decision, at_least=decision.at_least, at_most=decision.at_most)
        warnings.append(f"thresholds of {run.path} were chosen by hand: those of the new version are tuned")
    if spec.tune_on == "eval" and decision.learns and not anyway:
        raise DataError(
            f"thresholds of {run.path} are tuned on the eval rows, which flatters a new version: promote a "
            "run that was fitted with --tune-on inner, or pass --anyway"
        )
    validation = run.record.asked_validation
    if not validation:
        validation = "auto"
        warnings.append(
            f"{run.path} does not record whether --validation {spec.validation} was asked for: the new "
            "version has auto"
        )
    for name, (then, now) in changed_defaults(run).items():
        warnings.append(f"the default of option {name} was {then} and is {now}, which the new version has")
    return replace(spec, decision=decision, validation=validation), warnings


def lost_labels(old: Run, spec: FitSpec, table: Table) -> Verdict | None:
    """Why a run is kept before another is fitted: labels that it learned are gone; None if none is."""
    lost = set(old.record.classes) - set(class_names(Hierarchy(spec.hierarchy).close(table).labels or ()))
    return Verdict("kept", f"no row has the labels {short_list(sorted(lost))} any more") if lost else None


def next_version(
    folder: Path, old: Run, spec: FitSpec, store: Store, table: Table, trust: bool, log: Log
) -> Run | None:
    """A version of this spec on the table as it is now; None if the old one is that.

    It is fitted unless an earlier update has done so; that version gets the decision rule of the spec, unless
    an alias names it. Names of the user's own code mean the copies in the old run.

    Args:
        table: the rows to fit on.
        trust, log: as for `load_run`.

    Raises:
        UntrustedError: the run names code, and the user does not trust it.
    """
    with own_files.using(old.path, old.record.own_code):
        identities = _identities(spec, old, store, table)
        if old.record.identity in identities:
            return None
        path = _version_of(folder, identities)
        if path:
            run = load_run(path, trust=trust, log=log)
            has_rule = run.decision.spec == spec.decision
            if has_rule or not read_aliases(folder).names_of(path.name):
                log(f"{path} was fitted on these rows by an update that has not promoted it")
                if not has_rule:
                    run.save_decision(*retune(run, spec.decision), model_card(run))
                    log(f"{path}: tuned as {old.path} is now")
                return run
        new, _ = fit(store, spec, run=new_version(folder), table=table)
        log(f"{new.path}: fitted in {new.record.seconds:.1f} s")
        if new.record.code != old.record.code:
            log(f"the program's code has changed since {old.path} was fitted")
        return new


def _identities(spec: FitSpec, old: Run, store: Store, table: Table) -> set[str]:
    """The identities that a run of this spec may have.

    An old run that does not record which validation rows were asked for has one of two.
    """
    kinds = {spec.validation} if old.record.asked_validation else {spec.validation, old.spec.validation}
    return {replace(spec, validation=kind).identity(store, table) for kind in kinds}


def _version_of(folder: Path, identities: set[str]) -> Path | None:
    """The newest version in a folder that has one of these identities."""
    for path in versions(folder)[::-1]:
        with suppress(RunError), whole(path, FILES):  # a damaged one is none
            if read_json(path / "run.json").get("identity") in identities:
                return path
    return None


def new_rows(run: Run, table: Table) -> int:
    """How many rows of a table are not among those that a run was fitted or evaluated on."""
    evaluated = {key.tobytes() for key in run.eval.keys}
    unseen = content_keys(table)[~run.has_seen_rows(table)]
    return sum(key.tobytes() not in evaluated for key in unseen)


def compare(
    old: Run,
    new: Run,
    store: Store,
    table: Table,
    metric: MetricName,
    tolerance: float,
    *,
    anyway: bool,
    log: Log,
) -> Verdict:
    """Compare a new version with the old one on the eval rows of the new one that the old one has not seen.

    Both are measured against the labels as they are now, in the classes of the old one.

    Args:
        table: that the new version was fitted on.
        tolerance: by how much the metric may be lower.
        anyway: also if thresholds were tuned on these rows.
        log: called with each warning.

    Raises:
        DataError: thresholds were tuned on these rows, without `anyway`.
        MissingRowsError: rows that were never extracted.
    """
    classes = old.record.classes
    added = [name for name in new.record.classes if name not in classes]
    if added:
        log(f"new labels, which are not compared: {short_list(added)}")
    newer = evaluate_kept(new)
    check_tuning([newer], anyway)
    if old.has_seen_rows(table).all() or old.has_seen(newer.rows.keys).all():
        return Verdict("kept", "there are no eval rows that neither version was fitted on")
    older = evaluate(old, store, table)
    for line in older.warnings:
        log(line)
    newer = newer.subset(np.arange(len(newer.rows.ids)), classes)
    comparison, _ = against_first([older, newer], anyway=True)
    change_of_metric = comparison["differences"][0]["metrics"].get(metric)
    difference = change_of_metric and change_of_metric["difference"]
    if difference is None:
        return Verdict("kept", f"{metric} cannot be measured on these rows", comparison)
    change = f"{metric} {difference:+.4f} on {comparison['n']} rows"
    if difference < -tolerance:
        return Verdict("kept", f"{change}: worse by more than {tolerance:g}", comparison)
    if new.path.name in read_aliases(new.path.parent).withdrawn:
        return Verdict("kept", f"rollback left {new.path.name}: only promote names it again", comparison)
    return Verdict("promoted", f"{change}: not worse by more than {tolerance:g}", comparison)
