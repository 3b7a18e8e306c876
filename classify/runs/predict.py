"""A run applied to other rows: their labels, and what they are worth where the truth is known."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from encode_once.cache import DataError, SpecMismatchError, Store, Table, UsageError
from encode_once.cache.errors import unknown_name
from encode_once.cache.format.atomic import is_writable
from encode_once.cache.names import TEXT, FeatureName
from encode_once.classify.arrays import Groups
from encode_once.classify.data import features as featuring
from encode_once.classify.data.blocks import Matrix
from encode_once.classify.data.features import FeatureSource, LearnedFeature, find_feature
from encode_once.classify.data.groups import CONTENT, Grouping
from encode_once.classify.data.rows import content_keys
from encode_once.classify.evaluation.evaluation import Evaluation, ScoredRows, measure_rule
from encode_once.classify.evaluation.metrics import Metrics
from encode_once.classify.runs.run import Run


@contextmanager
def store_for(run: Run, store: str | os.PathLike[str] | None = None) -> Iterator[Store]:
    """A store to predict from, in which rows that it lacks can be encoded.

    The store that a run was fitted from is only read, and so is `store` where it cannot be written. On top of
    it is a scratch store in the run's folder or, where that cannot be written either, in a temporary one.

    Args:
        store: to be read and added to instead.
    """
    if store is not None and is_writable(Path(store)):
        yield Store(store)
        return
    base, scratch = Store(store or run.record.store, read_only=True), run.path / "store"
    if is_writable(scratch):
        yield Store(scratch, base=base)
        return
    with TemporaryDirectory(prefix="encode-once-") as folder:
        yield Store(folder, base=base)


def differences(run: Run, store: Store) -> list[str]:
    """Which of the features that a run was fitted on a store has by that name, but made another way, and how.

    Those it has not at all are for `extract` to bring.
    """
    record, held = run.record, set(store.features())
    needed = {name.stored: source for name, source in record.names.items()}
    needed |= {str(FeatureName(name, TEXT)): source for name, source in record.captioners.items()}
    found = []
    for name in needed.keys() & held:
        try:
            store.feature(name).check(needed[name].spec)
        except SpecMismatchError as error:
            found.append(f"{run.path} was fitted on another {name}: {error}")
    return sorted(found)


def check(run: Run, store: Store) -> None:
    """Refuse a store whose features are not those that a run was fitted on.

    Raises:
        SpecMismatchError: with all in which they differ.
    """
    if found := differences(run, store):
        raise SpecMismatchError("; ".join(found))


def sources(run: Run, store: Store) -> list[FeatureSource]:
    """The features a run needs, from a store that has them as the run knew them.

    Raises:
        UnknownFeatureError, SpecMismatchError: the store has not, or others of the same name.
    """
    check(run, store)
    found: list[FeatureSource] = []
    for name, source in run.record.features.items():
        one = find_feature(store, name)
        if source is None or isinstance(one, LearnedFeature):
            found.append(LearnedFeature(name, run.model.vectorisers[name]))
        else:
            found.append(replace(one, length=source.length))
    return found


def choose_split(tables: Sequence[Table], wanted: str, *usual: str) -> Table:
    """The table of that split; for "auto" the first of the usual ones that is there, or else the first.

    A split such as "test2017" is found as "test" where only one begins so.

    Raises:
        UsageError: there is none of that name.
    """
    for name in usual if wanted == "auto" else [wanted]:
        exact = [table for table in tables if table.split == name]
        alike = [table for table in tables if table.split.startswith(name)]
        if len(exact or alike) == 1:
            return (exact or alike)[0]
    if wanted != "auto":
        raise unknown_name(f"split of {tables[0].source}", wanted, [table.split for table in tables])
    return tables[0]


def predict(run: Run, store: Store, table: Table) -> tuple[NDArray[np.float32], list[str]]:
    """Probabilities (n, c) of a table's rows, and warnings about rows that lack a vector.

    Raises:
        MissingRowsError: rows that were never extracted.
    """
    scores, matrix = _scored(run, store, table)
    return scores, matrix.warnings


def label(run: Run, store: Store, table: Table, output: Path) -> list[str]:
    """Write the labels of a table's rows as CSV; return warnings about rows that lack a vector.

    Raises:
        MissingRowsError: rows that were never extracted.
    """
    scores, matrix = _scored(run, store, table)
    run.write_predictions(output, table.id_column, table.ids, run.decision(scores), matrix.missing())
    return matrix.warnings


def _scored(run: Run, store: Store, table: Table) -> tuple[NDArray[np.float32], Matrix]:
    matrix = featuring.load(sources(run, store), table)
    return run.model.scores(matrix), matrix


def evaluate(run: Run, store: Store, table: Table) -> tuple[Metrics, list[str]]:
    """The metrics of a labelled table, without the rows that the run was fitted or tuned on.

    A row is left out, and counted in a warning, if its content key (see `rows`) is that of such a row.

    Raises:
        DataError: no labels, or no such row.
    """
    judged, warnings = judge(run, store, table)
    return judged.metrics, warnings


def judge(run: Run, store: Store, table: Table) -> tuple[Evaluation, list[str]]:
    """The same, with the rows and what the run says of each.

    Raises:
        DataError: no labels, or no such row.
    """
    if table.labels is None:
        raise DataError(f"{table.source} has no labels to measure against")
    scores, warnings = predict(run, store, table)
    keys = content_keys(table)
    seen = run.has_seen(keys)
    if seen.all():
        raise DataError(
            f"the run was fitted on all {len(table)} rows of {table.source}: none is left to measure"
        )
    if seen.any():
        warnings.append(
            f"{int(seen.sum())} of {len(table)} rows are left out: the run was fitted or tuned on the same "
            "image or, without an image, the same caption"
        )
    classes = run.record.classes
    unknown = sorted(set(featuring.class_names(table.labels)) - set(classes))
    if unknown:
        warnings.append(f"labels the run does not know are left out: {', '.join(unknown)}")
    labels = featuring.label_matrix(table.labels, classes)[~seen]
    ids = [table.ids[row] for row in np.flatnonzero(~seen)]
    groups, warned = _groups(run, store, table)
    warnings += warned
    rows = ScoredRows(ids, scores[~seen], labels, groups=groups[~seen], keys=keys[~seen])
    probabilities = run.decision.probabilities(rows.scores)
    predictions = run.decision.choose(probabilities)
    metrics: Metrics = {
        **measure_rule(run.decision, labels, predictions, probabilities, classes),
        "split": f"{table.source}, {len(labels)} rows",
        "tuned_on": "the run's own rows",
    }
    return Evaluation(str(run.path), classes, rows, probabilities, predictions, metrics), warnings


def _groups(run: Run, store: Store, table: Table) -> tuple[Groups, list[str]]:
    """Which rows of a table belong together by the run's `--groups`, (n,); a warning where it cannot say."""
    spec = run.spec.groups
    try:
        return Grouping.parse(spec, store, table).of(table), []
    except UsageError:
        told = (
            f"intervals keep rows of equal content together: {table.source} has nothing for --groups {spec}"
        )
        return Grouping(CONTENT).of(table), [told]
