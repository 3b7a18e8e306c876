"""The rows of a split by the meaning of their columns: what tables are built from."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from encode_once.extract.readers.columns import Choice
from encode_once.extract.readers.label_notation import Labels
from encode_once.extract.readers.raw import Roles


@dataclass
class SplitRows:
    """The rows of a split by the meaning of their columns; each list has an entry per row."""

    files: list[Path]  # from which the rows were read
    split: str
    where: Callable[[int], str]  # a row's position, for messages
    ids: list[str]
    captions: Sequence[Sequence[str]] | None = None  # each row's captions; None: the container has none
    labels: Sequence[tuple[Labels, ...]] | None = None  # each row's label cells
    unknown: Sequence[tuple[Labels, ...]] | None = None  # each row's cells of labels that are unknown
    image_names: list[str] | None = None  # of the image files; None: the ids may be their names
    folders: list[Path] | None = None  # that names are relative to; None: there are no names of image files
    images: list[str] | None = None  # sources of the images, if already resolved
    id_column: str = "ImageID"
    columns: dict[str, list[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    choice: Choice = field(default_factory=lambda: Choice(Roles(), {}))
    notes: dict[str, list[str]] = field(default_factory=dict)  # role → how its columns were read
    unused: list[str] = field(default_factory=list)  # columns that are neither used nor kept
    formats: dict[str, str] = field(default_factory=dict)  # column → how its cells are written
    without_image: int | None = None  # rows whose image is missing, once images were looked up

    def without(self, rows: Collection[int]) -> "SplitRows":
        """The same split without these rows."""
        kept = [row for row in range(len(self.ids)) if row not in rows]

        def of(column: Sequence[Any] | None) -> Any:
            return None if column is None else [column[row] for row in kept]

        return replace(
            self,
            where=lambda row: self.where(kept[row]),
            ids=of(self.ids),
            captions=of(self.captions),
            labels=of(self.labels),
            unknown=of(self.unknown),
            image_names=of(self.image_names),
            images=of(self.images),
            columns={name: of(cells) for name, cells in self.columns.items()},
        )

    def warn(self, problem: str, rows: Sequence[int], consequence: str) -> None:
        """Add a warning about these rows, if there are any."""
        if rows:
            first = f"{self.where(rows[0])}, id {self.ids[rows[0]]!r}"
            self.warnings.append(f"{problem}: {len(rows)} (first: {first}); {consequence}")
