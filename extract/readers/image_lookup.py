"""Find the image files that rows name, by listing folders: no file is accessed.

An image is where its row says, relative to one of the likely folders. If it is not, it is looked for in all
folders of the data, as a person would, see `image_search`; what is found so is reported, and nothing is
guessed between two files that fit equally well. No file outside of the data folder is used, be it through an
absolute path, `..` or a link, unless it is in a folder that the user names with --images.
"""

import os
import posixpath
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import unquote

from encode_once.cache.errors import DataError, MissingDataError, brief
from encode_once.extract.images.formats import is_image_name
from encode_once.extract.readers.data_mirror import DataMirror
from encode_once.extract.readers.folders import Folder, is_in
from encode_once.extract.readers.image_search import Guess, ImageSearch, Reference, split_words
from encode_once.extract.readers.options import ImageFolder
from encode_once.extract.remote.session import is_allowed
from encode_once.extract.remote.urls import is_remote, parent

URL = re.compile(r"(?!file:)[a-z][a-z0-9+.-]+://", re.IGNORECASE)
REWRITES: dict[str, Callable[[str], str]] = {
    "by decoding %20 and the like": unquote,
    "without blanks around the name": str.strip,
}
COMPARED = 2000  # names that the nearest to a missing one is looked for among


@dataclass
class SplitImages:
    """The images of a split's rows."""

    paths: list[
        str
    ]  # (rows,): "" if a row names none; where it should be if others were found and it was not
    missing: list[int] = field(default_factory=list)  # rows whose image was not found
    urls: list[int] = field(default_factory=list)  # rows, of these, that name a URL
    guesses: dict[str, list[tuple[int, Guess]]] = field(default_factory=dict)  # in what they differ → rows


class ImageFinder:
    """Looks up the images of a data set's splits.

    Args:
        data: the data folder.
        chosen: the folders that the user names; images are looked for only there.
        mirror: of data or folders at URLs; the images in it are those at the URLs.

    Raises:
        MissingDataError: a chosen folder does not exist.
    """

    def __init__(
        self, data: Path, chosen: Sequence[ImageFolder] = (), mirror: DataMirror | None = None
    ) -> None:
        for folder in chosen:
            if not folder.path.is_dir():
                raise MissingDataError(f"{folder.path}: no such image folder")
        self._data, self._chosen, self._mirror = data, chosen, mirror
        self._allowed = [os.path.realpath(path) for path in (data, *(folder.path for folder in chosen))]
        self._guessed: dict[str, Guess] = {}  # by name with a folder, which means the same in every split
        self._listings: dict[str, Folder] = {}  # by path
        self._is_inside: dict[str, bool] = {}  # by path of a folder
        self._used: dict[str, set[str]] = {}  # folder → paths of the files in it that rows named

    @property
    def is_chosen(self) -> bool:
        """Whether the user names the folders."""
        return bool(self._chosen)

    # ---------------------------------------------------------------------------------------- the named files

    def find(
        self, names: Sequence[str], split: str, folders: Sequence[Path], where: Callable[[int], str]
    ) -> SplitImages:
        """The images of the rows of a split.

        Args:
            names: of each row's image: a path, with or without suffix, or ""; one without a suffix matches
                the image of that stem.
            split: folders with its name are preferred.
            folders: that names are relative to, the best first.
            where: a row's position, for messages.

        Raises:
            DataError: a path leads out of the data folder, or matches several images.
        """
        roots = self._roots(split, folders)
        urls = {row: name.strip() for row, name in enumerate(names) if "://" in name and URL.match(name)}
        result = SplitImages(
            self._all_named(["" if row in urls else name for row, name in enumerate(names)], roots, where)
        )
        for row, url in urls.items():
            result.paths[row] = url if is_remote(url) and is_allowed(url) else ""
        result.urls = [row for row in urls if not result.paths[row]]
        unfound = [row for row, name in enumerate(names) if name and not (result.paths[row] or row in urls)]
        search = self._search(split)
        self._rewritten(result, names, unfound, roots, where)
        unfound = [row for row in unfound if not result.paths[row]]
        guessed = unfound if unfound and search.first_files(1) else []
        places: dict[str, frozenset[str]] = {}  # by the named folder
        references = {}
        for row in guessed:
            parent = posixpath.dirname(posixpath.normpath(names[row]))
            if parent not in places:
                places[parent] = self._places(parent, roots)
            references[row] = Reference.of(names[row], places[parent])
        guesses = {row: self._guessed[names[row]] for row in references if names[row] in self._guessed}
        new = {row: reference for row, reference in references.items() if row not in guesses}
        guesses |= search.guesses(new, split, where, self._used)
        self._guessed |= {names[row]: guess for row, guess in guesses.items() if references[row].folders}
        for row, guess in guesses.items():
            folder, name = posixpath.split(guess.path)
            result.paths[row] = self._checked(folder, name, names[row], where, row)
            result.guesses.setdefault(guess.difference, []).append((row, guess))
        result.missing = [row for row in sorted([*unfound, *result.urls]) if not result.paths[row]]
        if any(result.paths) or self._used:  # also by other pieces of a large table
            expected = next((root for root in roots if root in self._used), roots[0])
            for row in unfound:
                result.paths[row] = result.paths[row] or posixpath.join(expected, _relative(names[row]))
        return result

    def _rewritten(
        self,
        images: SplitImages,
        names: Sequence[str],
        rows: Sequence[int],
        roots: Sequence[str],
        where: Callable[[int], str],
    ) -> None:
        """Set the images of rows whose names are as in a URL, as Notion writes them, or between blanks."""
        for difference, rewrite in REWRITES.items():
            changed = {row: name for row in rows if (name := rewrite(names[row])) != names[row]}
            paths = self._all_named([*changed.values()], roots, _of_rows(where, [*changed]))
            for row, path in zip(changed, paths, strict=True):
                if path and not images.paths[row]:
                    images.paths[row] = path
                    shown = posixpath.relpath(path, self._data.resolve())
                    images.guesses.setdefault(difference, []).append((row, Guess(path, shown, difference)))

    def _roots(self, split: str, folders: Sequence[Path]) -> list[str]:
        """The folders that names are relative to: those that the user chose, or else `folders`."""
        paths = [folder.path for folder in self._chosen_for(split)] or [*folders] or [self._data]
        return [str(path.resolve()) for path in dict.fromkeys(paths)]

    def _chosen_for(self, split: str) -> list[ImageFolder]:
        """The folders that the user chose for a split: `--images train --images test` are for these two."""
        chosen = [folder for folder in self._chosen if folder.split in (None, split)]
        words = split_words(split)
        return [f for f in chosen if f.split or words & split_words(f.path.name)] or chosen

    def _named(
        self,
        name: str,
        file_name: str,
        folders: Sequence[tuple[str, Folder]],
        where: Callable[[int], str],
        row: int,
    ) -> str:
        """The path of the image that is where its name says, in the first such folder; "" if none."""
        has_suffix = is_image_name(file_name)
        for folder, listing in folders:
            if file_name in listing.files:
                return self._checked(folder, file_name, name, where, row)
            if not has_suffix:
                stems = sorted(listing.pictures.get(file_name, []))
                if len(stems) > 1:
                    raise DataError(
                        f"{where(row)}: {name!r} matches {' and '.join(stems)} in {folder}; "
                        "give the suffix in the table, or remove one of the files"
                    )
                if stems:
                    return self._checked(folder, stems[0], name, where, row)
        return ""

    def _all_named(
        self, names: Sequence[str], roots: Sequence[str], where: Callable[[int], str]
    ) -> list[str]:
        """The path of each row's image that is where its name says."""
        folders: dict[str, list[tuple[str, Folder]]] = {}  # by the parent in a name: rows name few
        paths = []
        for row, name in enumerate(names):
            if not name:
                paths.append("")
                continue
            parent, file_name = _split(name)
            if parent not in folders:
                joined = [posixpath.normpath(posixpath.join(root, parent)) for root in roots]
                folders[parent] = [(folder, self._listed(folder)) for folder in joined]
            paths.append(self._named(name, file_name, folders[parent], where, row))
        return paths

    def _places(self, parent: str, roots: Sequence[str]) -> frozenset[str]:
        """The folders that images which are not where their names say can be in; empty if in any.

        If the folder that is named exists, or rows that name none were found, they are nowhere else.
        """
        paths = {posixpath.normpath(posixpath.join(root, parent)) for root in roots}
        if parent:
            return frozenset(path for path in paths if self._listed(path).files)
        return frozenset(path for path in paths if path in self._used)

    def _listed(self, folder: str) -> Folder:
        if folder not in self._listings:
            at_url = self._mirror.listed(folder) if self._mirror else None
            self._listings[folder] = at_url or Folder.listed(Path(folder))
        return self._listings[folder]

    def _checked(self, folder: str, file_name: str, name: str, where: Callable[[int], str], row: int) -> str:
        """The path of a file in a folder, which is one of the used.

        Raises:
            DataError: it is outside of the data and of the user's folders.
        """
        listing = self._listed(folder)
        if folder not in self._is_inside:
            self._is_inside[folder] = self._allows(os.path.realpath(folder))
        target = os.path.realpath(listing.files[file_name]) if file_name in listing.links else ""
        if not self._is_inside[folder] or (target and not self._allows(target)):
            place = Path(target).parent if target else os.path.realpath(folder)
            raise DataError(
                f"{where(row)}: the image {brief(repr(name))} leads out of the data folder {self._data}, to "
                f"{place}; --images {place} allows it"
            )
        path = listing.files[file_name]
        self._used.setdefault(folder, set()).add(path)
        return path

    def _allows(self, path: str) -> bool:
        return is_in(path, self._allowed)

    # ---------------------------------------------------------------------------------------- what to report

    def _search(self, split: str) -> ImageSearch:
        if chosen := self._chosen_for(split):
            return ImageSearch([str(folder.path.resolve()) for folder in chosen], chosen=True)
        return ImageSearch([str(self._data.resolve())])

    def missing_text(self, names: Sequence[str], images: SplitImages, split: str) -> str:
        """What a message says of the rows whose image was not found, at least one: the nearest there is."""
        if images.urls:
            url = names[images.urls[0]].strip()
            allow = "it is not read"
            if is_remote(url):
                allow = f"--allow-urls {parent(url)} fetches those there"
            return (
                f"{len(images.urls)} rows name URLs, such as {brief(url)}: {allow}; or download them, as "
                "img2dataset does, and name the folder with --data or --images"
            )
        name = names[images.missing[0]]
        if not (places := self.first_files(split)):
            return f"{name!r} is not there, nor any other image"
        by_name = {posixpath.basename(path): path for path in reversed(places)}
        nearest = get_close_matches(posixpath.basename(_relative(name)), by_name, 1, 0)
        return f"{name!r} is not there; the nearest file is {by_name[nearest[0]]!r}"

    def first_files(self, split: str) -> list[str]:
        """The paths of some image files, relative to the folders that are searched for a split."""
        return self._search(split).first_files(COMPARED)

    def has_images(self, split: str, folders: Sequence[Path]) -> bool:
        """Whether there is any image file that bare ids of a split may name."""
        if any(self._listed(root).pictures for root in self._roots(split, folders)):
            return True
        return self._search(split).has_usual(split)

    def unused(self) -> list[str]:
        """A warning about image files that no row names, in each folder that has images that rows name."""
        lines = []
        for folder, used in self._used.items():
            listing = self._listed(folder)
            names = (name for stem in listing.pictures.values() for name in stem)
            if others := sorted(name for name in names if listing.files[name] not in used):
                lines.append(
                    f"{folder}: images that no row names: {len(others)} (such as {others[0]!r}); "
                    "they are not encoded"
                )
        return lines


def _of_rows(where: Callable[[int], str], rows: Sequence[int]) -> Callable[[int], str]:
    """The positions of some rows, by their place among these."""
    return lambda place: where(rows[place])


def _split(name: str) -> tuple[str, str]:
    """The folder and the file name in a path or `file://` URL."""
    path = name.removeprefix("file://")
    parent, slash, file_name = path.rpartition("/")
    if file_name in ("", ".", "..") or (slash and not parent):
        return posixpath.split(posixpath.normpath(path))
    return parent, file_name


def _relative(name: str) -> str:
    """A name without what leads out of a folder."""
    parts = posixpath.normpath(name.replace("\\", "/")).split("/")
    return "/".join(part for part in parts if part not in ("", "..", ".")) or name
