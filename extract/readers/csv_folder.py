"""The plain data folder: `train.csv`, `test.csv` or both, and the images in `data/` or `images/`.

Columns are `ImageID`, `Labels` (only `train.csv` must have it), `Caption`, and `Caption2`, `Caption 3` … for
further captions; how their text is read stands in `csv_text`. Ids name the image files, in full or by stem.
"""

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

from encode_once.cache.errors import DataError
from encode_once.cache.table import Table
from encode_once.extract.readers.csv_grammar import (
    REMEDY,
    Fault,
    Record,
    UnescapedReader,
    read_csv,
    read_lines,
)
from encode_once.extract.readers.options import Options
from encode_once.extract.readers.samples import Samples, tables

ABOUT = (
    "a data folder holds train.csv (ImageID,Labels,Caption), test.csv (ImageID,Caption) or both, "
    "and the images in data/ or images/"
)
SPLITS = ("train", "test")
CAPTION = re.compile(r"caption ?\d*")  # casefolded: names are matched so


def recognises(data: Path, options: Options) -> bool:
    """Whether one of the tables is there, and no other columns are named for it."""
    return not options.columns.named and any((data / f"{split}.csv").is_file() for split in SPLITS)


def read(data: Path, options: Options) -> tuple[dict[str, Table], list[str]]:
    """The tables by the names "train" and "test", and a line for each kind of oddity.

    Labels of `test.csv` are separated as those of `train.csv` are. Without a folder of images the tables have
    captions alone. Raises `DataError` where a table cannot be read or none of its rows has an image.
    """
    beside = (data / name for name in ("data", "images"))
    root = options.images or next((folder for folder in beside if folder.is_dir()), None)
    parts = []
    for split in SPLITS:
        path = data / f"{split}.csv"
        if path.is_file():
            required = ("ImageID", "Labels") if split == "train" else ("ImageID",)
            parts.append(read_samples(path, required, root))
    return tables(parts, options.label_separator)


def read_samples(path: Path, required: Sequence[str], root: Path | None) -> Samples:
    """One table, whose images are in `root`."""
    (header, *records), columns, warnings = _read_records(path, required)
    lines = [record.line for record in records]
    names = [name.strip() for name in header.fields]
    cells = {key: [record.fields[i] for record in records] for key, i in columns.items()}
    captions = sorted(filter(CAPTION.fullmatch, cells), key=lambda key: int(key.removeprefix("caption") or 1))
    known = {"imageid", "labels", *captions}
    return Samples(
        files=[path],
        split=path.stem,
        where=lambda row: f"{path}:{lines[row]}",
        ids=cells["imageid"],
        captions=list(zip(*map(cells.get, captions), strict=True)) if captions else None,
        labels=cells.get("labels"),
        root=root,
        id_column=names[columns["imageid"]],
        columns={names[i]: cells[key] for key, i in columns.items() if key not in known},
        warnings=warnings,
    )


def _read_records(path: Path, required: Sequence[str]) -> tuple[list[Record], dict[str, int], list[str]]:
    """All records, header first; the index of each column by its casefolded name; the warnings."""
    lines = read_lines(path)
    records, fault = read_csv(lines)
    if not records:
        what = f"the header cannot be read: {fault.reason}" if fault else "the table is empty"
        raise DataError(f"{path}:1: {what}; {ABOUT}")
    header = records[0]
    columns = _columns(path, header, required)
    warnings: list[str] = []
    if fault:
        if columns.get("caption") != len(header.fields) - 1:
            raise DataError(
                f"{path}:{fault.line}: not well-formed CSV ({fault.reason}), and unescaped quotes "
                f"can be told apart only where Caption is the last column; {REMEDY}"
            )
        records = [header, *UnescapedReader(path, lines, len(header.fields), fault).read(header.line)]
        warnings.append(_unescaped_warning(path, fault, records))
    if len(records) == 1:
        raise DataError(f"{path}:{header.line}: the table has a header and no rows; {ABOUT}")
    return records, columns, warnings


def _unescaped_warning(path: Path, fault: Fault, records: list[Record]) -> str:
    warning = (
        f"{path}:{fault.line}: not well-formed CSV ({fault.reason}); "
        "the captions' inner quotes were read literally, doubled ones too"
    )
    split = [record.line for record in records if re.search(r"[\r\n]", record.fields[-1])]
    if split:
        warning += f"; captions over several lines: {len(split)} (first: {path}:{split[0]})"
    return warning


def _columns(path: Path, header: Record, required: Sequence[str]) -> dict[str, int]:
    """The index of each column by its casefolded name."""
    names = [name.strip().casefold() for name in header.fields]
    shown = textwrap.shorten(",".join(header.fields), 200)
    missing = [name for name in required if name.casefold() not in names]
    if missing:
        raise DataError(
            f"{path}:{header.line}: no column {' and no column '.join(missing)} in the header '{shown}'; "
            f"expected {','.join(required)} and, for text, Caption, separated by commas"
        )
    if len(set(names)) < len(names):
        raise DataError(f"{path}:{header.line}: two columns share a name in '{shown}'; rename one of them")
    return {name: i for i, name in enumerate(names)}
