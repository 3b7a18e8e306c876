"""Errors in reading the user's files: each is one line that names the file, whatever library raised it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from encode_once.cache.errors import DataError, EncodeOnceError, brief


@contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Turn any error in reading a file into a DataError that names it.

    Parsers raise errors of any class for damaged files. Errors of this project pass unchanged, and so does a
    MemoryError, which need not be the file's fault.
    """
    try:
        yield
    except (EncodeOnceError, MemoryError):
        raise
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({brief(error.strerror or error)})") from error
    except Exception as error:
        raise DataError(
            f"{path}: damaged, or another format ({type(error).__name__}: {brief(error)})"
        ) from error
