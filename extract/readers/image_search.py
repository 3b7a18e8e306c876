"""Look for image files as a person would: in any folder, in another case or format, or without zeros.

A bare number or word, which may be no file's name at all, is looked for only in folders with a usual name.

Among the files of a name, that with the most folders of the reference wins (`C:\\photos\\dogs\\1.jpg` is
`dogs/1.jpg`), then that in a folder of the split's name, then that of the same format, then that of the exact
name, then that in a folder of a usual name. Two equally good ones are an error.
"""

import os
import posixpath
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from unicodedata import normalize

from encode_once.cache.errors import DataError
from encode_once.cache.terminal import short_list
from encode_once.extract.images.formats import IMAGE_SUFFIXES, SUFFIXES

FORMAT_OF = {suffix: name for name, suffixes in SUFFIXES.items() for suffix in suffixes}
IMAGE_FOLDERS = {
    "image",
    "images",
    "img",
    "imgs",
    "photo",
    "photos",
    "picture",
    "pictures",
    "jpegimages",
    "data",
}
SPLITS = (
    {"train", "training", "trainval"},
    {"val", "valid", "validation", "dev"},
    {"test", "testing"},
)
SPLIT_NAMES = set().union(*SPLITS)
LOOKED_AT = 100_000  # files
NAMED = 3  # equally good files that a message names


@dataclass(frozen=True)
class Guess:
    """The file that a reference probably means, and in what they differ."""

    path: str
    shown: str  # the path relative to the folder that was searched
    difference: str


@dataclass(frozen=True)
class _File:
    place: str  # its folder
    folder: str  # the same, relative to the folder that is searched
    name: str

    @property
    def shown(self) -> str:
        return posixpath.join(self.folder, self.name)

    def is_usual(self, split: str) -> bool:
        """Whether it is in no folder, or in one with a usual name or that of the split."""
        outermost = self.folder.partition("/")[0].lower()
        words = split_words(outermost)
        return not outermost or outermost in IMAGE_FOLDERS or bool(words & (split_words(split) | SPLIT_NAMES))


@dataclass(frozen=True)
class Reference:
    """The parts of a row's path that are compared."""

    text: str
    folders: tuple[str, ...]  # plain, the innermost first
    name: str
    stem: str  # plain
    suffix: str  # lower case; "" if the name has no suffix of an image
    number: int | None  # that the stem is
    places: frozenset[str]  # the only folders that the file may be in; empty for any

    @classmethod
    def of(cls, text: str, places: frozenset[str] = frozenset()) -> "Reference":
        """The parts of a path that may be written on any system."""
        *folders, name = posixpath.normpath(text.replace("\\", "/")).split("/")
        stem, suffix = posixpath.splitext(name)
        if suffix.lower() not in IMAGE_SUFFIXES:
            stem, suffix = name, ""
        plain = _plain(stem)
        return cls(
            text, tuple(map(_plain, reversed(folders))), name, plain, suffix.lower(), _number(plain), places
        )

    @property
    def is_bare(self) -> bool:
        """Whether it has neither folder nor suffix, so that it may be something else than a file's name."""
        return not self.folders and not self.suffix

    def fit(self, file: _File, split: str) -> tuple[int, ...]:
        """How well a file fits, greater is better."""
        folders = [part for part in file.folder.split("/") if part]
        common = 0
        for ours, theirs in zip(self.folders, map(_plain, reversed(folders)), strict=False):
            if ours != theirs:
                break
            common += 1
        words = split_words(file.folder)
        others = SPLIT_NAMES - split_words(split)
        suffix = posixpath.splitext(file.name)[1].lower()
        return (
            common,
            bool(words & split_words(split)) - bool(words & others),
            (suffix == self.suffix) + (FORMAT_OF.get(suffix) == FORMAT_OF.get(self.suffix, "")),
            file.name == self.name,
            any(part.lower() in IMAGE_FOLDERS for part in folders),
        )

    def difference(self, file: _File) -> str:
        """In what the file differs from the reference, as a message says it."""
        stem, suffix = posixpath.splitext(file.name)
        if _plain(stem) != self.stem:
            return "with other leading zeros"
        if self.suffix not in ("", suffix.lower()):
            return "with another suffix"
        name = file.name if self.suffix else stem
        if name != self.name:
            same = normalize("NFC", name) == normalize("NFC", self.name)
            return "in another Unicode form" if same else "in another case"
        return "in another folder"


class ImageSearch:
    """The image files in some folders and all folders in them; links and hidden folders are left out.

    chosen: whether the user names the folders, so that bare words may be in all folders in them.
    """

    def __init__(self, roots: Sequence[str], *, chosen: bool = False) -> None:
        self._roots, self._chosen = roots, chosen

    def guesses(
        self,
        references: Mapping[int, Reference],
        split: str,
        where: Callable[[int], str],
        used: Mapping[str, Collection[str]],
    ) -> dict[int, Guess]:
        """The files that references probably mean, by row; rows without such a file are left out.

        Args:
            references: by row. Only files that one of them may mean are held in memory.
            split: of the rows.
            where: a row's position, for messages.
            used: folder → paths of files in it that rows name, so that no other row means them.

        Raises:
            DataError: a reference means several files equally well, or several references one file.
        """
        if not references:
            return {}
        stems = {reference.stem for reference in references.values()}
        numbers = {reference.number for reference in references.values()} - {None}
        by_stem: dict[str, list[_File]] = {}
        by_number: dict[int, list[_File]] = {}
        for file in self._files():
            stem = _plain(posixpath.splitext(file.name)[0])
            if file.place in used and posixpath.join(file.place, file.name) in used[file.place]:
                continue
            if stem in stems:
                by_stem.setdefault(stem, []).append(file)
            elif (number := _number(stem)) in numbers and number is not None:
                by_number.setdefault(number, []).append(file)
        guesses: dict[int, Guess] = {}
        meant: dict[str, int] = {}  # path → the row that means it
        for row, reference in references.items():
            files = by_stem.get(reference.stem, [])
            if not files and reference.number is not None:
                files = by_number.get(reference.number, [])
            if files := [file for file in files if self._may_be(file, reference, split)]:
                file = _best(files, reference, split, where, row)
                path = posixpath.join(file.place, file.name)
                first = meant.setdefault(path, row)
                if references[first].text != reference.text:
                    raise DataError(
                        f"{where(row)}: {reference.text!r} and, at {where(first)}, "
                        f"{references[first].text!r} may both be {file.shown}: write its path in the table"
                    )
                guesses[row] = Guess(path, file.shown, reference.difference(file))
        return guesses

    def _may_be(self, file: _File, reference: Reference, split: str) -> bool:
        if reference.places:
            return file.place in reference.places
        return self._chosen or not reference.is_bare or file.is_usual(split)

    def has_usual(self, split: str) -> bool:
        """Whether any image is in no folder or in one with a usual name; only so many files are looked at."""
        return any(file.is_usual(split) for file in islice(self._files(), LOOKED_AT))

    def first_files(self, most: int) -> list[str]:
        """The paths of some image files, relative to the folders that are searched."""
        return [file.shown for file in islice(self._files(), most)]

    def _files(self) -> Iterator[_File]:
        for root in self._roots:
            pending = [""]
            while pending:
                folder = pending.pop()
                place = posixpath.join(root, folder) if folder else root
                try:
                    with os.scandir(place) as entries:
                        for entry in entries:
                            if entry.name.startswith(".") or entry.name == "__MACOSX":
                                continue
                            if entry.is_dir(follow_symlinks=False):
                                pending.append(posixpath.join(folder, entry.name))
                            elif posixpath.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:
                                yield _File(place, folder, entry.name)
                except OSError:  # a folder that may not be listed has no images for us
                    continue


def _best(
    files: Sequence[_File], reference: Reference, split: str, where: Callable[[int], str], row: int
) -> _File:
    if len(files) == 1:
        return files[0]
    fits = [reference.fit(file, split) for file in files]
    best = [file for file, fit in zip(files, fits, strict=True) if fit == max(fits)]
    if len(best) > 1:
        shown = short_list(sorted(file.shown for file in best), NAMED)
        raise DataError(
            f"{where(row)}: {reference.text!r} may be {shown}: "
            "write its path in the table, or name the folder with --images"
        )
    return best[0]


@lru_cache(1000)  # folders have many files
def split_words(text: str) -> frozenset[str]:
    """The words of splits in a path: "train" of `train_images`, with its other names."""
    words = set(re.split(r"[^a-z]+", text.lower()))
    return frozenset({name for names in SPLITS if names & words for name in names} or words - {""})


def _plain(text: str) -> str:
    return normalize("NFC", normalize("NFC", text).casefold())


def _number(stem: str) -> int | None:
    return int(stem) if stem.isdecimal() and len(stem) < 20 else None
