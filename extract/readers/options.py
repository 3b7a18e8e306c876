"""What the user may say about the input, beside where it is."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Columns:
    """The names of a table's columns, where they are not to be guessed."""

    id: str | None = None
    image: str | None = None
    captions: tuple[str, ...] = ()
    label: str | None = None

    @property
    def named(self) -> bool:
        """Whether any is."""
        return self != Columns()


@dataclass(frozen=True)
class Options:
    """All that a container's reader is told.

    `images` is the folder that image names are relative to; by default it is looked for beside the table.
    `label_separator` stands between the labels of one text; by default what the texts hold decides.
    """

    columns: Columns = field(default_factory=Columns)
    images: Path | None = None
    label_separator: str | None = None
