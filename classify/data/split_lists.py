"""A split by lists of ids in files: `lists:train.txt,val.txt,test.txt`, or train and test alone."""

from collections.abc import Callable, Sequence
from pathlib import Path, PurePath

from encode_once.cache import DataError, Table, UsageError
from encode_once.cache.input_files import TEXT_MB, read_regular
from encode_once.cache.row_names import row_names
from encode_once.classify.data.splits import UNUSED

PREFIX = "lists:"
PARTS = {2: ("train", "test"), 3: ("train", "val", "test")}


def list_files(spec: str) -> list[str]:
    """The files that a split SPEC names; none if it is of another kind."""
    return [name for name in spec.removeprefix(PREFIX).split(",") if name] if spec.startswith(PREFIX) else []


def with_list_files(spec: str, change: Callable[[str], str]) -> str:
    """A split SPEC in which the path of each list is changed; one of another kind as it is."""
    files = list_files(spec)
    return PREFIX + ",".join(map(change, files)) if files else spec


def short_split(spec: str) -> str:
    """A split SPEC with the names of its lists in place of their paths, for messages and pages."""
    return with_list_files(spec, lambda file: PurePath(file).name)


def split_column(spec: str, table: Table) -> list[str]:
    """The split of each row, (n,): train, val or test, and `UNUSED` for a row in no list.

    A line of a list is a row's id, or the name of its image with or without suffix; of these the kind is
    taken by which most lines are found. Blank lines do not count.

    Raises:
        UsageError: there are not two or three files.
        DataError: a file cannot be read, a line names no row, or a row is in two lists. No message has a line
            of a file, which a stranger's recipe may name.
    """
    files = [Path(name) for name in list_files(spec)]
    if len(files) not in PARTS:
        raise UsageError(f"split {spec!r}: name two files, train and test, or three: train, val and test")
    lists = [_lines(file) for file in files]
    rows = _rows_by_name(table, [name for names in lists for name in names.values()])
    column = [UNUSED] * len(table)
    for file, part, names in zip(files, PARTS[len(files)], lists, strict=True):
        unknown = [number for number, name in names.items() if name not in rows]
        if unknown:
            raise DataError(
                f"{file}: {len(unknown)} of {len(names)} lines are no id and no image of {table.source}; the "
                f"first is line {unknown[0]}"
            )
        for row in {rows[name] for name in names.values()}:
            if column[row] != UNUSED:
                raise DataError(f"{file}: {table.ids[row]!r} is in the list of {column[row]} rows already")
            column[row] = part
    return column


def _lines(file: Path) -> dict[int, str]:
    """Number → text without blanks around it, for the lines of a file that are not blank."""
    try:
        text = read_regular(file, TEXT_MB).decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise DataError(f"{file}: {reason}") from error
    return {number: line.strip() for number, line in enumerate(text.splitlines(), 1) if line.strip()}


def _rows_by_name(table: Table, names: Sequence[str]) -> dict[str, int]:
    """Name → row, by ids or by names of images, whichever more of `names` are; without shared ones."""
    return max(map(_unique, row_names(table).values()), key=lambda rows: sum(name in rows for name in names))


def _unique(names: Sequence[str]) -> dict[str, int]:
    rows: dict[str, int] = {}
    repeated = set()
    for row, name in enumerate(names):
        if rows.setdefault(name, row) != row:
            repeated.add(name)
    return {name: row for name, row in rows.items() if name not in repeated}
