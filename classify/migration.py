"""Bring a run to the version that this program writes."""

from dataclasses import replace

from encode_once.cache import EncodeOnceError, Table
from encode_once.cache.keys import KeyIndex, Keys
from encode_once.classify.data.rows import content_keys, image_and_caption_keys
from encode_once.classify.data.tables import table_to_fit
from encode_once.classify.evaluation.evaluation import ScoredRows
from encode_once.classify.report import checks
from encode_once.classify.runs.model_card import model_card
from encode_once.classify.runs.predict import fitted_store
from encode_once.classify.runs.retune import measure_kept
from encode_once.classify.runs.run import Run
from encode_once.classify.runs.upgrades import STEPS, VERSION, WITH_CHECKSUMS, WITH_KEYS


def migrate_run(run: Run) -> list[str]:
    """Rewrite a run of an earlier version; lines of what was done, and of what could not be carried over.

    All files are replaced together, so that the old run remains until the new one is whole. Its scores,
    labels and decision rule stay as they are, and so does its page; metrics and model card are as this
    program defines them.

    Raises:
        RunError: the model cannot be read.
        UntrustedError: the run names code that is not trusted.
        StoreError: the folder cannot be written.
    """
    version = run.version
    if version == VERSION:
        return [f"{run.path} is current: version {VERSION}"]
    lines = [f"version {number + 1}: {STEPS[number].changes}" for number in range(version, VERSION)]
    if version < WITH_CHECKSUMS:
        lines.append(
            f"version {version} had no checksums: what changed before now would not have been noticed"
        )
    if version < WITH_KEYS:
        run, line = _with_keys(run)
        lines.append(line)
    evidence = checks.Evidence.of(run)
    card = model_card(run, checks.findings(*checks.fired(evidence, vectors=False)))
    run.save(*measure_kept(run), card, keep_page=True)
    return [f"{run.path} was version {version} and is now version {VERSION}", *lines, *run.card_warnings]


def _with_keys(run: Run) -> tuple[Run, str]:
    """The run with content keys from its table, if that is still as the run saw it; and a line about it."""
    try:
        table: Table | None = table_to_fit(fitted_store(run), run.record.table, run.spec.split)
    except EncodeOnceError:
        table = None
    if table is not None and len({*table.ids}) == len(table):
        fitted = KeyIndex(image_and_caption_keys(table)).find(run.fitted_on)
        if (fitted >= 0).all() and {*run.validation.ids, *run.eval.ids} <= {*table.ids}:
            new = replace(
                run,
                validation=_keyed(run.validation, table),
                eval=_keyed(run.eval, table),
                fitted_on=content_keys(table)[fitted],
            )
            return new, f"the content keys of its rows are those of {table.source}"
    return run, (
        f"not carried over: the content keys of its rows, which are known by id only, as {run.record.table} "
        f"is not in {run.record.store} as the run saw it; report compares them only with runs before version "
        f"{WITH_KEYS}, by id, and forget does not see what the model was fitted on"
    )


def _keyed(rows: ScoredRows, table: Table) -> ScoredRows:
    places = {row_id: row for row, row_id in enumerate(table.ids)}
    keys: Keys = content_keys(table)[[places[row_id] for row_id in rows.ids]]
    return replace(rows, keys=keys)
