"""What happens to rows that cannot be read."""

from dataclasses import dataclass, field

from encode_once.cache.errors import DataError


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
