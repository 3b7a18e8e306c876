"""The command `update`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from encode_once.cache import DataError, MissingDataError
from encode_once.cache.options import (
    ServedRun,
    json_option,
    print_result,
    refuse,
    say,
    say_next,
    verb,
    warn,
)
from encode_once.cache.places import is_at_url, is_gone
from encode_once.deploy.options import encoding_options, measured_table_option
from encode_once.deploy.service_commands import say_switch

if TYPE_CHECKING:
    from encode_once.cache import Store, Table
    from encode_once.classify.runs.run import Run
    from encode_once.deploy.encoding import Encoding
    from encode_once.extract.report import Report

STATUS = {"promoted": 0, "kept": 4, "nothing new": 5}
# Named here, since `--help` imports no NumPy.
METRICS = (
    "micro_f1", "macro_f1", "weighted_f1", "samples_f1", "mAP", "precision", "recall", "accuracy",
    "balanced_accuracy",
)  # fmt: skip
TOLERANCE = 0.01


@verb()
@click.argument("run", type=ServedRun(), metavar="FOLDER[@ALIAS]")
@click.option("--data", help="Data to learn from. [default: the table that the run was fitted on]")
@measured_table_option
@click.option("--metric", default="micro_f1", show_default=True, type=click.Choice(METRICS),
              help="What must not become worse.")  # fmt: skip
@click.option("--tolerance", default=TOLERANCE, show_default=True, type=click.FloatRange(0),
              help="By how much it may be lower.")  # fmt: skip
@click.option("--anyway", is_flag=True, help="Compare versions that were tuned on the compared rows.")
@click.option("--keep", type=click.IntRange(1), metavar="N",
              help="Remove all but the N newest versions that no alias needs. [default: all]")  # fmt: skip
@encoding_options
@json_option
def update(
    run: str,
    data: str | None,
    table: str,
    metric: Any,
    tolerance: float,
    anyway: bool,
    keep: int | None,
    encoding: "Encoding",
    as_json: bool,
) -> None:
    """Encode what is new, fit the run in service again, and promote the new version unless it is worse.

    Both are measured on the eval rows of the new version that the old one was not fitted on, which are old
    eval rows and new rows, with paired intervals. Promoted is a version whose --metric there is not lower by
    more than --tolerance. Settings and decision rule are those of the run; the store that it was fitted from
    is extended. A version that `rollback` left is not promoted again. Without @ALIAS, champion is meant.

    The exit status is 0 if the new version is promoted, 4 if it is kept aside and the old one stays, and 5 if
    nothing is new. After a kill, the next update continues; until the end the old version is in service.

    --json prints {"status": "promoted" | "kept" | "nothing new", "reason", "alias", "before", "now",
    "version", "rows", "new_rows", "encoded": {feature: {"encoded", "present", "failed"}}, "removed":
    [version], "comparison": as of `evaluate`, or null}.

    \b
    Examples:
      encode-once update runs/svc@champion
      encode-once update runs/svc --data photos --metric macro_f1 --tolerance 0.005 --keep 30
    """
    from encode_once.classify import load_run
    from encode_once.classify.data.tables import table_to_fit
    from encode_once.classify.evaluation.tables import comparison_text
    from encode_once.deploy import service_versions
    from encode_once.deploy import update as updates

    if data is None:
        refuse(measured_table_option, why="for --data: the table is otherwise that of the run")
    folder, alias = service_versions.in_service(run)
    removed = []
    with updates.updating(folder):
        old = load_run(f"{folder}@{alias}", trust=encoding.trust, log=say)
        spec, notes = updates.spec_again(old, trust=encoding.trust, anyway=anyway)
        warn(notes)
        old.load_model()  # raises before anything is written, as without --trust for the user's own code
        store = _store(old, encoding)
        report, source = _extracted(old, data, table if data else "auto", encoding, store)
        spec = replace(spec, data=source)
        rows = sum(map(len, report.tables))
        new_rows = sum(updates.new_rows(old, part) for part in report.tables)
        say(f"{source}: {rows} rows, {new_rows} of them new to {old.path.name}")
        verdict = updates.Verdict("nothing new", f"{old.path} was fitted on the same rows and labels")
        to_fit = table_to_fit(store, spec.data, spec.split, spec.labels)
        new, lost = None, updates.lost_labels(old, spec, to_fit)
        if lost:
            verdict = lost
        else:
            new = updates.next_version(folder, old, spec, store, to_fit, encoding.trust, say)
        if new:
            warn(new.record.warnings)
            verdict = updates.compare(
                old, new, store, to_fit, metric, tolerance, anyway=anyway, log=lambda line: warn([line])
            )
        switch = service_versions.Switch(f"{folder}@{alias}", old.path.name, old.path.name)
        if new and verdict.status == "promoted":
            switch = service_versions.promote(new.path, alias, instead_of=old.path.name)
        if keep:
            removed = service_versions.remove_old(folder, keep)
    comparison = verdict.comparison
    result = {
        "status": verdict.status,
        "reason": verdict.reason,
        **switch._asdict(),
        "version": new.path.name if new else None,
        "rows": rows,
        "new_rows": new_rows,
        "encoded": report.as_json()["features"],
        "removed": removed,
        "comparison": comparison,
    }
    print_result(result, as_json, lambda: comparison_text(comparison) if comparison else verdict.status)
    for name in removed:
        say(f"{folder / name} is removed (--keep {keep})")
    say(f"{verdict.status}: {verdict.reason}")
    say_switch(switch)
    say_next("runs", "list", str(folder))
    click.get_current_context().exit(STATUS[verdict.status])


def _store(run: "Run", encoding: "Encoding") -> "Store":
    """The store to extend.

    Raises:
        MissingDataError: the run's store is gone.
        SpecMismatchError: its features are others than those that the run was fitted on.
    """
    from encode_once.cache import Store
    from encode_once.classify.runs.predict import check

    path = encoding.store or run.record.store
    store = Store(path)
    if not encoding.store and not store.exists:
        raise MissingDataError(f"{path}, the store of {run.path}, is not there: --store DIR names it")
    check(run, store)
    return store


def _extracted(
    run: "Run", data: str | None, split: str, encoding: "Encoding", store: "Store"
) -> "tuple[Report, str]":
    """Encode what is new; the report, and the source of the table to learn from."""
    from encode_once.classify.data.splits import TABLES
    from encode_once.classify.runs.predict import choose_split

    record = run.record
    if data is None and is_gone(record.table):
        raise MissingDataError(f"{record.table}, the data of {run.path}, is not there: --data names it")
    chosen: list[Table] = []

    def select(tables: "Sequence[Table]") -> "Sequence[Table]":
        name = run.spec.labels
        labelled = [p for p in tables if (name in p.label_sets if name else p.labels is not None)]
        if not labelled:
            raise DataError(f"{tables[0].source} has no labels to learn from: --data names other data")
        same = [part for part in labelled if part.source == record.table]
        chosen.append(same[0] if len(same) == 1 else choose_split(labelled, split, "train"))
        return labelled if run.spec.split == TABLES else chosen

    folder = record.table.rpartition("/")[0] if is_at_url(record.table) else str(Path(record.table).parent)
    place = data or (folder if run.spec.split == TABLES else record.table)
    report = encoding.extend(run, place, store, encoding.trusted([run]), select)
    for name, counts in report.features.items():
        say(f"{name}: encoded {counts.encoded}, already there {counts.present}, failed {counts.failed}")
    return report, chosen[0].source
