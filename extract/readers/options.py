"""The user's options for reading."""

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from encode_once.cache.errors import UsageError, unknown_name
from encode_once.extract.readers.bad_rows import BadRows
from encode_once.extract.readers.one_hot import Uncertain

ROLES = ("id", "image", "captions", "labels", "unknown")


@dataclass(frozen=True)
class ImageFolder:
    """A folder that the user names with --images: for one split, or, without a name, for all."""

    path: Path
    split: str | None = None

    @classmethod
    def parse(cls, text: str) -> "ImageFolder":
        """Parse `DIR` or `SPLIT=DIR`; a folder whose name contains `=` is one."""
        split, equals, path = text.partition("=")
        if not equals or Path(text).is_dir() or "/" in split:
            return cls(Path(text))
        return cls(Path(path), split)


def _check_lists(options: object, *names: str) -> None:
    """Refuse a text, whose letters would be taken for several, and None.

    Raises:
        UsageError: a field of the options has such a value.
    """
    for name in names:
        value = getattr(options, name)
        if isinstance(value, str):
            raise UsageError(f"{name} is the text {value!r}: pass a list of texts")
        if not isinstance(value, Collection):
            raise UsageError(f"{name} is {value!r}: pass a list of texts")


@dataclass(frozen=True)
class Columns:
    """The names of a table's columns; those that are not set are guessed.

    `labels` are one column, or several: one for each class, or for each label of a row. Each may also be a
    list `A,B,C` or a range `A:Z` in the table's order. `unknown` lists labels that a row may or may not have;
    "": there is no such column.

    Raises:
        UsageError: captions or labels are a text, or None, instead of a list of texts.
    """

    id: str | None = None
    image: str | None = None
    captions: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    unknown: str | None = None
    preferred: bool = False  # whether names that a table does not have are ignored, as those of a run's data

    def __post_init__(self) -> None:
        _check_lists(self, "captions", "labels")

    @classmethod
    def preferring(cls, names: Mapping[str, Sequence[str]]) -> "Columns":
        """Preferred columns, from what `as_names` gave."""
        row_id, image, captions, labels, unknown = (tuple(names.get(role, ())) for role in ROLES)
        single = [next(iter(of_role), None) for of_role in (row_id, image, unknown)]
        return cls(single[0], single[1], captions, labels, single[2], preferred=True)

    def as_names(self) -> dict[str, list[str]]:
        """Role → the names that are set."""
        names: dict[str, Sequence[str | None]] = {
            "id": [self.id],
            "image": [self.image],
            "captions": self.captions,
            "labels": self.labels,
            "unknown": [self.unknown],
        }
        is_set = {role: [name for name in of_role if name is not None] for role, of_role in names.items()}
        return {role: of_role for role, of_role in is_set.items() if of_role}

    @property
    def named(self) -> bool:
        """Whether the user set any name."""
        return self != Columns() and not self.preferred

    def present(self, names: Collection[str]) -> "Columns":
        """The same without preferred names that a table does not have."""
        if not self.preferred:
            return self
        parts = [part for name in self.labels for part in re.split("[,:]", name)]
        has_labels = all(part in names for part in parts) or all(name in names for name in self.labels)
        return Columns(
            self.id if self.id in names else None,
            self.image if self.image in names else None,
            tuple(name for name in self.captions if name in names),
            self.labels if has_labels else (),
            self.unknown if self.unknown in ("", *names) else None,
        )


@dataclass(frozen=True)
class ReadOptions:
    """How data are read: which columns mean what, where images are, and what labels are.

    Attributes:
        columns: names of a table's columns; those that are not set are guessed.
        images: the folder of the images, or several, each as `DIR` or `SPLIT=DIR`, or URLs; by default
            images are looked for in the data folder.
        label_separator: between the labels of a row; by default it is inferred from the labels.
        classes: the class names, if labels are vectors of 0 and 1.
        uncertain: what -1 means in columns of 1, 0 and -1, one for each class; by default "unknown".
            "missing" leaves such rows out.
        unknown: marks of unknown labels: cells such as "NA", "blank" for those without content, and what
            precedes the name of a label in lists, such as "?". Where a cell may hold several names, all
            classes of a marked row are unknown.
        keep_text: keep None, nan and the like as captions and labels.
        skip_bad_rows: leave out rows that cannot be read, with a warning; by default they are an error.
        label_sets: further labels of the rows, for `fit` to choose from, each as `NAME=COLUMNS`, see
            `label_sets.NamedColumns.parse`.
        corrections: a file of corrections of labels, see `readers.corrections`.
        allow_urls: URLs below which images are fetched that a table names by URLs, in addition to those of
            the data and the images.

    Raises:
        UsageError: `uncertain` has another meaning, a mark is empty, or a field has a value of another type.
    """

    columns: Columns = field(default_factory=Columns)
    images: str | os.PathLike[str] | Sequence[str] | None = None
    label_separator: str | None = None
    classes: Sequence[str] = ()
    uncertain: Uncertain | None = None
    unknown: Sequence[str] = ()
    keep_text: bool = False
    skip_bad_rows: bool = False
    label_sets: Sequence[str] = ()
    corrections: str | os.PathLike[str] | None = None
    allow_urls: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.columns, Columns):
            raise UsageError(f"columns is {self.columns!r}: pass Columns(…)")
        _check_lists(self, "classes", "unknown", "label_sets", "allow_urls")
        if self.uncertain is not None and self.uncertain not in get_args(Uncertain):
            raise unknown_name("meaning of -1", str(self.uncertain), get_args(Uncertain))
        if not all(map(str.strip, self.unknown)):
            raise UsageError("unknown has an empty mark: blank cells are marked by the word blank")

    @property
    def changes_labels(self) -> bool:
        """Whether any option changes labels: then a table is worth reading without an encoder."""
        options = self.corrections, self.unknown, self.uncertain, self.label_separator, self.classes
        return bool(self.columns.labels or self.columns.unknown or self.label_sets or any(options))


@dataclass(frozen=True)
class ParsedOptions:
    """`ReadOptions` as the containers take them.

    `images` are the folders that image names are relative to; by default they are searched next to the table.
    `unknown` are marks without spaces around them, of cells in columns of 0 and 1, `BLANK` for blank ones. In
    lists of labels, a mark precedes the name of an unknown one; alone, it means every class of the row.
    `bad_rows` decides what happens to rows that cannot be read.
    `label_sets` are columns of label sets: where several have names of labels, the others are the labels.
    """

    columns: Columns = field(default_factory=Columns)
    images: tuple[ImageFolder, ...] = ()
    classes: tuple[str, ...] = ()
    uncertain: Uncertain = "unknown"
    unknown: tuple[str, ...] = ()
    keep_text: bool = False
    bad_rows: BadRows = field(default_factory=BadRows)
    label_sets: tuple[str, ...] = ()
