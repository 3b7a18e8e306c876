"""Files with the scores of rows, a column for each class: CSV, JSON lines or parquet."""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from encode_once.cache import DataError, UsageError
from encode_once.cache.csv_file import write_csv
from encode_once.cache.errors import brief
from encode_once.cache.format.atomic import replacing
from encode_once.cache.terminal import short_list
from encode_once.classify.arrays import Probabilities

SUFFIXES = (".csv", ".jsonl", ".parquet")
DIGITS = ".9g"  # enough for any float32
ROWS = 100_000  # of a row group


def check_score_file(path: Path) -> None:
    """Refuse a file whose suffix names none of the formats.

    Raises:
        UsageError: it does not.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(f"--scores {path}: the name must end in {' or '.join(SUFFIXES)}")


def write_scores(
    path: Path,
    id_column: str,
    ids: Sequence[str],
    classes: Sequence[str],
    scores: Probabilities,
    *,
    excel_safe: bool = False,
) -> None:
    """Write scores (n, c), in a column each, after the column of the rows' ids.

    Args:
        path: the file, whose suffix `check_score_file` accepts.

    Raises:
        DataError: a class is called as the column of the ids; or for parquet, a name is not UTF-8.
    """
    if id_column in classes:
        raise DataError(f"{path}: the column of the ids and a class have one name, {id_column!r}: rename one")
    if path.suffix == ".csv":
        rows = ([ids[i], *(format(score, DIGITS) for score in row)] for i, row in enumerate(_lists(scores)))
        write_csv(path, [id_column, *classes], rows, excel_safe=excel_safe)
    elif path.suffix == ".jsonl":
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            for row_id, row in zip(ids, _lists(scores), strict=True):
                file.write(json.dumps({id_column: row_id, **dict(zip(classes, row, strict=True))}) + "\n")
    else:
        _write_parquet(path, id_column, ids, classes, scores)


def _lists(scores: Probabilities) -> Iterator[list[float]]:
    """The rows of scores (n, c) as lists; all of them at once would take 32 bytes a score."""
    for first in range(0, len(scores), ROWS):
        yield from scores[first : first + ROWS].tolist()


def _write_parquet(
    path: Path, id_column: str, ids: Sequence[str], classes: Sequence[str], scores: Probabilities
) -> None:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(f"{path} needs: pip install 'encode-once[parquet]'") from error
    try:
        kinds = [pa.string(), *[pa.from_numpy_dtype(scores.dtype)] * len(classes)]
        schema = pa.schema([*zip([id_column, *classes], kinds, strict=True)])
        with replacing(path) as temporary, parquet.ParquetWriter(temporary, schema) as writer:
            for first in range(0, max(len(ids), 1), ROWS):
                part = slice(first, first + ROWS)
                columns = [pa.array(ids[part], pa.string()), *map(pa.array, scores[part].T)]
                writer.write_table(pa.table(columns, schema))
    except (UnicodeEncodeError, pa.ArrowException) as error:
        raise DataError(f"{path}: a name is not UTF-8: write .csv or .jsonl") from error


def read_score_file(path: Path, classes: Sequence[str]) -> tuple[list[str], Probabilities]:
    """The ids of rows and their scores (n, c), in the order of the classes, from a file of `write_scores`.

    Raises:
        UsageError: the suffix names none of the formats.
        DataError: it has no rows, lacks a class, or has a score that is not between 0 and 1.
    """
    check_score_file(path)
    ids, columns = _read_columns(path)
    if missing := [name for name in classes if name not in columns]:
        raise DataError(f"{path} has no scores of {short_list(missing)}: it is of another run")
    try:
        scores = np.array([columns[name] for name in classes], np.float64).T
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{path} has a score that is not a number ({brief(error)}): write it again"
        ) from error
    if not len(scores) or not ((scores >= 0) & (scores <= 1)).all():
        problem = "a score that is not between 0 and 1" if len(scores) else "no rows"
        raise DataError(f"{path} has {problem}: write it again with predict --scores")
    return ids, scores


def _read_columns(path: Path) -> tuple[list[str], dict[str, list[Any]]]:
    """The first column as texts, and the others by name."""
    try:
        if path.suffix == ".parquet":
            table = _read_parquet(path)
            header, columns = [*table], [*table.values()]
        else:
            with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
                if path.suffix == ".csv":
                    header, *rows = csv.reader(file)
                else:
                    records = [json.loads(line) for line in file]
                    header = [*records[0]] if records else ["id"]
                    rows = [[record[name] for name in header] for record in records]
            columns = [[*column] for column in zip(*rows, strict=True)] or [[] for _ in header]
        return list(map(str, columns[0])), dict(zip(header[1:], columns[1:], strict=True))
    except (ValueError, LookupError, TypeError, RecursionError, csv.Error) as error:
        raise DataError(f"{path} is not a file of predict --scores ({brief(error)})") from error


def _read_parquet(path: Path) -> dict[str, list[Any]]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(f"{path} needs: pip install 'encode-once[parquet]'") from error
    try:
        columns: dict[str, list[Any]] = parquet.read_table(path).to_pydict()
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a file of predict --scores ({brief(error)})") from error
    return columns
