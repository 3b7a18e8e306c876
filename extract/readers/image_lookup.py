"""Find the image files of samples by listing folders, without accessing each file."""

import errno
import os
import posixpath
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from encode_once.cache.errors import DataError, MissingDataError
from encode_once.extract.images.formats import IMAGE_SUFFIXES

NO_FOLDER = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


@dataclass
class Folder:
    """The files and folders directly in a folder; links are followed."""

    files: dict[str, str]  # name → path; links, pipes and so on count as files: to read them is an error
    folders: list[str] = field(default_factory=list)  # names

    @classmethod
    def listed(cls, path: Path) -> "Folder":
        """List a folder; a folder that does not exist has no files.

        Raises:
            DataError: the folder is not readable.
        """
        try:
            with os.scandir(path) as entries:
                listed = cls({})
                for entry in entries:
                    if _is_folder(entry):
                        listed.folders.append(entry.name)
                    else:
                        listed.files[entry.name] = entry.path
                return listed
        except ValueError:  # a null byte
            return cls({})
        except OSError as error:
            if error.errno in NO_FOLDER:
                return cls({})  # the row is reported as a row without image
            raise DataError(
                f"{path}: cannot be listed ({error.strerror}); make the folder readable"
            ) from error

    @cached_property
    def pictures(self) -> dict[str, list[str]]:
        """The names of the image files, by stem."""
        pictures: dict[str, list[str]] = {}
        for name in self.files:
            stem, suffix = posixpath.splitext(name)
            if suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):  # macOS creates "._0.jpg"
                pictures.setdefault(stem, []).append(name)
        return pictures


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


class Images:
    """Looks up images in a folder by name; a subfolder is listed when a name refers to it.

    Raises:
        MissingDataError: the folder does not exist.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise MissingDataError(f"{root}: no such image folder")
        self.shown = root
        self.root = root.resolve()
        self.folders = {"": Folder.listed(self.root)}
        self.used: set[str] = set()  # paths of the files that names referred to

    def find(self, reference: str, where: Callable[[int], str], row: int, outside: bool = False) -> str:
        """The path of an image, which is added to `used`, or the path where it was expected.

        A reference without an image suffix matches the image of that stem.

        Args:
            reference: relative path, with or without suffix.
            where, row: the position of the row for error messages is `where(row)`.
            outside: whether the path may lead out of the folder.

        Raises:
            DataError: the path leads out of the folder, or matches several images.
        """
        relative = posixpath.normpath(reference)
        if not outside and (relative.startswith(("/", "../")) or relative == ".."):
            raise DataError(
                f"{where(row)}: the id {reference!r} leads out of the image folder {self.root}; "
                "use the name of a file in it"
            )
        parent, name = posixpath.split(relative)
        if parent not in self.folders:
            self.folders[parent] = Folder.listed(self.root / parent)
        folder = self.folders[parent]
        if name not in folder.files and posixpath.splitext(name)[1].lower() not in IMAGE_SUFFIXES:
            names = sorted(folder.pictures.get(name, [name]))
            if len(names) > 1:
                raise DataError(
                    f"{where(row)}: {reference!r} matches {' and '.join(names)} in {self.root / parent}; "
                    f"give the suffix in the table, or remove one of the files"
                )
            name = names[0]
        if name not in folder.files:
            return str(self.root / relative)
        self.used.add(folder.files[name])
        return folder.files[name]

    def check_unused(self, prefix: str, first: str) -> list[str]:
        """A warning about image files that no name referred to, if there are any.

        Raises:
            DataError: no name referred to an image. The message begins with `prefix` and cites the name
                `first`.
        """
        pictures = (
            (posixpath.join(parent, name), folder.files[name])
            for parent, folder in self.folders.items()
            for names in folder.pictures.values()
            for name in names
        )
        unused = sorted(relative for relative, path in pictures if path not in self.used)
        if not self.used:
            example = f"a file in it is {unused[0]!r}" if unused else "but it contains no image files"
            raise DataError(
                f"{prefix} has an image in {self.shown}: the first row names {first!r}, {example}; "
                "rows must name their image files"
            )
        if not unused:
            return []
        return [
            f"{self.shown}: images that no row names: {len(unused)} (such as {unused[0]!r}); "
            "they are not encoded"
        ]


def folder_with(names: Sequence[str], folders: Iterable[Path], where: Callable[[int], str]) -> Path | None:
    """The first folder that contains an image with one of the names, or None."""
    for folder in folders:
        if folder.is_dir():
            images = Images(folder)
            for row, name in enumerate(names):
                images.find(name, where, row, outside=True)
                if images.used:
                    return folder
    return None
