"""What was understood of the data, as text to print and as JSON."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from encode_once.cache.representation import short_repr
from encode_once.cache.table import Table
from encode_once.cache.terminal import one_line, short_list
from encode_once.extract.readers.split_rows import SplitRows

MOST = 12  # classes or columns that are listed


@dataclass(frozen=True)
class Understanding:
    """The decisions about a table: the subject of each → what was decided and why."""

    source: str
    split: str
    rows: int
    decisions: dict[str, str]

    __repr__ = short_repr

    def text(self) -> str:
        """The block that `extract` prints."""
        lines = [f"{self.source}: table {self.split}, {_count(self.rows, 'row')}"]
        lines += [f"  {subject}: {decision}" for subject, decision in self.decisions.items()]
        return "\n".join(map(one_line, lines))

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {"split": self.split, "source": self.source, "rows": self.rows, "decisions": self.decisions}


@dataclass(frozen=True)
class Reading:
    """The tables of the data, split name → table, with what was understood of each, and warnings."""

    tables: dict[str, Table]
    understood: list[Understanding] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)  # files that were not read

    __repr__ = short_repr

    def text(self) -> str:
        """The block that `extract` prints."""
        lines = [of_table.text() for of_table in self.understood]
        return "\n".join([*lines, *(one_line(f"not used: {line}") for line in self.unused)])

    def as_json(self, *, with_rows: bool = False) -> dict[str, Any]:
        """The same for programs: `tables` and `not_used`; optionally with the tables' rows."""
        tables = []
        for of_table in self.understood:
            content = of_table.as_json()
            if with_rows:
                content |= _rows(self.tables[of_table.split])
            tables.append(content)
        return {"tables": tables, "not_used": self.unused}


def _rows(table: Table) -> dict[str, Any]:
    captions = [
        [text for text in texts if text] for texts in zip(table.captions, *table.more_captions, strict=True)
    ]
    rows = {"ids": table.ids, "labels": table.labels, "captions": captions, "images": table.images}
    return rows | ({"unknown": table.unknown} if table.unknown else {})


def describe(rows: SplitRows, table: Table) -> Understanding:
    """What was decided about a table."""
    decisions = {}
    if len(rows.files) > 1:
        decisions["files"] = f"{len(rows.files)}, {_listed([path.name for path in rows.files])}"
    decisions |= {
        "ids": _ids(rows),
        "images": _images(rows, table),
        "captions": _captions(rows, table),
        "labels": labels_text(rows, table),
    }
    if table.unknown:
        decisions["unknown labels"] = unknown_text(rows, table)
    if rows.notes.get("rows"):
        decisions["rows"] = "; ".join(rows.notes["rows"])
    if rows.columns:
        names = _listed(list(rows.columns))
        decisions["other columns"] = f"{names}: kept, for splits, groups and features (column:NAME)"
    if rows.unused:
        decisions["not used"] = f"the columns {_listed(rows.unused)}"
    return Understanding(table.source, table.split, len(table), decisions)


def _from(rows: SplitRows, role: str, names: Sequence[str | None]) -> str:
    columns = [name for name in names if name is not None]
    if not columns:
        return ""
    reason = rows.choice.reasons.get(role, "")
    return f"column{'s' * (len(columns) > 1)} {_listed(columns)}" + (f" ({reason})" if reason else "")


def _ids(rows: SplitRows) -> str:
    if column := _from(rows, "id", [rows.choice.roles.id]):
        return column
    if notes := rows.notes.get("id"):
        return "; ".join(notes)
    return "the rows' numbers" if rows.choice.roles.image is None else "the names of the images"


def _images(rows: SplitRows, table: Table) -> str:
    missing = rows.without_image
    if missing is None or missing == len(table):
        others = _listed(rows.choice.image_columns)
        return f"none (--image-column may name {others})" if others else "none"
    chosen = _from(rows, "image", [rows.choice.roles.image]) or "the ids are their names"
    return f"{chosen}: {len(table) - missing} found, {missing} missing"


def _captions(rows: SplitRows, table: Table) -> str:
    number = sum(bool(text) for column in (table.captions, *table.more_captions) for text in column)
    if not rows.choice.roles.captions:
        return "none (--caption-column names a column)" if not number else _count(number, "caption")
    without = sum(not text for text in table.captions)
    parts = [f"{_from(rows, 'captions', rows.choice.roles.captions)}: {_count(number, 'caption')}"]
    if table.more_captions:
        parts.append(f"{number / len(table):.1f} a row")
    if without:
        parts.append(f"{_count(without, 'row')} without")
    return "; ".join([", ".join(parts), *rows.notes.get("captions", [])])


def labels_text(rows: SplitRows, table: Table) -> str:
    """How the labels of a table were read, and how many classes there are."""
    if table.labels is None:
        hints = "; ".join(rows.choice.hints)
        others = f"; not used as labels: {_listed(list(rows.columns))}" if rows.columns and not hints else ""
        return f"none (--label-column names a column{others}{'; ' + hints if hints else ''})"
    classes = sorted({name for names in table.labels for name in names})
    number = sum(map(len, table.labels))
    without = sum(not names for names in table.labels)
    parts = [
        f"{_count(len(classes), 'class', 'classes')} ({_listed(classes)})",
        f"{number / len(table):.1f} a row",
        f"{_count(without, 'row')} without",
    ]
    notes = rows.notes.get("labels", [])
    return "; ".join([f"{_from(rows, 'labels', rows.choice.roles.labels)}: {', '.join(parts)}", *notes])


def unknown_text(rows: SplitRows, table: Table) -> str:
    """How many entries are unknown, and of which classes."""
    classes = {name for names in table.labels or () for name in names}
    counts = Counter(name for names in table.unknown for name in names)
    entries = len(table) * len(classes | counts.keys())
    listed = _listed([f"{name} {number:,}" for name, number in counts.most_common()])
    column = _from(rows, "unknown", [rows.choice.roles.unknown])
    total = f"{counts.total():,} of {entries:,} entries are unknown: {listed}"
    return f"{column}: {total}" if column else total


def _count(number: int, noun: str, plural: str = "") -> str:
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def _listed(names: Sequence[str]) -> str:
    return short_list([name[:40] for name in names], MOST)
