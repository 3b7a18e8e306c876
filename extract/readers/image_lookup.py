"""Finding the image files that samples name, by listing folders: no file is looked at by itself."""

import os
import posixpath
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from encode_once.cache.errors import DataError, MissingDataError

# Only for telling pictures from other files: a name that is a file's in full may have any suffix.
IMAGE_SUFFIXES = (".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


@dataclass
class Folder:
    """The files directly in a folder, from one listing."""

    files: dict[str, str]  # name → path

    @classmethod
    def listed(cls, path: Path) -> "Folder":
        """The folder's files; none where there is no such folder.

        Raises:
            DataError: it may not be listed.
        """
        try:
            with os.scandir(path) as entries:
                return cls({entry.name: entry.path for entry in entries if entry.is_file()})
        except (FileNotFoundError, NotADirectoryError):
            return cls({})  # a name led here: its row is reported as one without image
        except OSError as error:
            raise DataError(
                f"{path}: cannot be listed ({error.strerror}); make the folder readable"
            ) from error

    @cached_property
    def pictures(self) -> dict[str, list[str]]:
        """The names of the image files, by stem."""
        pictures: dict[str, list[str]] = {}
        for name in self.files:
            stem, suffix = posixpath.splitext(name)
            if suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):  # "._0.jpg" is macOS's own
                pictures.setdefault(stem, []).append(name)
        return pictures


class Images:
    """A folder in which images are looked up by name; subfolders are listed when a name leads there.

    Raises:
        MissingDataError: there is no such folder.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise MissingDataError(f"{root}: there is no such image folder")
        self.shown = root
        self.root = root.resolve()
        self.folders = {"": Folder.listed(self.root)}
        self.found: set[str] = set()  # paths

    def find(self, wanted: str, where: Callable[[int], str], row: int, outside: bool = False) -> str:
        """The path of an image, added to `found`, or the path where it was expected.

        A name without an image's suffix stands for the one image of that stem.
        """
        relative = posixpath.normpath(wanted)
        if not outside and (relative.startswith(("/", "../")) or relative == ".."):
            raise DataError(
                f"{where(row)}: the id {wanted!r} leads out of the image folder {self.root}; "
                "name a file in it"
            )
        parent, name = posixpath.split(relative)
        if parent not in self.folders:
            self.folders[parent] = Folder.listed(self.root / parent)
        folder = self.folders[parent]
        if name not in folder.files and posixpath.splitext(name)[1].lower() not in IMAGE_SUFFIXES:
            names = sorted(folder.pictures.get(name, [name]))
            if len(names) > 1:
                raise DataError(
                    f"{where(row)}: {wanted!r} may stand for {' or '.join(names)} in {self.root / parent}; "
                    f"give the suffix in the table, or remove one of the files"
                )
            name = names[0]
        if name not in folder.files:
            return str(self.root / relative)
        self.found.add(folder.files[name])
        return folder.files[name]

    def unnamed(self, nobody: str, first: str) -> list[str]:
        """The warning that there are image files to which no name has led, if there are.

        Raises:
            DataError: no name has led to any, the first of them being `first`; it begins with `nobody`.
        """
        pictures = (
            (posixpath.join(parent, name), folder.files[name])
            for parent, folder in self.folders.items()
            for names in folder.pictures.values()
            for name in names
        )
        left = sorted(relative for relative, path in pictures if path not in self.found)
        if not self.found:
            there = f"a file there is {left[0]!r}" if left else "and no image file is there"
            raise DataError(
                f"{nobody} has an image in {self.shown}: the first names {first!r}, {there}; "
                "rows must name their image files"
            )
        if not left:
            return []
        return [
            f"{self.shown}: images that no row names: {len(left)} (such as {left[0]!r}); they are not encoded"
        ]


def folder_with(names: Sequence[str], folders: Iterable[Path], where: Callable[[int], str]) -> Path | None:
    """The first of these folders in which one of the names is an image; None where there is none."""
    for folder in folders:
        if folder.is_dir():
            images = Images(folder)
            for row, name in enumerate(names):
                images.find(name, where, row, outside=True)
                if images.found:
                    return folder
    return None
