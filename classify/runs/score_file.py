"""Write the scores of rows to a file with a column for each class: CSV, JSON lines or parquet."""

import json
from collections.abc import Sequence
from pathlib import Path

from encode_once.cache import DataError, UsageError
from encode_once.cache.csv_file import write_csv
from encode_once.cache.format.atomic import replacing
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
        rows = ([ids[i], *(format(score, DIGITS) for score in row)] for i, row in enumerate(scores.tolist()))
        write_csv(path, [id_column, *classes], rows, excel_safe=excel_safe)
    elif path.suffix == ".jsonl":
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            for row_id, row in zip(ids, scores.tolist(), strict=True):
                file.write(json.dumps({id_column: row_id, **dict(zip(classes, row, strict=True))}) + "\n")
    else:
        _write_parquet(path, id_column, ids, classes, scores)


def _write_parquet(
    path: Path, id_column: str, ids: Sequence[str], classes: Sequence[str], scores: Probabilities
) -> None:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(f"{path} needs: pip install 'encode-once[parquet]'") from error
    try:
        table = pa.table([pa.array(ids), *(pa.array(column) for column in scores.T)], [id_column, *classes])
    except (UnicodeEncodeError, pa.ArrowException) as error:
        raise DataError(f"{path}: a name is not UTF-8: write .csv or .jsonl") from error
    with replacing(path) as temporary:
        parquet.write_table(table, temporary, row_group_size=ROWS)
