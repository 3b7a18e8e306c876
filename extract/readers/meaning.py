"""Decide what the columns of a raw table mean: its ids, images, captions and labels."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from encode_once.cache.errors import DataError, brief
from encode_once.extract.images.formats import is_image_name
from encode_once.extract.readers.cells import captions_of, image_name, text_of
from encode_once.extract.readers.column_names import plain_name
from encode_once.extract.readers.columns import Choice, choose
from encode_once.extract.readers.joining import joined
from encode_once.extract.readers.label_notation import (
    EVERY,
    ClassNamesNeededError,
    LabelColumn,
    Labels,
    read_labels,
)
from encode_once.extract.readers.label_values import strings_in
from encode_once.extract.readers.literals import PAIRS, literal
from encode_once.extract.readers.missing import MISSING, is_missing
from encode_once.extract.readers.one_hot import foreign, read_one_hot
from encode_once.extract.readers.options import ParsedOptions
from encode_once.extract.readers.raw import Cells, RawTable
from encode_once.extract.readers.split_rows import SplitRows

Cell = TypeVar("Cell")


class UnknownColumnsError(DataError):
    """A table has no column of a known name."""


def understood(
    table: RawTable, options: ParsedOptions, train: Choice | None = None, before: Choice | None = None
) -> SplitRows:
    """The rows of a table by the meaning of its columns.

    Args:
        train: the columns of the data's train table, if this is another split.
        before: the columns of the pieces before, if it is a piece of a table.

    Raises:
        UsageError: the user's names do not fit, or several columns have names of one meaning.
        UnknownColumnsError: no column has a known name.
        DataError: the table has no rows, or a cell that its column does not allow.
    """
    return _Reading(table, options, before or choice_of(table, options, train)).rows()


def choice_of(table: RawTable, options: ParsedOptions, train: Choice | None = None) -> Choice:
    """The columns of a table; arguments and errors as in `understood`."""
    if not table.n_rows:
        raise DataError(f"{table.files[0]}: the table has no rows")
    choice = choose(table, options.columns, train, options.unknown, options.label_sets)
    if looks_like_row := next(filter(is_image_name, table.column_names), None):
        raise UnknownColumnsError(
            f"{table.files[0]}: the first line is no header, as it has {brief(repr(looks_like_row))}: add "
            "one such as image,labels,caption"
        )
    if not choice.roles.used:
        _refuse_unknown(table, choice)
    return choice


def _refuse_unknown(table: RawTable, choice: Choice) -> None:
    names = ", ".join(table.column_names[:4])[:80]
    hint = f"; {choice.hints[0]}" if choice.hints else ""
    raise UnknownColumnsError(
        f"{table.files[0]}: no column has a known name, of {names}; if the first line is no header, add one "
        f"such as id,labels,caption; else use --caption-column, --label-column or --image-column{hint}"
    )


class _Reading:
    """The rows of a table as its chosen columns say."""

    def __init__(self, table: RawTable, options: ParsedOptions, choice: Choice) -> None:
        self.table, self.options, self.choice, self.roles = table, options, choice, choice.roles
        self.bad: set[int] = set()  # rows with a cell that its column does not allow
        self.left_out: set[int] = set()  # rows with a cell of -1, if such rows are to be left out
        self.unknown: list[tuple[Labels, ...]] = []  # each row's cells of unknown labels, if there are any
        self.notes: dict[str, list[str]] = {"captions": [], "labels": []}
        self.formats: dict[str, str] = {}  # as in `SplitRows`
        self.warnings = [*table.warnings]

    def rows(self) -> SplitRows:
        """The rows; those with one image are joined."""
        table, roles = self.table, self.roles
        embedded = roles.image in table.sources
        names = self._column(roles.image, text_of) if roles.image else None
        if names and not embedded:
            names = list(map(image_name, names))
        if roles.id:
            ids = self._column(roles.id, text_of)
        elif embedded:
            ids = self._file_names(table.sources[str(roles.image)]())
        else:
            ids = names or self._numbers()
        others = [name for name in table.plain if name not in roles.used and name not in table.sources]
        rows = SplitRows(
            files=table.files,
            split=table.split,
            where=table.where,
            ids=ids,
            captions=self._captions(),
            labels=self._labels(),
            id_column=roles.id or (roles.image if not embedded and roles.image else "ImageID"),
            columns={name: self._column(name, text_of) for name in others},
            warnings=self.warnings,
            choice=self.choice,
            notes=self.notes,
            unknown=self.unknown or None,
            unused=[name for name in table.column_names if name not in {*roles.used, *others}],
            formats=self.formats,
        )
        if embedded:
            rows.images = names
        elif roles.image or roles.id:
            rows.image_names, rows.folders = names, table.folders
        if excluded := self.bad | self.left_out:
            rows = rows.without(excluded)
        if (roles.id and not table.roles.id) or (names and not embedded):
            rows = joined(rows)
        return rows

    def _numbers(self) -> list[str]:
        return list(map(str, range(self.table.first_row, self.table.first_row + self.table.n_rows)))

    def _file_names(self, paths: Sequence[object]) -> list[str]:
        """Ids of embedded images: their file names if complete and unique, else row numbers."""
        if self.table.is_piece:
            self.notes["id"] = ["the rows' numbers, as the table is read in pieces (--id-column)"]
            return self._numbers()
        names = [Path(path).name if path and isinstance(path, str) else "" for path in paths]
        if all(names) and len({*names}) == len(names):
            self.notes["id"] = ["the names of the images"]
            return names
        if all(names):
            repeated, number = Counter(names).most_common(1)[0]
            reason = f"of the images' names, {repeated!r} is in {number} rows"
        else:
            reason = f"{names.count('')} images have no name"
        self.notes["id"] = [f"the rows' numbers, as {reason}"]
        return self._numbers()

    def _column(self, name: str, convert: Callable[[Any], Cell]) -> list[Cell]:
        """The cells of a column, converted; those of bad rows as if they were empty.

        Raises:
            DataError: a row is bad, and bad rows are not left out.
        """
        cells = self.table.read(name)
        if convert is text_of and set(map(type, cells)) == {str}:
            return list(cells)
        converted = []
        for row, cell in enumerate(cells):
            try:
                converted.append(convert(cell))
            except DataError as error:
                self._add_bad(row, name, str(error))
                converted.append(convert(None))
        return converted

    def _add_bad(self, row: int, name: str, problem: str) -> None:
        if row not in self.bad:
            self.options.bad_rows.add(DataError(f"{self.table.where(row)}: the column {name!r} {problem}"))
        self.bad.add(row)

    # ---------------------------------------------------------------------------------------- captions

    def _captions(self) -> list[tuple[str, ...]] | None:
        if not self.roles.captions:
            return None
        columns = [self._caption_column(name) for name in self.roles.captions]
        return columns[0] if len(columns) == 1 else [sum(cells, ()) for cells in zip(*columns, strict=True)]

    def _caption_column(self, name: str) -> list[tuple[str, ...]]:
        cells = self.table.read(name)
        lists = _lists_of_captions(cells)
        if lists:
            self.notes["captions"].append(f"cells of {name} are lists of captions")
        if any(isinstance(cell, str) and cell.strip() for cell in cells):
            self.formats[name] = "lists of captions" if lists else "captions"

        def convert(cell: Any) -> tuple[str, ...]:
            return captions_of(
                strings_in(literal(cell)) if lists and isinstance(cell, str) and cell else cell
            )

        are_texts = not lists and set(map(type, cells)) == {str}
        captions: list[tuple[str, ...]]
        captions = [(cell,) for cell in cells] if are_texts else self._column(name, convert)
        if self.options.keep_text or (are_texts and MISSING.isdisjoint(map(str.strip, cells))):
            return captions
        gone = 0
        for row, texts in enumerate(captions):
            if any(text.strip() and is_missing(text) for text in texts):
                captions[row] = tuple(text for text in texts if not is_missing(text))
                gone += 1
        if gone:
            self.notes["captions"].append(
                f"{gone} cells such as nan, None or [] in {name} are no captions (--keep-text keeps them)"
            )
        return captions

    # ------------------------------------------------------------------------------------------ labels

    def _labels(self) -> list[tuple[Labels, ...]] | None:
        """Of each row, the label cells, or the labels of all classes; None if there is no such column."""
        names = self.roles.labels
        if not names:
            return None
        if self.choice.one_hot:
            columns = [self._one_hot({name: self.table.read(name) for name in names})]
        else:
            columns = self._label_columns(names)
        if self.roles.unknown:
            marks = [mark for mark in self.options.unknown if not is_missing(mark)]
            listed = self._label_column(self.roles.unknown, marks)
            self._add_unknown(listed.labels)
            self._add_every(listed.marked)
        return list(zip(*columns, strict=True))

    def _label_columns(self, names: Sequence[str]) -> list[Sequence[Labels]]:
        """The cells of columns of names."""
        read = [self._label_column(name, self.options.unknown) for name in names]
        # A row may fill some columns only: it is unknown if all are blank, or one is marked.
        blank = set.intersection(*({*column.marked, *column.marked_blank} for column in read))
        rows = sorted(blank.union(*(column.marked for column in read)))
        self._add_every(rows)
        if rows:
            self.notes["labels"].append(
                f"{len(rows)} rows are marked as unknown (--unknown): all of their classes are"
            )
        for row in self._verified_absent():
            for column in read:
                column.labels[row] = ()
        return [column.labels for column in read]

    def _add_every(self, rows: Sequence[int]) -> None:
        """Mark all classes of these rows as unknown."""
        marked = {*rows}
        if marked:
            self._add_unknown([EVERY if row in marked else () for row in range(self.table.n_rows)])

    def _add_unknown(self, labels: Sequence[Labels]) -> None:
        """Add a cell of unknown labels to each row."""
        before = self.unknown or [()] * self.table.n_rows
        self.unknown = [(*cells, more) for cells, more in zip(before, labels, strict=True)]

    def _one_hot(self, columns: dict[str, Cells]) -> Sequence[Labels]:
        notes = self.notes["labels"]
        if unlabelled := [name for name in columns if is_missing(name)]:
            columns = {name: cells for name, cells in columns.items() if name not in unlabelled}
            notes.append(f"{', '.join(unlabelled)} is no class, but says that a row has none")
        self._add_foreign(columns)
        read = read_one_hot(columns, self.options.uncertain, self.options.unknown)
        if len(columns) == 1:
            (name,) = columns
            notes.append(
                f"0 and 1 say whether a row is {name}, one class; in a column named label they are names"
            )
        else:
            notes.append(f"one column for each of {len(columns)} classes")
        if read.unknown:
            self.unknown = list(zip(read.unknown, strict=True))
        if read.blanks:
            notes.append(f"{read.blanks} blank cells are negative")
        if read.omitted:
            self.warnings.append(
                f"{read.omitted:,} of {self.table.n_rows * len(columns):,} label entries are blank, in "
                "columns that say 0 or no in other rows; they are negative: extract --unknown blank "
                "reads them as unknown"
            )
        self._report_uncertain(read.uncertain)
        if read.minus_one:
            self.formats["-1"] = "uncertain" if read.uncertain else "negative"
        if read.minus_one and not read.uncertain:
            notes.append("-1 is negative")
        return read.labels

    def _add_foreign(self, columns: dict[str, Cells]) -> None:
        """Rows are bad whose cell says neither yes nor no."""
        for name, cells in columns.items():
            if others := foreign(cells, name, self.options.unknown):
                for row, cell in enumerate(cells):
                    if cell in others:
                        self._add_bad(
                            row, name, f"has {brief(repr(cell))}, where classes have 0, 1 or the like"
                        )

    def _report_uncertain(self, rows: Sequence[int]) -> None:
        """Report rows with -1 where others have 0, which are left out if they are to be."""
        if not rows:
            return
        left_out = self.options.uncertain == "missing"
        meaning = "left out" if left_out else self.options.uncertain
        self.notes["labels"].append(f"{len(rows)} rows with -1, uncertain, are {meaning} there (--uncertain)")
        self.warnings.append(
            f"rows with an uncertain label, -1: {len(rows)} (first: {self.table.where(rows[0])}); "
            f"{'such rows are' if left_out else 'it is'} {meaning}: --uncertain unknown, positive, negative "
            "or missing"
        )
        if left_out:
            self.left_out.update(rows)

    def _label_column(self, name: str, marks: Sequence[str]) -> LabelColumn:
        options = self.options
        try:
            column = read_labels(
                self.table.read(name), options.classes, options.keep_text, options.uncertain, marks
            )
        except ClassNamesNeededError as error:
            raise DataError(f"{self.table.files[0]}: in the column {name!r}, {error}") from error
        except DataError as error:
            raise DataError(f"{self.table.files[0]}, column {name!r}: {error}") from error
        for row, problem in column.bad.items():
            self._add_bad(row, name, problem)
        self._report_uncertain(column.uncertain)
        if column.unknown:
            self._add_unknown(column.unknown)
        notes = self.notes["labels"]
        if any(column.labels):
            self.formats[name] = column.notation or "names"
        if column.notation:
            notes.append(column.notation + (f", such as {column.example[:60]}" if column.example else ""))
        if column.missing:
            notes.append(
                f"{column.missing} cells such as nan, None or [] are no labels (--keep-text keeps them)"
            )
        if column.odd:
            self.warnings.append(
                f"{column.oddity}: {len(column.odd)} (first: {self.table.where(column.odd[0])})"
            )
        return column

    def _verified_absent(self) -> list[int]:
        """Rows that say that their label is absent: with Confidence 0, as Open Images has it."""
        names = [name for name in self.table.plain if plain_name(name) == "confidence"]
        if not names or self.table.roles.labels:
            return []
        cells = self._column(names[0], text_of)
        rows = [row for row, cell in enumerate(cells) if cell.strip() in {"0", "0.0"}]
        if rows:
            self.notes["labels"].append(f"{len(rows)} rows with {names[0]} 0 say that their label is absent")
        return rows


def _lists_of_captions(cells: Cells) -> bool:
    """Whether all texts of a column are lists of texts."""
    texts = [cell for cell in cells if isinstance(cell, str) and not is_missing(cell)]
    return (
        bool(texts)
        and texts[0].strip()[:1] in PAIRS
        and all(text.strip()[:1] in PAIRS and strings_in(literal(text)) is not None for text in texts)
        and any(literal(text) for text in texts)
    )
