"""Replace several files of a folder together: after a crash it has all the old files or all the new ones.

New files are written next to the old ones, as `NAME.new`. Then `replacing.json`, which lists them, is
created in one step: from then on they count. They are renamed to their places, and the list is removed.
`finish` does the rest of that after a crash, so whoever reads the folder calls it first.
"""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from encode_once.cache.errors import DamagedError
from encode_once.cache.format.atomic import sync_folder, write_json, writing
from encode_once.cache.format.files import read_json

MARKER = "replacing.json"
NEW = ".new"


class Replacement:
    """The files of a folder that are about to be replaced."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: list[str] = []

    def __call__(self, name: str) -> Path:
        """The place to write the new file of this name to."""
        if name not in self.names:
            self.names.append(name)
            self._place(name).unlink(missing_ok=True)  # a link of that name would be followed
        return self._place(name)

    def current(self, name: str) -> Path:
        """The new file of this name if there is one, else the old one."""
        return self._place(name) if name in self.names else self.folder / name

    def discard(self) -> None:
        """Remove what was written."""
        for name in self.names:
            self._place(name).unlink(missing_ok=True)

    def commit(self) -> None:
        """Make the new files count."""
        for name in self.names:
            with self._place(name).open("rb") as file:
                os.fsync(file.fileno())
        write_json(self.folder / MARKER, self.names)
        finish(self.folder, self.names)

    def _place(self, name: str) -> Path:
        return self.folder / f"{name}{NEW}"


@contextmanager
def replacing_together(folder: Path) -> Iterator[Replacement]:
    """Yield where to write new files of a folder; at the end they replace the old, after an error none."""
    replacement = Replacement(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            yield replacement
        except BaseException:
            replacement.discard()
            raise
        replacement.commit()


def finish(folder: Path, allowed: Collection[str]) -> None:
    """Complete a replacement that a crash interrupted; nothing if there is none.

    Args:
        allowed: the names that the list may have, which may be a stranger's.

    Raises:
        DamagedError: the list is not one, or has other names.
        OSError: the folder cannot be written.
    """
    marker = folder / MARKER
    if not marker.exists():
        return
    names = read_json(marker)
    if not isinstance(names, list) or not set(map(str, names)) <= set(allowed):
        raise DamagedError(f"{marker} does not list files of {folder}: remove it")
    for name in names:
        try:
            (folder / f"{name}{NEW}").replace(folder / name)
        except FileNotFoundError:  # it is in its place already
            continue
    sync_folder(folder)
    marker.unlink(missing_ok=True)
    sync_folder(folder)
