"""Remove rows from what a run keeps: its scores, labels, predictions and record, but not its model."""

import json
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from encode_once.cache import DataError
from encode_once.cache.keys import KeyIndex, Keys
from encode_once.classify.arrays import RowIndex
from encode_once.classify.evaluation.evaluation import ScoredRows
from encode_once.classify.report import checks
from encode_once.classify.runs.model_card import model_card
from encode_once.classify.runs.retune import measure_kept
from encode_once.classify.runs.run import CARD, Run

FORGOTTEN = "was fitted on rows that have been forgotten since: fit it again"


@dataclass(frozen=True)
class ForgottenRows:
    """How many rows a run has lost, and whether its model was fitted on any that were ever forgotten."""

    run: str
    rows: int
    fitted: bool


def forget_rows(run: Run, ids: Collection[str], keys: Keys) -> ForgottenRows:
    """Remove the rows of these ids or content keys (k, 16), and save the run with its figures of the others.

    Lines of the record that quote an id are removed; without quotes it could be a count. If the model was
    fitted on a row, the record says so.

    Raises:
        DataError: no eval row would be left, or none of a fold.
    """
    gone = KeyIndex(keys)
    parts = run.validation, run.eval
    kept = kept_rows(run, ids, keys)
    count = sum(len(rows.ids) - len(left) for rows, left in zip(parts, kept, strict=True))
    is_gone = gone.find(run.fitted_on) >= 0
    quoted = [form for row_id in ids for form in (repr(row_id), json.dumps(row_id))]
    warnings = [line for line in run.record.warnings if not any(form in line for form in quoted)]
    if is_gone.any() and FORGOTTEN not in warnings:
        warnings.append(FORGOTTEN)
    if count or is_gone.any() or warnings != run.record.warnings:
        validation, evaluated = (rows.take(left) for rows, left in zip(parts, kept, strict=True))
        if not len(evaluated.ids) or _folds(evaluated) != _folds(run.eval):
            raise DataError(
                f"{run.path} has no other eval rows, or none of a fold: delete it, or fit it again"
            )
        left_run = replace(
            run,
            record=replace(run.record, warnings=warnings),
            validation=validation,
            eval=evaluated,
            fitted_on=run.fitted_on[~is_gone],
        )
        card = ""
        if (run.path / CARD).exists():
            evidence = checks.Evidence.of(left_run)
            card = model_card(left_run, checks.findings(*checks.fired(evidence, vectors=False)))
        left_run.save_rows(*measure_kept(left_run), card)
    return ForgottenRows(str(run.path), count, FORGOTTEN in warnings)


def kept_rows(run: Run, ids: Collection[str], keys: Keys) -> tuple[RowIndex, RowIndex]:
    """The validation rows and the eval rows that have none of the ids and content keys."""
    gone = KeyIndex(keys)

    def of(rows: ScoredRows) -> RowIndex:
        is_gone = np.array([row_id in ids for row_id in rows.ids], np.bool_) | (gone.find(rows.keys) >= 0)
        return np.flatnonzero(~is_gone)

    return of(run.validation), of(run.eval)


def _folds(rows: ScoredRows) -> int:
    return 0 if rows.folds is None else len(np.unique(rows.folds))
