"""Which columns hold the ids, images, captions and labels.

Columns are chosen by the user, by what the format says, by their names, or, for labels in one column for each
class, by their cells. Each choice has a reason, which `extract` prints.
"""

import re
import string
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from encode_once.cache.errors import DataError, UsageError, unknown_name
from encode_once.cache.terminal import short_list
from encode_once.extract.images.formats import is_image_name
from encode_once.extract.readers.cells import image_name
from encode_once.extract.readers.column_names import (
    ABOUT_SAMPLES,
    CAPTION_ENDS,
    CAPTIONS,
    IDS,
    IMAGES,
    LABEL_ENDS,
    LABELS,
    PERHAPS_CAPTIONS,
    PERHAPS_LABELS,
    UNKNOWN_LABELS,
    plain_name,
)
from encode_once.extract.readers.label_values import names_in
from encode_once.extract.readers.one_hot import distinct, is_binary, is_one_class
from encode_once.extract.readers.options import Columns
from encode_once.extract.readers.raw import RawTable, Roles

FEW_LABELS = 0.5  # the most different words of a column of labels, as a share of all its words
WORDS = re.compile(r"[^\s|;,/&+<>\[\]'\"]+")
SAMPLE = 1000  # rows that show whether a column fits its name
RUN = 3  # neighbouring columns of 0 and 1 that look like classes


@dataclass(frozen=True)
class Choice:
    """The columns of each role, why they were chosen, and what else may be of use."""

    roles: Roles
    reasons: dict[str, str]  # role, see `options.ROLES` → why
    one_hot: bool = False  # whether each column of the labels is a class
    hints: tuple[str, ...] = ()  # columns that may be labels, and the option that reads them
    image_columns: tuple[str, ...] = ()  # whose cells are names of image files, and which are not chosen


def choose(
    table: RawTable,
    columns: Columns,
    train: Choice | None = None,
    marks: Collection[str] = (),
    label_sets: Sequence[str] = (),
) -> Choice:
    """Find the columns by the user's names, by what the format says, or by common names.

    Columns that hold the images themselves take precedence over those that name image files. A table that has
    all columns of the data's labelled train table, in `train`, is read as that. Cells of the `marks` are
    unknown labels in columns that are classes. Columns of `label_sets` are no labels if others may be.

    Raises:
        UsageError: the table has no column of the user's name, or several have a common name.
        DataError: a column of texts holds bytes.
    """
    if train and train.roles.labels and train.roles.used <= {*table.column_names} and table.roles == Roles():
        return train
    if train:  # which has the user's columns; a test table may lack those of the labels
        columns = replace(columns, preferred=True)
    return _Chooser(table, columns, marks, label_sets).choice()


class _Chooser:
    def __init__(
        self, table: RawTable, columns: Columns, marks: Collection[str], label_sets: Sequence[str]
    ) -> None:
        self.marks, self.label_sets = marks, label_sets
        self.table, self.columns, self.path = table, columns.present(table.column_names), table.files[0]
        self.free = [name for name in table.column_names if name not in table.roles.used]
        self.reasons: dict[str, str] = {}

    def choice(self) -> Choice:
        """All roles."""
        fixed, columns = self.table.roles, self.columns
        image = None
        if columns.image is None and fixed.image is None:
            image = self._guess("image", IMAGES, self.table.sources)
        image = image or self._single("image", columns.image, fixed.image, IMAGES)
        row_id = self._single("id", columns.id, fixed.id, IDS)
        file_columns = [
            name for name in self.free if name not in (image, row_id) and self._names_images(name)
        ]
        if row_id is None and image is None and len(file_columns) == 1:
            self.reasons["image"] = "its cells are names of image files"
            image = file_columns.pop()
        if row_id is None and image is None:
            row_id = self._ending("id", ("id",), self._is_unique)
        captions = self._captions(columns.captions, fixed.captions)
        unknown = self._unknown()
        rest = [name for name in self.free if name not in {row_id, image, *captions, unknown}]
        labels, one_hot, hints = self._labels(rest)
        roles = Roles(row_id, image, captions, labels, unknown if labels else None)
        for name in (row_id, *captions, *labels, roles.unknown):
            if name in self.table.sources:
                raise DataError(f"{self.path}: the column {name!r} holds bytes or images; save it as strings")
        return Choice(roles, self.reasons, one_hot, hints, tuple(file_columns))

    def _named(self, name: str) -> str:
        if name not in self.table.column_names:
            raise unknown_name(f"column of {self.path}", name, self.table.column_names)
        return name

    def _single(self, role: str, chosen: str | None, of_format: str | None, common: str) -> str | None:
        if chosen is not None:
            self.reasons[role] = f"--{role}-column"
            return self._named(chosen)
        if of_format is not None:
            self.reasons[role] = "by the format"
            return of_format
        return self._guess(role, common, self.free)

    def _guess(self, role: str, common: str, candidates: Iterable[str]) -> str | None:
        matches = [name for name in candidates if plain_name(name) in common.split()]
        if len(matches) > 1:
            raise _ambiguous(self.path, matches, f"--{role}-column")
        if matches:
            self.reasons[role] = "by its name"
        return matches[0] if matches else None

    def _captions(self, chosen: Sequence[str], of_format: tuple[str, ...]) -> tuple[str, ...]:
        if chosen:
            self.reasons["captions"] = "--caption-column"
            return tuple(map(self._named, chosen))
        if of_format:
            self.reasons["captions"] = "by the format"
            return of_format
        names = self._numbered(CAPTIONS, "--caption-column")
        names = names or self._numbered(PERHAPS_CAPTIONS, "--caption-column", self._has_sentences)
        if not names and (ending := self._ending("captions", CAPTION_ENDS, self._has_sentences)):
            return (ending,)
        if names:
            self.reasons["captions"] = "by its name"
        return tuple(names)

    def _ending(self, role: str, ends: tuple[str, ...], fits: Callable[[str], bool]) -> str | None:
        """The only column whose name ends so, and whose cells fit."""
        matches = [name for name in self.free if plain_name(name).endswith(ends) and fits(name)]
        if len(matches) != 1:
            return None
        self.reasons[role] = "by the end of its name and its cells"
        return matches[0]

    def _is_unique(self, name: str) -> bool:
        if name not in self.table.plain or name in self.table.sources:
            return False
        cells = self.table.read(name)
        return len(set(cells)) == len(cells) and all(cell not in (None, "") for cell in cells)

    def _numbered(
        self, common: str, option: str, fits: Callable[[str], bool] = lambda name: True
    ) -> list[str]:
        """The columns of a common name, or of one with numbers, in the order of the numbers."""
        numbered = []
        for name in self.free:
            plain = plain_name(name)
            word = plain.rstrip(string.digits)
            if word in common.split() and fits(name):
                numbered.append((word, int(plain.removeprefix(word) or 0), name))
        if len({word for word, _, _ in numbered}) > 1 and option == "--label-column":
            numbered = [column for column in numbered if column[2] not in self.label_sets] or numbered
        if len({word for word, _, _ in numbered}) > 1:
            raise _ambiguous(self.path, [name for _, _, name in numbered], option)
        return [name for _, _, name in sorted(numbered)]

    # ------------------------------------------------------------------------------------------- labels

    def _unknown(self) -> str | None:
        """The column that lists each row's unknown labels."""
        if self.columns.unknown == "":
            return None
        if self.columns.unknown is not None:
            self.reasons["unknown"] = "--unknown-column"
            return self._named(self.columns.unknown)
        matches = [name for name in self.free if plain_name(name) in UNKNOWN_LABELS.split()]
        if len(matches) > 1:
            raise _ambiguous(self.path, matches, "--unknown-column")
        self.reasons["unknown"] = "by its name"
        return matches[0] if matches else None

    def _labels(self, rest: list[str]) -> tuple[tuple[str, ...], bool, tuple[str, ...]]:
        """The columns of labels, whether each is a class, and hints at columns that may be labels."""
        if self.columns.labels:
            labels = [*dict.fromkeys(n for name in self.columns.labels for n in self._expanded(name))]
            self.reasons["labels"] = "--label-column"
            return tuple(labels), self._mostly_one_hot(labels) or self._is_one_class(labels), ()
        if self.table.roles.labels:
            self.reasons["labels"] = "by the format"
            return self.table.roles.labels, False, ()
        free, self.free = self.free, rest
        labels = self._numbered(LABELS, "--label-column")
        labels = labels or self._numbered(PERHAPS_LABELS, "--label-column", self._recurs)
        if not labels and (ending := self._ending("labels", LABEL_ENDS, self._recurs)):
            labels = [ending]
        self.free = free
        if labels:
            self.reasons["labels"] = "by its name" if len(labels) == 1 else "by their names"
            return tuple(labels), len(labels) > 1 and self._one_hot(labels), ()
        rest = [name for name in rest if not _describes(name) and not self._is_empty(name)]
        if len(rest) > 1 and self._one_hot(rest):
            self.reasons["labels"] = "all other columns hold only 0 and 1, or the like"
            return tuple(rest), True, ()
        return (), False, self._hints(rest)

    def _expanded(self, name: str) -> list[str]:
        """The columns that a name, a list or a range means."""
        names = self.table.column_names
        if name in names:
            return [name]
        if "," in name:
            return [
                column for part in name.split(",") if part.strip() for column in self._expanded(part.strip())
            ]
        for at in (i for i, character in enumerate(name) if character == ":"):
            first, last = name[:at], name[at + 1 :]
            if first in names and last in names:
                return names[names.index(first) : names.index(last) + 1]
        return [self._named(name)]

    def _one_hot(self, names: Sequence[str]) -> bool:
        return len(names) > 1 and all(map(self._is_binary, names))

    def _mostly_one_hot(self, names: Sequence[str]) -> bool:
        """Whether most columns are binary: a cell of the others that is not is then an error, not a name."""
        binary = sum(map(self._is_binary, names))
        return len(names) > 1 and 2 * binary > len(names)

    def _is_one_class(self, names: Sequence[str]) -> bool:
        """Whether it is a single column of 0 and 1 named as a class; in `label`, they are names."""
        if len(names) != 1 or names[0] not in self.table.plain:
            return False
        word = plain_name(names[0]).rstrip(string.digits)
        is_of_names = word in LABELS.split() or word in PERHAPS_LABELS.split()
        return not is_of_names and is_one_class(self.table.read(names[0]), names[0], self.marks)

    def _is_binary(self, name: str) -> bool:
        return name in self.table.plain and is_binary(self.table.read(name), name, self.marks)

    def _hints(self, rest: list[str]) -> tuple[str, ...]:
        binary = [name for name in rest if name not in self.table.sources and self._is_binary(name)]
        if len(binary) >= RUN:
            first, last = binary[0], binary[-1]
            names = self.table.column_names
            is_range = names[names.index(first) : names.index(last) + 1] == binary
            option = f"{first}:{last}" if is_range else ",".join(binary)
            return (f"{short_list(binary, 4)} may be classes: --label-columns '{option}' reads them",)
        return ()

    def _is_empty(self, name: str) -> bool:
        values = distinct(self.table.read(name)) if name in self.table.plain else None
        return values is not None and not any(str(v).strip() for v in values if v is not None)

    def _sample(self, name: str) -> list[object]:
        return [cell for cell in self.table.read(name)[:SAMPLE] if cell not in (None, "")]

    def _recurs(self, name: str) -> bool:
        """Whether a column holds lists, or texts or numbers whose words recur as labels do."""
        if name in self.table.sources or self._is_empty(name):
            return False
        sample = self._sample(name)
        if nested := [cell for cell in sample if isinstance(cell, list | dict)]:
            return any(names_in(cell) is not None for cell in nested)
        words = [word for cell in sample for word in WORDS.findall(str(cell))]
        return len(set(words)) <= max(FEW_LABELS * len(words), 1)

    def _names_images(self, name: str) -> bool:
        if name not in self.table.plain or name in self.table.sources or is_image_name(name):
            return False
        sample = self._sample(name)
        return bool(sample) and all(isinstance(c, str) and is_image_name(image_name(c)) for c in sample)

    def _has_sentences(self, name: str) -> bool:
        if name in self.table.sources:
            return False
        texts = [cell for cell in self._sample(name) if isinstance(cell, str)]
        return 2 * sum(len(text.split()) > 1 for text in texts) > len(texts)


def _describes(name: str) -> bool:
    """Whether a column of this name describes samples, and so is no class."""
    return plain_name(name) in ABOUT_SAMPLES.split() or plain_name(name).rstrip(string.digits) in {
        "id",
        "split",
    }


def _ambiguous(path: Path, names: Sequence[str], option: str) -> UsageError:
    return UsageError(
        f"{path}: the columns {' and '.join(map(repr, names))} have equivalent names; choose with {option}"
    )
