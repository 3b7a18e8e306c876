"""Read ARFF files of numbers, the format of WEKA, MULAN and MEKA, dense or sparse, also gzipped."""

import zlib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encode_once.cache.errors import DataError
from encode_once.cache.packed import open_packed

NUMERIC = ("NUMERIC", "REAL", "INTEGER")
BINARY = ["0", "1"]


@dataclass(frozen=True)
class ArffFile:
    """The content of a file: its relation, the name and type of each column, and its rows."""

    relation: str
    columns: list[tuple[str, Any]]  # a type is one of `NUMERIC`, or `BINARY`
    values: Any  # (n, columns) float32: an array, or a scipy.sparse CSR matrix if the file is sparse


def read_arff(path: Path) -> ArffFile:
    """Read a file whose columns are numeric or 0/1.

    Raises:
        DataError: it is not ARFF, has another column or a missing value; liac-arff is not installed.
    """
    try:
        arff = import_module("arff")
    except ImportError as error:
        raise DataError("ARFF files need liac-arff: pip install 'encode-once[arff]'") from error
    try:
        with open_packed(path) as file:
            text = file.read().decode()
        is_sparse = text.lower().partition("@data")[2].lstrip().startswith("{")
        content = arff.loads(text, return_type=arff.LOD if is_sparse else arff.DENSE)
    except (arff.ArffException, UnicodeDecodeError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path}: {error}") from error
    columns: list[tuple[str, Any]] = content["attributes"]
    for name, kind in columns:
        if kind not in (*NUMERIC, BINARY):
            raise DataError(f"{path}: column {name!r} is neither numeric nor {{0,1}}")
    try:
        values = (
            _sparse(content["data"], len(columns)) if is_sparse else _dense(content["data"], len(columns))
        )
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    if not np.isfinite(values.data if is_sparse else values).all():
        raise DataError(f"{path} has missing values")
    return ArffFile(content["relation"], columns, values)


def _dense(rows: list[list[Any]], width: int) -> NDArray[np.float32]:
    return np.array(rows, np.float32).reshape(len(rows), width)  # None, for a missing value, becomes NaN


def _sparse(rows: list[dict[int, Any]], width: int) -> Any:
    from scipy import sparse

    starts = np.cumsum([0, *map(len, rows)])
    columns = np.array([column for row in rows for column in row], np.int32)
    numbers = np.array([number for row in rows for number in row.values()], np.float32)
    return sparse.csr_matrix((numbers, columns, starts), (len(rows), width))
