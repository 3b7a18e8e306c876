"""Apply a run to other rows: predict their labels, and evaluate it where the true labels are known."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from encode_once.cache import DataError, SpecMismatchError, Store, Table, UsageError
from encode_once.cache.errors import unknown_name
from encode_once.cache.format.atomic import is_writable
from encode_once.cache.names import TEXT, FeatureName
from encode_once.cache.packed_columns import taken
from encode_once.cache.remote.location import is_url
from encode_once.cache.terminal import short_list
from encode_once.classify.arrays import BoolArray, LabelMatrix, Probabilities, Scores
from encode_once.classify.data import features as featuring
from encode_once.classify.data.blocks import Matrix
from encode_once.classify.data.features import FeatureSource, LearnedFeature, find_feature
from encode_once.classify.data.groups import CONTENT, Grouping
from encode_once.classify.data.hierarchy import Hierarchy
from encode_once.classify.data.labels import class_names
from encode_once.classify.data.rows import content_keys
from encode_once.classify.evaluation.evaluation import Evaluation, ScoredRows, measure_rule
from encode_once.classify.evaluation.metrics import Metrics
from encode_once.classify.runs.prevalence import Prevalences, decided, text
from encode_once.classify.runs.reading import RunError
from encode_once.classify.runs.run import Run


@contextmanager
def store_for(run: Run, store: str | os.PathLike[str] | None = None) -> Iterator[Store]:
    """A store to predict from, to which missing rows can be added.

    The store that the run was fitted from is only read, if it is there; added rows are written to a scratch
    store on top of it, in the run's folder or, if that cannot be written, in a temporary one.

    Args:
        store: read and extended instead; if it cannot be written, it is only read as well.

    Raises:
        RunError: the scratch store is a link, or holds links.
    """
    if store is not None and (is_url(store) or is_writable(Path(store))):
        yield Store(store)
        return
    read = fitted_store(run) if store is None else Store(store, read_only=True)
    base, scratch = read if read.exists else None, own_folder(run, "store")
    if is_writable(scratch):
        yield Store(scratch, base=base)
        return
    with TemporaryDirectory(prefix="encode-once-") as folder:
        yield Store(folder, base=base)


def fitted_store(run: Run) -> Store:
    """The store that `run.json` names, which may be any path: it is only read."""
    return Store(run.record.store, read_only=True)


def own_folder(run: Run, name: str) -> Path:
    """A folder inside the run's that is written into, and may not lead out of it.

    Raises:
        RunError: it is a link, or holds links.
    """
    folder = run.path / name
    for path in (folder, *folder.rglob("*")):
        if path.is_symlink():
            raise RunError(f"{path} is a symbolic link, which is not followed: remove it, or name a folder")
    return folder


def differences(run: Run, store: Store) -> list[str]:
    """How features of the store differ from those of the same name that the run was fitted on.

    Features that the store lacks are no difference: `extract` adds them.
    """
    needed = {name.stored: feature for name, feature in run.record.names.items()}
    needed |= {str(FeatureName(name, TEXT)): feature for name, feature in run.record.captioners.items()}
    lines = []
    for name in needed.keys() & {*store.features()}:
        try:
            store.feature(name).check(needed[name].spec)
        except SpecMismatchError as error:
            lines.append(f"{run.path} was fitted on another {name}: {error}")
    return sorted(lines)


def check(run: Run, store: Store) -> None:
    """Refuse a store whose features are not those that the run was fitted on.

    Raises:
        SpecMismatchError: with all differences.
    """
    if lines := differences(run, store):
        raise SpecMismatchError("; ".join(lines))


def sources(run: Run, store: Store) -> list[FeatureSource]:
    """The features of a run, read from a store.

    Raises:
        UnknownFeatureError: the store lacks a feature.
        SpecMismatchError: the store has another feature of that name.
    """
    check(run, store)
    features: list[FeatureSource] = []
    for name, fitted in run.record.features.items():
        feature = find_feature(store, name)
        if fitted is None or isinstance(feature, LearnedFeature):
            features.append(LearnedFeature(name, run.model.vectorisers[name]))
        else:
            features.append(replace(feature, length=fitted.length, width=fitted.dim))
    return features


def choose_split(tables: Sequence[Table], split: str, *defaults: str) -> Table:
    """The table of a split; for "auto" that of the first default that exists, or else the first table.

    "test" also chooses a split such as "test2017", if it is the only one that begins so.

    Raises:
        UsageError: there is no such split.
    """
    for name in defaults if split == "auto" else [split]:
        exact = [table for table in tables if table.split == name]
        alike = [table for table in tables if table.split.startswith(name)]
        if len(exact or alike) == 1:
            return (exact or alike)[0]
    if split != "auto":
        raise unknown_name(f"split of {tables[0].source}", split, [table.split for table in tables])
    return tables[0]


def predict(run: Run, store: Store, table: Table) -> tuple[Scores, list[str]]:
    """Probabilities (n, c) of a table's rows, and warnings about rows that lack a vector.

    Raises:
        MissingRowsError: rows that were never extracted.
    """
    matrix = featuring.load(sources(run, store), table)
    return run.model.scores(matrix), matrix.warnings


class Predicted(NamedTuple):
    """What a run says of rows."""

    probabilities: Probabilities  # (n, c): what the decision rule looks at
    labels: LabelMatrix  # (n, c)
    missing: BoolArray  # (n, features): features that the training mean replaced
    warnings: list[str]
    prevalence: Prevalences | None = None  # if probabilities are corrected for it


def label(run: Run, store: Store, table: Table, prevalence: str | None = None) -> Predicted:
    """The labels of a table's rows; prevalence: as for `label_rows`.

    Raises:
        MissingRowsError: rows that were never extracted.
        DataError: too few rows to estimate prevalences.
    """
    return label_rows(run, featuring.load(sources(run, store), table), prevalence)


def label_rows(run: Run, matrix: Matrix, prevalence: str | None = None) -> Predicted:
    """The labels of rows with these features, in the run's order.

    prevalence: a method that estimates how frequent classes are in these rows, see `runs.prevalence`.

    Raises:
        DataError: too few rows to estimate prevalences.
    """
    rows = decided(run, run.decision.probabilities(run.model.scores(matrix)), prevalence)
    warnings = [*matrix.warnings, *untrained_warning(run)]
    return Predicted(rows.probabilities, rows.labels, matrix.missing(), warnings, rows.prevalence)


def untrained_warning(run: Run) -> list[str]:
    """A warning about classes that the run was fitted without a positive row of, if there are any."""
    names = run.record.untrained
    if not names:
        return []
    return [
        f"{run.path} was fitted without one positive row of {short_list(names)}: their scores mean nothing"
    ]


def unused_warnings(run: Run, present: Mapping[str, object]) -> list[str]:
    """Warnings about inputs that are there, such as captions, of which the run has no feature."""
    unused = sorted(kind for kind, values in present.items() if values and kind not in run.record.inputs)
    return [f"the {kind} are not used: {run.path} has no feature of {kind}" for kind in unused]


def _hint(unknown: Sequence[str], classes: Sequence[str]) -> str:
    """What to do if an unknown label seems to be several labels that the run knows."""
    for label in unknown:
        if parts := set(re.split(r"[\s,;|/&+]+", label)) & set(classes):
            part = sorted(parts)[0]
            return f"; if {label!r} is several, as the run knows {part!r}, use --label-separator"
    return ""


def unknown_labels(run: Run, labels: Sequence[Sequence[str]]) -> dict[str, int]:
    """Label of rows that is no class of the run, nor below one in its hierarchy → number of rows."""
    classes, above = {*run.record.classes}, Hierarchy(run.spec.hierarchy).above
    names = [name for name in class_names(labels) if classes.isdisjoint((name, *above.get(name, ())))]
    counts = Counter(name for row in labels for name in {*row})
    return {name: counts[name] for name in names}


def evaluate(run: Run, store: Store, table: Table, prevalence: str | None = None) -> Evaluation:
    """Evaluate a run on the rows of a labelled table that it was not fitted or tuned on.

    Rows with the content key (see `rows`) of a fitted or tuned row are left out, and counted in a warning.

    prevalence: as for `label_rows`; it does not look at the labels.

    Raises:
        DataError: the table has no labels that the run knows, or no rows that the run has not seen, or too
            few to estimate prevalences.
        MissingRowsError: rows that were never extracted.
    """
    if table.labels is None:
        raise DataError(f"{table.source} has no labels to measure against")
    classes, names = run.record.classes, class_names(table.labels)
    unknown = [*unknown_labels(run, table.labels)]
    if len(unknown) == len(names):
        others = short_list(unknown)
        content = f"only labels that {run.path} does not know ({others})" if names else "no labels"
        raise DataError(
            f"{table.source} has {content}, so there is nothing to measure; the run's are "
            f"{short_list(classes)}"
        )
    scores, warnings = predict(run, store, table)
    keys = content_keys(table)
    seen = run.has_seen_rows(table)
    if seen.all():
        raise DataError(
            f"the run was fitted on all {len(table)} rows of {table.source}: none is left to measure"
        )
    if seen.any():
        warnings.append(
            f"{int(seen.sum())} of {len(table)} rows are left out: the run was fitted or tuned on the same "
            "image or, without an image, the same caption"
        )
    if unknown and not run.spec.only_classes:  # else other labels are left out on purpose
        warnings.append(
            f"labels the run does not know are left out: {short_list(unknown)}{_hint(unknown, classes)}"
        )
    warnings += untrained_warning(run)
    try:
        groups = Grouping.parse(run.spec.groups, store, table).of(table)
    except UsageError:
        groups = Grouping(CONTENT).of(table)
        warnings.append(
            f"intervals keep rows of equal content together: {table.source} has nothing for "
            f"--groups {run.spec.groups}"
        )
    labels = run.labels_of(table)[~seen]
    ids = [*taken(table.ids, np.flatnonzero(~seen))]
    rows = ScoredRows(ids, scores[~seen], labels, groups=groups[~seen], keys=keys[~seen])
    chosen = decided(run, run.decision.probabilities(rows.scores), prevalence)
    warnings += [text(chosen.prevalence)] if chosen.prevalence else []
    metrics: Metrics = {
        **measure_rule(run.decision, labels, chosen.labels, chosen.probabilities, classes),
        "split": f"{table.source}, {len(labels)} rows",
        "tuned_on": "the run's own rows",
    }
    return Evaluation(
        str(run.path), classes, rows, chosen.probabilities, chosen.labels, metrics, warnings=warnings
    )
