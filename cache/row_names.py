"""What may name the rows of a table in other files: their ids, or their images' paths and names."""

from collections.abc import Callable, Sequence
from pathlib import PurePath

from encode_once.cache.packed_columns import Texts
from encode_once.cache.table import Table

IDS = "ids"


def row_names(table: Table) -> dict[str, Sequence[str]]:
    """Kind of name → the name of each row, (n,); "" for a row without an image."""

    def of_images(name_of: Callable[[PurePath], str]) -> Texts:
        return Texts.of(name_of(PurePath(path)) for path in table.images)

    return {
        IDS: table.ids,
        "paths of the images": table.images,
        "file names of the images": of_images(lambda path: path.name),
        "file names without suffix of the images": of_images(lambda path: path.stem),
    }
