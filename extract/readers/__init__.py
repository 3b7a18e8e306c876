"""Read the user's data from any supported container; the same samples give the same tables.

A container is a module in CONTAINERS with `ABOUT` (its layout in a line), `recognises(data, options)` and
`read(data, options)`, which returns raw tables (see `raw`); `meaning` decides what their columns mean.
"""

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

from encode_once.cache.errors import MissingDataError
from encode_once.cache.input_files import check_regular
from encode_once.cache.table import Table
from encode_once.extract.readers.bad_rows import BadRows
from encode_once.extract.readers.corrections import correct
from encode_once.extract.readers.data_mirror import DataMirror, allowed_urls
from encode_once.extract.readers.errors import file_errors
from encode_once.extract.readers.image_lookup import ImageFinder
from encode_once.extract.readers.label_notation import class_list
from encode_once.extract.readers.label_sets import NamedColumns, all_named_columns, read_label_sets
from encode_once.extract.readers.large_tables import read_large, without_label_sets
from encode_once.extract.readers.layouts import CONTAINERS, read_raw
from encode_once.extract.readers.meaning import UnknownColumnsError, understood
from encode_once.extract.readers.one_hot import Uncertain
from encode_once.extract.readers.options import Columns, ImageFolder, ParsedOptions, ReadOptions
from encode_once.extract.readers.raw import RawTable
from encode_once.extract.readers.split_files import USUAL_SPLITS
from encode_once.extract.readers.split_rows import SplitRows
from encode_once.extract.readers.table_builder import build_tables
from encode_once.extract.readers.understanding import Reading, Understanding, describe
from encode_once.extract.readers.unused import unused_files
from encode_once.extract.remote.session import allowing

__all__ = [
    "CONTAINERS",
    "Columns",
    "ReadOptions",
    "Reading",
    "Uncertain",
    "Understanding",
    "allowed_urls",
    "class_list",
    "read",
    "understand",
]


def understand(
    data: str | os.PathLike[str],
    read_options: ReadOptions = ReadOptions(),
    *,
    needs_content: bool = True,
    earlier_label_sets: Sequence[str] = (),
) -> Reading:
    """Read the tables of the data, with what was decided about their columns.

    Args:
        data: a folder or file of one of the containers, or its URL.
        needs_content: whether a table without images and captions is an error, as it cannot be encoded.
        earlier_label_sets: those of an earlier extract, which are read again if their columns are there.

    Raises:
        MissingDataError: the path does not exist, or holds none of the containers.
        DataError: several containers match, or the data or the corrections cannot be read.
    """
    urls = allowed_urls(data, read_options.images, read_options.allow_urls)
    with allowing(urls), DataMirror() as mirror:
        data, texts = mirror.data(os.fspath(data)), mirror.image_folders(read_options.images)
        _check_exists(data)
        named_columns = all_named_columns(read_options.label_sets, earlier_label_sets)
        options = _parsed(read_options, texts, named_columns)
        with file_errors(data):
            if not data.is_dir():
                check_regular(data)
            raw = _raw(data, options)
            finder = ImageFinder(_root(data, raw), options.images, mirror)
            separator = read_options.label_separator
            if any(table.pieces for table in raw):
                parts, built, image_warnings, unread = read_large(
                    raw, options, separator, finder, needs_content=needs_content
                )
                image_warnings += without_label_sets(data, named_columns)
                named_columns = []
            else:
                parts, unread = _understood(raw, options)
                built, image_warnings = build_tables(
                    parts, separator, finder, needs_content=needs_content, marks=options.unknown
                )
            sets = read_label_sets(
                named_columns, built, options, lambda others: _understood(_raw(data, others), others)[0]
            )
        result = [describe(part, of_part) for part, of_part in zip(parts, built, strict=True)]
        for table, of_table in zip(built, result, strict=True):
            table.label_sets = sets.sets.get(table.split, {})
            of_table.decisions.update(sets.decisions.get(table.split, {}))
        unused = (
            [line for part in raw for line in part.unused] + unread + unused_files(data, raw) + mirror.unused
        )
        warnings = [line for part in parts for line in part.warnings] + image_warnings
        warnings += options.bad_rows.warnings
        of_rows = {f"label set {named.name}: {line}" for named in named_columns for line in warnings}
        warnings += [line for line in sets.warnings if line not in of_rows]
        if options.unknown and any(table.labels for table in built) and not any(map(_has_unknown, built)):
            marks = " or ".join(read_options.unknown)
            warnings.append(f"{data}: no label is marked as unknown by {marks} (--unknown)")
        reading = mirror.named(Reading({part.split: part for part in built}, result, warnings, unused))
    correct(reading, read_options.corrections)
    return reading


def read(
    data: str | os.PathLike[str], options: ReadOptions = ReadOptions()
) -> tuple[dict[str, Table], list[str]]:
    """The tables alone, split name → table, and a warning for each kind of problem; see `understand`."""
    reading = understand(data, options)
    return reading.tables, reading.warnings + [f"not used: {line}" for line in reading.unused]


def _check_exists(data: Path) -> None:
    if not data.exists():
        siblings = [path.name for path in data.parent.iterdir()] if data.parent.is_dir() else []
        close = difflib.get_close_matches(data.name, siblings, 1)
        hint = f"did you mean {str(data.with_name(close[0]))!r}?" if close else "--data names the data"
        raise MissingDataError(f"{data}: no such file or folder; {hint}")


def _parsed(options: ReadOptions, images: Sequence[str], label_sets: Sequence[NamedColumns]) -> ParsedOptions:
    """The options as containers take them, with local folders of images."""
    return ParsedOptions(
        options.columns,
        tuple(map(ImageFolder.parse, images)),
        tuple(options.classes),
        options.uncertain or "unknown",
        tuple(map(str.strip, options.unknown)),
        options.keep_text,
        BadRows(options.skip_bad_rows),
        tuple(column for named in label_sets for column in named.columns),
    )


def _has_unknown(table: Table) -> bool:
    return bool(table.unknown) or any(label_set.unknown for label_set in table.label_sets.values())


def _raw(data: Path, options: ParsedOptions) -> list[RawTable]:
    """The raw tables of the data, that of the train split first."""
    raw = read_raw(data, options)
    raw.sort(key=lambda part: not part.split.startswith("train"))
    return raw


def _understood(raw: Sequence[RawTable], options: ParsedOptions) -> tuple[list[SplitRows], list[str]]:
    """The rows of each table, and a line for each table without a known column next to others that have one.

    Raises:
        UnknownColumnsError: no table has, or that of a split has not.
    """
    parts: list[SplitRows] = []
    errors: dict[Path, UnknownColumnsError] = {}
    for table in raw:
        try:
            parts.append(understood(table, options, parts[0].choice if parts else None))
        except UnknownColumnsError as error:
            errors[table.files[0]] = error
            if table.split in USUAL_SPLITS:
                raise
        table.release()
    if not parts:
        raise next(iter(errors.values()))
    lines = [f"{path.name}: no column has a known name; --data {path} reads it alone" for path in errors]
    return parts, lines


def _root(data: Path, tables: Sequence[RawTable]) -> Path:
    """The folder whose images may be used: annotations may be in a folder next to that of the images."""
    folders = [data if data.is_dir() else data.parent, *(path for table in tables for path in table.folders)]
    return Path(os.path.commonpath([path.absolute() for path in folders]))
