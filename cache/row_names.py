"""What may name the rows of a table in other files: their ids, or their images' paths and names."""

from collections.abc import Sequence
from pathlib import PurePath

from encode_once.cache.table import Table

IDS = "ids"


def row_names(table: Table) -> dict[str, Sequence[str]]:
    """Kind of name → the name of each row, (n,); "" for a row without an image."""
    paths = list(map(PurePath, table.images))
    return {
        IDS: table.ids,
        "paths of the images": table.images,
        "file names of the images": [path.name for path in paths],
        "file names without suffix of the images": [path.stem for path in paths],
    }
