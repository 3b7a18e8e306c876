"""What happens to rows that cannot be read."""

from dataclasses import dataclass

from encode_once.cache.errors import DataError


@dataclass
class BadRows:
    """Rows that cannot be read: the first is an error, or all are left out, counted and named."""

    skip: bool = False  # --skip-bad-rows
    _number: int = 0
    _first: DataError | None = None

    def add(self, error: DataError) -> None:
        """Leave a row out.

        Raises:
            DataError: rows are not to be left out.
        """
        if not self.skip:
            raise DataError(f"{error}; --skip-bad-rows leaves such rows out") from error
        self._number += 1
        self._first = self._first or error

    @property
    def warnings(self) -> list[str]:
        """A warning that counts the rows and names the first, if there are any."""
        if not self._number:
            return []
        return [f"rows that cannot be read: {self._number} (first: {self._first}); they are left out"]
