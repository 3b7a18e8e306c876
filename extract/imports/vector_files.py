"""Read vectors, and what names their rows, from the files of other programs.

file                            vectors                                        names of the rows
.npy                            the array                                      FILE.ids.txt, if it is there
.npz .safetensors               the only matrix                                arrays of n texts or integers
.npz of scipy.sparse            the matrix, which stays sparse                 FILE.ids.txt, if it is there
.parquet .arrow .feather        a column of lists, or all columns of numbers   the other columns
.lance (a folder)               the same                                       the same
.csv .tsv                       the columns of numbers                         the others, or the first
folder with img_emb, text_emb   clip-retrieval's: img_emb                      its metadata
.arff .svm .libsvm              all but the labels, which are read as well     none: the file is a table

Where several could be the vectors, `--vector-column` names one.
"""

import io
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from encode_once.cache.arff import BINARY, read_arff
from encode_once.cache.errors import DataError, EncodeOnceError, UsageError, brief, unknown_name
from encode_once.cache.input_files import TEXT_MB, check_regular, read_regular
from encode_once.cache.large_arrays import new_array
from encode_once.cache.packed import open_packed, suffix_of
from encode_once.cache.packed_columns import Texts, joined
from encode_once.cache.table_spool import TextFile
from encode_once.cache.terminal import short_list

HEADER = re.compile(rb"\d+ (\d+) \d+\s*")
BATCH_ROWS = 8192  # of an Arrow table in memory at a time
END = re.compile(r"\d+$")
NAMES = "ids"  # of the column that has the ids of a file that has no others


@dataclass(frozen=True)
class VectorFile:
    """The vectors (n, d) of a file, and the columns of n texts that may name its rows."""

    path: Path
    values: Any  # an array, or a scipy.sparse CSR matrix; numbers of any type
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    labels: list[tuple[str, ...]] | None = None  # of each row, if the file is a table of its own
    warnings: Sequence[str] = ()

    @property
    def is_sparse(self) -> bool:
        """Whether `values` is a sparse matrix."""
        return not isinstance(self.values, np.ndarray)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the vectors."""
        rows, width = self.values.shape
        return rows, width


def read_vectors(path: Path, column: str | None = None, labels: str | None = None) -> VectorFile:
    """Read the vectors of a file or folder by its suffix.

    Args:
        column: the column, array or part that has the vectors; by default the only one that can.
        labels: which columns of an ARFF file are labels: `first:N` or `last:N`.

    Raises:
        DataError: the file cannot be read, or is of no known kind.
        UsageError: it has no such column, or several that could be meant.
    """
    kind = suffix_of(path)
    if labels and kind != ".arff":
        raise UsageError(f"--labels {labels} is for ARFF files, which {path} is not")
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    reader = _clip_retrieval if path.is_dir() and kind != ".lance" else READERS.get(kind)
    if reader is None:
        raise DataError(f"{path}: vectors are read from {', '.join(READERS)} and clip-retrieval's folders")
    try:
        if not path.is_dir():
            check_regular(path)
        file = reader(path, column, labels)
    except EncodeOnceError:  # some are ValueErrors, too
        raise
    except (OSError, ValueError, KeyError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: {brief(error)}") from error
    _check(file)
    return file


def _check(file: VectorFile) -> None:
    """Raise if a file has no rows of numbers, or columns of another length."""
    if len(file.values.shape) != 2 or 0 in file.values.shape:
        raise DataError(f"{file.path}: expected rows of vectors, found an array of shape {file.values.shape}")
    if file.values.dtype.kind not in "fiub":
        raise DataError(f"{file.path}: its vectors are {file.values.dtype}, not numbers")
    for name, cells in file.columns.items():
        if len(cells) != file.shape[0]:
            raise DataError(f"{file.path} has {file.shape[0]} vectors, and {len(cells)} {name} to name them")


# --------------------------------------------------------------------------------------------- arrays


def _npy(path: Path, column: str | None, labels: str | None) -> VectorFile:
    values = np.load(path, mmap_mode="r", allow_pickle=False)
    return VectorFile(path, values, _names_beside(path))


def _names_beside(path: Path) -> dict[str, Sequence[str]]:
    """The names of the rows in FILE.ids.txt, as `store export --to npy` writes it."""
    names = Path(f"{path}.ids.txt")
    return {NAMES: read_lines(names)} if names.exists() else {}


def _npz(path: Path, column: str | None, labels: str | None) -> VectorFile:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    if arrays.keys() >= {"format", "shape", "data"}:
        return VectorFile(path, _sparse(path, arrays), _names_beside(path))
    return _of_arrays(path, arrays, column)


def _sparse(path: Path, arrays: Mapping[str, NDArray[Any]]) -> csr_matrix:
    """The matrix that scipy.sparse.save_npz has written.

    Only its form for rows: of the others, a small file may say that it has any number of rows.
    """
    kind = arrays["format"].item()
    if kind not in (b"csr", "csr"):
        raise DataError(f"{path}: a sparse matrix of another form than CSR: save matrix.tocsr()")
    numbers = {name: arrays[name] for name in ("indices", "indptr", "shape")}
    if wrong := [name for name, array in numbers.items() if array.dtype.kind not in "iu"]:
        raise DataError(f"{path}: {', '.join(wrong)} are not whole numbers")
    parts = arrays["data"], numbers["indices"], numbers["indptr"]
    matrix = csr_matrix(parts, shape=tuple(numbers["shape"].tolist()))
    matrix.check_format()  # raises for columns out of range
    matrix.sum_duplicates()
    return matrix


def _safetensors(path: Path, column: str | None, labels: str | None) -> VectorFile:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 — it is no dict
            ids = (file.metadata() or {}).get(NAMES)
    except (SafetensorError, TypeError) as error:  # TypeError: NumPy has no bfloat16
        raise DataError(f"{path}: {brief(error)}") from error
    if arrays.keys() >= {"values", "offsets"}:
        raise DataError(f"{path} holds sequences of vectors; only one vector a row can be imported")
    if ids is not None:  # as `store export --to safetensors` writes it
        arrays = {"values": arrays.pop("values"), NAMES: np.array(json.loads(ids), str)}
    return _of_arrays(path, arrays, column)


def _of_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], column: str | None) -> VectorFile:
    matrices = [name for name, array in arrays.items() if array.ndim == 2 and array.dtype.kind in "fiub"]
    values = arrays[_only(path, "array of vectors", matrices, column)]
    columns = {
        name: [*map(str, array.tolist())]
        for name, array in arrays.items()
        if array.shape == values.shape[:1] and array.dtype.kind in "iuU"
    }
    return VectorFile(path, values, columns)


# --------------------------------------------------------------------------------------------- tables


def _parquet(path: Path, column: str | None, labels: str | None) -> VectorFile:
    pyarrow = _imported("pyarrow", path, "parquet")
    if path.suffix.lower() == ".parquet":
        from pyarrow import parquet

        with parquet.ParquetFile(path) as file:
            batches = file.iter_batches(BATCH_ROWS)
            return _of_arrow(path, file.schema_arrow, file.metadata.num_rows, batches, column)
    from pyarrow import feather

    try:
        table = feather.read_table(path, memory_map=True)
    except pyarrow.ArrowInvalid:  # Feather's file format, or else Arrow's stream
        with pyarrow.memory_map(str(path)) as source:
            table = pyarrow.ipc.open_stream(source).read_all()
    return _of_arrow(path, table.schema, len(table), table.to_batches(BATCH_ROWS), column)


def _lance(path: Path, column: str | None, labels: str | None) -> VectorFile:
    data = _imported("lance", path, "lance").dataset(str(path))
    return _of_arrow(path, data.schema, data.count_rows(), data.to_batches(batch_size=BATCH_ROWS), column)


def _of_arrow(path: Path, schema: Any, rows: int, batches: Iterable[Any], column: str | None) -> VectorFile:
    """The vectors and texts of a table that is read batch by batch, so that one is in memory at a time."""
    import pyarrow as pa

    lists = [field.name for field in schema if _is_list(field.type)]
    numbers = [field.name for field in schema if pa.types.is_floating(field.type)]
    if column or lists or not numbers:
        chosen, apart = [_only(path, "column of vectors", lists, column)], lists
        kinds = [schema.field(chosen[0]).type.value_type]
    else:
        chosen = apart = numbers
        kinds = [schema.field(name).type for name in numbers]
    dtype = np.result_type(*(kind.to_pandas_dtype() for kind in kinds))
    is_text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer)
    names = [f.name for f in schema if f.name not in apart and any(is_kind(f.type) for is_kind in is_text)]
    columns = {name: TextFile() for name in names}
    values, end, lengths, empty = new_array((0, 0), dtype), 0, set[int](), 0
    for batch in batches:
        for name, file in columns.items():
            file.extend(_texts(batch, name))
        if apart is lists:
            vectors = batch[chosen[0]]
            empty += vectors.null_count
            lengths.update(_lengths(vectors))
            if empty or len(lengths) > 1:
                continue  # the other rows are counted before it is refused
            of_batch = _flat(path, vectors, chosen[0]).reshape(len(vectors), -1)
        else:
            of_batch = np.stack([batch[name].to_numpy(zero_copy_only=False) for name in chosen], axis=1)
        if not end:
            values = new_array((rows, of_batch.shape[1]), dtype)
        values[end : end + len(of_batch)] = of_batch
        end += len(of_batch)
    if empty:
        raise DataError(f"{path}: {empty} rows of column {chosen[0]} are empty")
    if len(lengths) > 1:
        raise DataError(f"{path}: the vectors of column {chosen[0]} have different lengths")
    return VectorFile(path, values, {name: file.mapped() for name, file in columns.items()})


def _flat(path: Path, vectors: Any, name: str) -> NDArray[Any]:
    """The numbers of lists of numbers; a missing one is NaN, if the column's type has it."""
    flat = vectors.flatten()
    if flat.null_count and flat.type.to_pandas_dtype()().dtype.kind != "f":
        raise DataError(f"{path}: vectors of column {name} lack {flat.null_count} numbers")
    numbers: NDArray[Any] = flat.to_numpy(zero_copy_only=False)
    return numbers


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(is_list and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)))


def _lengths(vectors: Any) -> list[int]:
    from pyarrow import compute

    lengths: list[int] = compute.unique(compute.list_value_length(vectors)).to_pylist()
    return lengths


def _csv(path: Path, column: str | None, labels: str | None) -> VectorFile:
    """Columns of numbers are the vectors; a first one of distinct whole numbers names the rows."""
    import pandas as pd

    if column:
        raise UsageError(f"--vector-column {column}: the vectors of {path} are all its columns of numbers")
    separator = "\t" if suffix_of(path) == ".tsv" else ","
    with open_packed(path) as file:
        texts = pd.read_csv(file, sep=separator, dtype=str, keep_default_na=False, na_filter=False)
    numbers = {name: pd.to_numeric(texts[name], errors="coerce") for name in texts.columns}
    is_number = {name: not cells.isna().any() for name, cells in numbers.items()}
    first = texts.columns[0]
    numbers_rows = texts[first].is_unique and texts[first].str.fullmatch(r"\d+").all()
    names = [name for name in texts.columns if not is_number[name] or (name == first and numbers_rows)]
    vectors = [name for name in texts.columns if name not in names]
    if not vectors:
        raise DataError(f"{path}: no column has numbers in every row, of {short_list(names)}")
    values = np.stack([numbers[name].to_numpy(np.float32) for name in vectors], axis=1)
    return VectorFile(path, values, {str(name): texts[name].tolist() for name in names})


def _clip_retrieval(path: Path, column: str | None, labels: str | None) -> VectorFile:
    """The folder that `clip-retrieval inference` writes: numbered files of vectors and of metadata."""
    parts = [name for name in ("img_emb", "text_emb") if (path / name).is_dir()]
    if not parts:
        raise DataError(f"{path}: a folder of vectors has img_emb/ or text_emb/, as clip-retrieval writes it")
    part = column or parts[0]
    if part not in parts:
        raise unknown_name(f"part of {path}", part, parts)
    files, metadata = _numbered(path / part, ".npy"), _numbered(path / "metadata", ".parquet")
    if metadata and metadata.keys() != files.keys():
        odd = ", ".join(map(str, sorted(metadata.keys() ^ files.keys())))
        raise DataError(f"{path}: {part} and metadata have files of different numbers ({odd} in one only)")
    values = {number: np.load(file, "r", allow_pickle=False) for number, file in files.items()}
    tables = {number: _parquet_columns(file) for number, file in metadata.items()}
    for number, table in tables.items():
        if any(len(cells) != len(values[number]) for cells in table.values()):
            raise DataError(f"{files[number]} and {metadata[number]} have different numbers of rows")
    shared = set[str].intersection(*map(set, tables.values())) if tables else set()
    columns = {name: joined([table[name] for table in tables.values()]) for name in sorted(shared)}
    return VectorFile(path, _joined(path / part, [*values.values()]), columns)


def _joined(path: Path, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """The rows of several arrays, which may be mapped from their files."""
    if not arrays or any(array.ndim != 2 for array in arrays):
        raise DataError(f"{path}: expected files of vectors, NAME_0.npy, NAME_1.npy, …")
    shape = sum(map(len, arrays)), arrays[0].shape[1]
    return np.concatenate(arrays, out=new_array(shape, np.result_type(*arrays)))


def _numbered(folder: Path, suffix: str) -> dict[int, Path]:
    """The files NAME_0, NAME_1, … of a folder by number, in order."""
    files = {int(match[0]): file for file in folder.glob(f"*{suffix}") if (match := END.search(file.stem))}
    return dict(sorted(files.items()))


def _parquet_columns(path: Path) -> dict[str, Texts]:
    _imported("pyarrow", path, "parquet")
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        columns = {name: TextFile() for name in file.schema_arrow.names}
        for batch in file.iter_batches(BATCH_ROWS):
            for name, texts in columns.items():
                texts.extend(_texts(batch, name))
    return {name: texts.mapped() for name, texts in columns.items()}


def _texts(batch: Any, name: str) -> Iterator[str]:
    """A column of an Arrow table as texts; empty cells as ""."""
    return ("" if cell is None else str(cell) for cell in batch[name].to_pylist())


# --------------------------------------------------------------------------------------- with labels


def _arff(path: Path, column: str | None, labels: str | None) -> VectorFile:
    file = read_arff(path)
    places = _label_columns(path, file.relation, file.columns, labels)
    matrix = file.values if isinstance(file.values, np.ndarray) else file.values.tocsc()
    others = np.setdiff1d(np.arange(len(file.columns)), places)
    Y = matrix[:, places] if isinstance(matrix, np.ndarray) else matrix[:, places].toarray()
    if not np.isin(Y, (0, 1)).all():
        raise DataError(f"{path}: not all of the columns taken as labels are 0/1; say which with --labels")
    values = matrix[:, others] if isinstance(matrix, np.ndarray) else matrix[:, others].tocsr()
    names = [file.columns[place][0] for place in places]
    return VectorFile(path, values, {}, [tuple(names[k] for k in np.flatnonzero(row)) for row in Y])


def _label_columns(
    path: Path, relation: str, columns: Sequence[tuple[str, Any]], labels: str | None
) -> NDArray[np.intp]:
    """Where the labels are: as --labels says, as MEKA's `-C N` in the relation, or 0/1 columns at the end.

    MEKA's N counts from the start, or from the end if it is negative. A filter that the relation names after
    it may have moved the columns, so that it is then not followed.
    """
    numbers = np.arange(len(columns))
    if labels:
        match = re.fullmatch(r"(first|last):(\d+)", labels)
        if not match or not 0 < int(match[2]) < len(columns):
            raise UsageError(f"--labels {labels}: write first:N or last:N, of the {len(columns)} columns")
        return numbers[: int(match[2])] if match[1] == "first" else numbers[-int(match[2]) :]
    if meka := re.fullmatch(r"[^:]*:.*?-[Cc]\s+(-?\d+)\s*", relation):
        count = int(meka[1])
        return numbers[:count] if count > 0 else numbers[count:]
    numeric = [place for place, (_, kind) in enumerate(columns) if kind != BINARY]
    if numeric and numeric[-1] + 1 < len(columns):
        return numbers[numeric[-1] + 1 :]
    raise UsageError(
        f"{path}: which of its {len(columns)} columns are labels is not clear: say so with --labels last:N "
        "or --labels first:N"
    )


def _libsvm(path: Path, column: str | None, labels: str | None) -> VectorFile:
    """`LABEL,LABEL COLUMN:NUMBER …`; a first line may be three numbers, of rows, columns and labels.

    Columns are taken as they are numbered, so that those of a file's other parts are the same: where numbers
    start from 1, column 0 is empty.
    """
    from sklearn.datasets import load_svmlight_file

    with open_packed(path) as file:
        lines = file.read().splitlines(keepends=True)
    header = HEADER.fullmatch(lines[0]) if lines else None
    lines = lines[1:] if header else lines
    content = io.BytesIO(b"".join(lines))
    values, numbers = load_svmlight_file(content, multilabel=True, zero_based=True, dtype=np.float32)
    if header:
        values.resize(values.shape[0], max(values.shape[1], int(header[1])))
    blank = sum(not line.strip() for line in lines)
    labels_of_rows = [tuple(f"{number:g}" for number in row) for row in numbers]
    warnings = (
        [f"{path}: {blank} blank lines are left out: they have no number and no label"] if blank else []
    )
    return VectorFile(path, values, {}, labels_of_rows, warnings)


# ------------------------------------------------------------------------------------------- helpers


def read_lines(path: Path) -> list[str]:
    """The lines of a text file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        text = read_regular(path, TEXT_MB).decode("utf-8", "surrogateescape")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    return text.removesuffix("\n").split("\n") if text else []


def with_ids(file: VectorFile, path: Path) -> VectorFile:
    """The file with its rows named by the lines of a text file.

    Raises:
        DataError: it has another number of lines than the file has vectors, or cannot be read.
    """
    ids = read_lines(path)
    if len(ids) != file.shape[0]:
        raise DataError(f"{path} has {len(ids)} lines, and {file.path} {file.shape[0]} vectors")
    return replace(file, columns={NAMES: ids})


def _only(path: Path, what: str, names: Sequence[str], name: str | None) -> str:
    if name is not None and name not in names:
        raise unknown_name(f"{what} of {path}", name, names)
    if name is None and len(names) != 1:
        problem = (
            f"has several ({', '.join(names)}): choose one with --vector-column" if names else "has none"
        )
        raise UsageError(f"{path}: expected one {what}, but it {problem}")
    return name or names[0]


def _imported(module: str, path: Path, extra: str) -> Any:
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        raise DataError(f"{path} needs {module}: pip install 'encode-once[{extra}]'") from error


READERS: dict[str, Callable[[Path, str | None, str | None], VectorFile]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".safetensors": _safetensors,
    ".parquet": _parquet,
    ".arrow": _parquet,
    ".feather": _parquet,
    ".lance": _lance,
    ".csv": _csv,
    ".tsv": _csv,
    ".arff": _arff,
    ".svm": _libsvm,
    ".libsvm": _libsvm,
}
