"""Store the vectors of files as a feature, each under the key of its row."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from encode_once.cache import DataError, Store, Table, UsageError
from encode_once.cache.feature import Feature
from encode_once.cache.format.part import Lengths, Values
from encode_once.cache.keys import NO_KEY, KeyIndex, RowIndex, content_key, pack
from encode_once.cache.large_arrays import concatenated
from encode_once.cache.packed import stem_of
from encode_once.cache.source_files import file_key
from encode_once.cache.terminal import short_list
from encode_once.extract.imports.joining import Joined, join
from encode_once.extract.imports.vector_files import VectorFile
from encode_once.extract.pipeline import encode
from encode_once.extract.readers.split_files import USUAL_SPLITS

OUTPUT = "imported"
LABEL_SEPARATOR = ";"  # in predictions; names of labels may hold blanks
CHUNK = 4096  # rows written at a time
MAX_COLUMNS = 2**24  # a sparse vector's column numbers are float32, which is exact up to here
SPARSE = 0.25  # share of the bytes of dense vectors that sparse ones may take to be stored as such


@dataclass
class ImportReport:
    """What became of the vectors of an import."""

    feature: str
    width: int
    sparse: bool
    stored: int = 0  # rows that are new
    present: int = 0  # rows that had this vector before
    left_over: int = 0  # vectors that belong to no row of a table
    rows: int = 0  # of all tables
    missing: int = 0  # rows of the tables that have no vector
    joined_by: list[str] = field(default_factory=list)  # for each file
    labels: list[str] = field(default_factory=list)  # that the files themselves have
    warnings: list[str] = field(default_factory=list)


def tables_of(files: Sequence[VectorFile]) -> list[Table]:
    """A table of each file that has labels: its rows are called by their numbers, and have no content."""
    return [
        Table(
            source=str(file.path.resolve()),
            ids=[str(row) for row in range(file.shape[0])],
            images=[""] * file.shape[0],
            captions=[""] * file.shape[0],
            labels=file.labels,
            id_column="Row",
            label_separator=LABEL_SEPARATOR,
            image_keys=pack([NO_KEY] * file.shape[0]),
            caption_keys=pack([NO_KEY] * file.shape[0]),
            split=_split(file.path),
        )
        for file in files
        if file.labels is not None
    ]


def tables_for(
    store: Store, data: str | None, name: str | None, warn: Callable[[Sequence[str]], None]
) -> list[Table]:
    """The tables whose rows get vectors: those read from `data`, the store's of that name, or all of it.

    Raises:
        DataError: the store has no tables, or the data cannot be read.
    """
    if data is None:
        tables = [store.table(name)] if name else store.tables()
        if not tables:
            raise DataError(f"{store.location} has no tables whose rows could get vectors: --data names one")
        return tables
    report = encode(data, [], store)
    warn(report.warnings)
    return report.tables


def import_vectors(
    store: Store, name: str, files: Sequence[VectorFile], tables: Sequence[Table], *, append: bool = False
) -> ImportReport:
    """Store the vectors of the files that belong to rows of the tables, as the feature `NAME/imported`.

    The feature's key is that of the files' contents. Vectors are float16 if all files' are, else float32.
    They are stored sparse if the files are and if that is much smaller.

    Args:
        append: whether the feature is there, and the files have further rows by the same model.

    Raises:
        DataError: vectors are not finite or of another width, belong to no row, or contradict stored ones.
        UsageError: there is such a feature and `append` is not set, or the reverse.
        SpecMismatchError: the feature was not imported from these files.
    """
    stored = store.feature(f"{name}/{OUTPUT}") if append else None
    files = _of_one_width(files, stored.width if stored else 0)
    all_half = all(file.values.dtype == np.float16 for file in files)
    dtype = (stored and stored.dtype) or np.dtype(np.float16 if all_half else np.float32)
    joined = [(file, _joined(file, tables)) for file in files]
    for file, part in joined:
        _check_finite(file, part.rows, dtype)
    _check_agreement(joined)
    feature = _feature(store, name, files, append=append)
    labels = sorted({label for file in files for row in file.labels or () for label in row})
    report = ImportReport(feature.name, files[0].shape[1], feature.columns is not None, labels=labels)
    for file, part in joined:
        _check_equal(feature, file, part, dtype)
    if append:
        _add_provenance(feature, files)
    for file, part in joined:
        new = _append(feature, file, part, dtype)
        report.stored += new
        report.present += len(part.rows) - new
        report.left_over += part.left_over
        report.joined_by.append(f"{file.path.name}: {part.by}")
        report.warnings += [*file.warnings, *part.warnings]
        if part.unused:
            report.warnings.append(f"{file.path}: columns not used: {', '.join(part.unused)}")
    keys = np.concatenate([table.keys("row") for table in tables])
    report.rows, report.missing = len(keys), int((~store.feature(feature.name).has(keys)).sum())
    return report


def _of_one_width(files: Sequence[VectorFile], width: int) -> list[VectorFile]:
    """Files of vectors of one width; sparse ones, which do not say their width, are as wide as the widest.

    width: of the vectors that are stored already; 0 if there are none.
    """
    width = width or max(file.shape[1] for file in files)
    if width > MAX_COLUMNS:
        raise DataError(f"{files[0].path} has vectors of {width:,} columns, more than {MAX_COLUMNS:,}")

    widened = []
    for file in files:
        if file.is_sparse and file.shape[1] < width:
            values = file.values.copy()
            values.resize(file.shape[0], width)
            file = replace(file, values=values)
        if file.shape[1] != width:
            raise DataError(f"{file.path} has vectors of {file.shape[1]} columns, the others have {width}")
        widened.append(file)
    return widened


def _joined(file: VectorFile, tables: Sequence[Table]) -> Joined:
    """A file that is a table has the rows of that table; others are joined with all tables."""
    own = [table for table in tables if table.source == str(file.path.resolve())]
    if file.labels is not None and own:
        return Joined(np.arange(len(own[0])), own[0].keys("row"), "its own rows", 0, [], [])
    return join(file, tables)


def _check_agreement(joined: Sequence[tuple[VectorFile, Joined]]) -> None:
    """Raise if two files have different vectors for a row."""
    keys = concatenated([part.keys for _, part in joined])
    starts = np.cumsum([0, *(len(part.rows) for _, part in joined)])
    first = KeyIndex(keys).find(keys)
    for place in np.flatnonzero(first != np.arange(len(keys))).tolist():
        number, other_number = np.searchsorted(starts, [place, first[place]], "right") - 1
        (file, part), (other, other_part) = joined[number], joined[other_number]
        row = part.rows[place - starts[number]]
        other_row = other_part.rows[first[place] - starts[other_number]]
        if other is not file and (other.values[[other_row]] != file.values[[row]]).sum():
            raise DataError(
                f"{other.path} (row {other_row}) and {file.path} (row {row}) have different vectors for "
                "one row of a table; nothing is imported"
            )


def _check_finite(file: VectorFile, rows: RowIndex, dtype: np.dtype[Any]) -> None:
    """Raise if a number of these rows is not finite in the type in which it is stored."""
    for start in range(0, len(rows), CHUNK):
        values = file.values[rows[start : start + CHUNK]]
        with np.errstate(over="ignore"):
            if file.is_sparse:
                if not np.isfinite(values.data.astype(dtype)).all():
                    raise DataError(
                        f"{file.path}: some of its numbers are NaN, infinite or too large for {dtype}"
                    )
                continue
            bad = np.flatnonzero(~np.isfinite(values.astype(dtype)).all(axis=1))
        if len(bad):
            row = rows[start + bad[0]]
            raise DataError(
                f"{file.path}: row {row} has a number that is NaN, infinite or too large for {dtype}; a row "
                "without a vector is left out of the file"
            )


def _feature(store: Store, name: str, files: Sequence[VectorFile], *, append: bool) -> Feature:
    """The feature that the vectors are stored as; it is created unless `append` is set."""
    stored = f"{name}/{OUTPUT}"
    if append:
        feature = store.feature(stored)
        if not feature.is_imported:
            raise UsageError(f"{stored} was not imported: extract adds rows to it")
        return feature
    hashes = [_hash(file.path) for file in files]
    spec: dict[str, str | int | float | bool] = {
        "modality": "row",
        "encoder": "import",
        "content": " ".join(hashes),
    }
    if all(file.is_sparse for file in files):
        numbers = sum(file.values.nnz for file in files)
        if numbers * 2 < SPARSE * sum(np.prod(file.shape) for file in files):
            spec["columns"] = files[0].shape[1]
    if stored in store.features() and store.feature(stored).spec != spec and len(store.feature(stored)):
        raise UsageError(
            f"{store.location} has {stored}, from other files: --append adds rows by the same model, "
            f"store drop {stored} deletes it, and another NAME keeps both"
        )
    feature = store.declare(stored, spec)
    _add_provenance(feature, files)
    return feature


def _add_provenance(feature: Feature, files: Sequence[VectorFile]) -> None:
    """Record the names and hashes of files that are not recorded yet."""
    recorded = feature.record.provenance
    texts = [f"{file.path.name} blake2b:{_hash(file.path)}" for file in files]
    new = [text for text in texts if text not in recorded.values()]
    feature.add_provenance({f"file {len(recorded) + 1 + i}": text for i, text in enumerate(new)})


def _hash(path: Path) -> str:
    """The content key of a file, or of all files of a folder."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    keys = [file_key(str(file)) for file in files]
    return (keys[0] if len(keys) == 1 else content_key(b"".join(keys))).hex()


def _append(feature: Feature, file: VectorFile, part: Joined, dtype: np.dtype[Any]) -> int:
    """Store the vectors of a file that are new; return their number."""
    new = np.flatnonzero(~feature.has(part.keys))
    if not len(new):
        return 0
    with feature.writer(len(new)) as writer:
        for start in range(0, len(new), CHUNK):
            rows = new[start : start + CHUNK]
            writer.append(part.keys[rows], *_prepared(feature, file, part.rows[rows], dtype))
    return len(new)


def _prepared(
    feature: Feature, file: VectorFile, rows: RowIndex, dtype: np.dtype[Any]
) -> tuple[Values, Lengths | None]:
    """Rows of a file as the feature stores them: vectors, or pairs (column, number) and their counts."""
    values = file.values[rows]
    if feature.columns is None:
        return (values.toarray() if file.is_sparse else np.asarray(values)).astype(dtype), None
    matrix = sparse.csr_matrix(values)
    matrix.eliminate_zeros()
    matrix.sort_indices()
    pairs = np.stack([matrix.indices, matrix.data], axis=1).astype(np.float32)
    return pairs, np.diff(matrix.indptr).astype(np.intp)


def _check_equal(feature: Feature, file: VectorFile, part: Joined, dtype: np.dtype[Any]) -> None:
    """Raise if rows of the file are stored with other vectors."""
    old = np.flatnonzero(feature.has(part.keys))
    for start in range(0, len(old), CHUNK):
        rows = old[start : start + CHUNK]
        values, lengths = _prepared(feature, file, part.rows[rows], dtype)
        _, stored, stored_lengths = feature.block(feature.find(part.keys[rows]))
        differs = stored.shape != values.shape or (stored != values).any()
        if lengths is not None and stored_lengths is not None:
            differs = differs or (lengths != stored_lengths).any()
        if differs:
            raise DataError(
                f"{file.path} has other vectors for rows that {feature.name} has already; nothing is "
                f"imported: store drop {feature.name} deletes it, another NAME keeps both"
            )


def _split(path: Path) -> str:
    """The split that a file's name ends with, as emotions-test.arff; train if it says none."""
    words = re.split(r"[-_. ]+", stem_of(path).lower())
    return words[-1] if words[-1] in USUAL_SPLITS else "train"


def text(report: ImportReport) -> str:
    """The report as the command line prints it."""
    kind = f"{report.width} columns{', sparse' if report.sparse else ''}"
    lines = [f"{report.feature}: {report.stored} vectors stored ({kind})"]
    if report.present:
        lines.append(f"  {report.present} rows had theirs already")
    lines.append(f"  rows of the tables without a vector: {report.missing} of {report.rows}")
    lines.append(f"  vectors that belong to no row: {report.left_over}")
    if report.labels:
        lines.append(f"  labels: {len(report.labels)} ({short_list(report.labels, 4)})")
    return "\n".join([*lines, *(f"  joined by: {line}" for line in report.joined_by)])
