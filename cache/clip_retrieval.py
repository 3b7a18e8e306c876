"""Export vectors as a folder like those of `clip-retrieval inference`, which its other commands read.

    img_emb/img_emb_0.npy      (n, d) float16: vectors of images, if there are any
    text_emb/text_emb_0.npy    (n, d) float16: vectors of captions, if there are any
    metadata/metadata_0.parquet    image_path, caption and id of the same n rows

Vectors have unit length, because indices of it compare them by their inner product.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from encode_once.cache.errors import DataError, UsageError
from encode_once.cache.feature import Feature
from encode_once.cache.format.atomic import new_folder, reserve
from encode_once.cache.format.part import chunks
from encode_once.cache.keys import RowIndex
from encode_once.cache.packed_columns import joined, taken
from encode_once.cache.table import Table

KIND = "clip-retrieval"
PARTS = {"image": "img_emb", "caption": "text_emb"}
LINES = 10_000  # of metadata that are written at a time


@dataclass(frozen=True)
class Pairs:
    """Images, captions, or images with a caption each; of a row with k captions there are k."""

    table: Table
    rows: Mapping[str, tuple[Feature, RowIndex]]  # modality → feature, and its row of each pair (n,)
    places: RowIndex  # (n,): each pair's row of the table
    captions: Sequence[str]  # (n,)

    @property
    def without(self) -> int:
        """How many rows of the table lack a vector, and are left out."""
        return len(self.table) - len(np.unique(self.places))


def select_pairs(features: Sequence[Feature], table: Table) -> Pairs:
    """The rows of a table that have a vector of each feature.

    Raises:
        UsageError: other features than one of images, one of captions, or one of each.
        DataError: they have sequences, or no row has a vector of each.
    """
    of_modality = {feature.modality: feature for feature in features}
    if len(of_modality) < len(features) or not of_modality or not of_modality.keys() <= PARTS.keys():
        raise UsageError(f"{KIND} takes a feature of images, one of captions, or one of each")
    for feature in features:
        if feature.ragged:
            raise DataError(f"{feature.name} has a sequence per row: {KIND} takes one vector for each")
    n = len(table)
    texts = [table.captions, *table.more_captions] if "caption" in of_modality else [table.captions]
    rows_of = {
        modality: np.resize(feature.find(np.concatenate(table.key_columns(modality))), n * len(texts))
        for modality, feature in of_modality.items()
    }
    pairs = np.flatnonzero(np.all([rows >= 0 for rows in rows_of.values()], axis=0))
    if not len(pairs):
        raise DataError(f"no row of {table.source} has a vector of {' and '.join(f.name for f in features)}")
    return Pairs(
        table,
        {modality: (of_modality[modality], rows[pairs]) for modality, rows in rows_of.items()},
        pairs % n,
        taken(joined(texts), pairs),
    )


def write(pairs: Pairs, path: Path) -> None:
    """Write the folder completely or not at all.

    Raises:
        DataError: pyarrow is missing, or there is something at the path.
    """
    try:
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter
    except ImportError as error:
        raise DataError(f"{KIND} needs pyarrow: pip install 'encode-once[parquet]'") from error
    schema = pa.schema({name: pa.string() for name in ("image_path", "caption", "id")})
    table, n = pairs.table, len(pairs.places)
    with new_folder(path) as folder:
        for modality, (feature, rows) in pairs.rows.items():
            part = folder / PARTS[modality]
            part.mkdir()
            _write_unit_vectors(feature, rows, part / f"{part.name}_0.npy")
        (folder / "metadata").mkdir()
        with ParquetWriter(folder / "metadata" / "metadata_0.parquet", schema) as writer:
            for start in range(0, n, LINES):
                places = pairs.places[start : start + LINES]
                columns = [
                    [*taken(table.images, places)],
                    [*pairs.captions[start : start + LINES]],
                    [*taken(table.ids, places)],
                ]
                writer.write_table(pa.table(columns, schema=schema))


def _write_unit_vectors(feature: Feature, rows: RowIndex, path: Path) -> None:
    """Write rows of a feature as a .npy file, each divided by its length unless that is 0."""
    shape = feature.shape_of(rows)
    out = np.lib.format.open_memmap(path, "w+", np.float16, (shape.rows, shape.dim))
    with path.open("r+b") as file:
        reserve(file.fileno())
    for piece in chunks(shape):
        values = feature.take(rows[piece]).astype(np.float32)
        norms = np.linalg.norm(values, axis=1, keepdims=True)
        out[piece] = values / np.where(norms > 0, norms, 1)
    out.flush()
