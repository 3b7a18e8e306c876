"""Errors in reading the user's files: each is one line that names the file, whatever library raised it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
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


FEW_CELLS = 10_000_000  # 80 MB
SPARSE = 100  # cells for each value; a table of captions has less than two


def is_too_sparse(rows: int, columns: int, values: int) -> bool:
    """Whether a table would take far more memory than the file it comes from."""
    return rows * columns > max(FEW_CELLS, SPARSE * values)


@dataclass
class BadRows:
    """Rows that cannot be read: the first is an error, or all are left out, counted and named."""

    skip: bool = False  # --skip-bad-rows
    _errors: list[DataError] = field(default_factory=list)

    def add(self, error: DataError) -> None:
        """Leave a row out.

        Raises:
            DataError: rows are not to be left out.
        """
        if not self.skip:
            raise DataError(f"{error}; --skip-bad-rows leaves such rows out") from error
        self._errors.append(error)

    @property
    def warnings(self) -> list[str]:
        """A warning that counts the rows and names the first, if there are any."""
        if not self._errors:
            return []
        return [
            f"rows that cannot be read: {len(self._errors)} (first: {self._errors[0]}); they are left out"
        ]
