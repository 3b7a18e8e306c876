"""List folders, and refuse links that lead out of the data; no file is accessed."""

import errno
import os
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from encode_once.cache.errors import DataError
from encode_once.cache.source_files import TEXTS
from encode_once.extract.images.formats import IMAGE_SUFFIXES
from encode_once.extract.readers.options import ImageFolder

NO_FOLDER = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


@dataclass
class Folder:
    """The files and folders directly in a folder; links are followed."""

    files: dict[str, str]  # name → path; links, pipes and so on count as files: to read them is an error
    folders: list[str] = field(default_factory=list)  # names
    links: set[str] = field(default_factory=set)  # names of the files that are links

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
                        if entry.is_symlink():
                            listed.links.add(entry.name)
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


def check_links(folder: Folder, root: Path, chosen: Sequence["ImageFolder"] = ()) -> None:
    """Refuse images and texts that are links out of a folder, and not into one that --images names.

    Raises:
        DataError: one is.
    """
    allowed = [os.path.realpath(path) for path in (root, *(image_folder.path for image_folder in chosen))]
    for name in folder.links:
        target = os.path.realpath(folder.files[name])
        if Path(name).suffix.lower() in (*IMAGE_SUFFIXES, *TEXTS) and not is_in(target, allowed):
            raise DataError(
                f"{folder.files[name]}: a link that leads out of {root}; "
                f"--images {Path(target).parent} allows it"
            )


def is_in(path: str, folders: Sequence[str]) -> bool:
    """Whether a path is one of some folders, or in one."""
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False
