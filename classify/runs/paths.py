"""Paths in run.json: relative to the run's folder, so that a project with runs can be renamed or copied."""

import os
from pathlib import Path

from encode_once.cache.places import is_at_url


def relative(path: str, folder: Path) -> str:
    """A path as run.json holds it, with `/` on every system; "" stays.

    A path on another drive than the folder stays absolute, and a URL as it is.
    """
    if is_at_url(path):
        return path
    try:
        return path and Path(os.path.relpath(path, folder.resolve())).as_posix()
    except ValueError:
        return path


def absolute(path: str, folder: Path) -> str:
    """The inverse of `relative`; a URL or an absolute path stays as it is, wherever it leads."""
    return path if is_at_url(path) else path and os.path.normpath(folder.resolve() / path)
