"""The captions that a feature is made of: a table's, those a captioner generated, or both joined.

A captioner is an encoder of images. Its output `text` holds a caption of each image, as a row of UTF-8 bytes.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from encode_once.cache.errors import UsageError
from encode_once.cache.feature import Feature
from encode_once.cache.keys import KEY_BYTES, NO_KEY, Keys, content_key, pack
from encode_once.cache.large_arrays import new_array, row_slices
from encode_once.cache.names import JOINED, OWN, TEXT, FeatureName, captioner
from encode_once.cache.store import Store
from encode_once.cache.table import Table


def captioner_feature(captions: str, store: Store) -> Feature | None:
    """The feature that holds the generated captions; None if `captions` are the table's.

    Raises:
        UnknownFeatureError: the store has no captions by that captioner.
        UsageError: the encoder generates no captions.
    """
    encoder = captioner(captions)
    if encoder is None:
        return None
    feature = store.feature(str(FeatureName(encoder, TEXT)))
    if len(feature) and not feature.holds_texts:
        raise UsageError(f"{encoder} generates no captions: {feature.name} contains vectors")
    return feature


def text_keys(texts: Sequence[str]) -> Keys:
    """The content keys of captions or other texts, (n, 16); `NO_KEY` for an empty one."""
    keys: Keys = new_array((len(texts), KEY_BYTES), np.uint8)
    for rows in row_slices(len(texts)):
        encoded = (text.encode("utf-8", "surrogateescape") for text in texts[rows])  # as in packed columns
        keys[rows] = pack(content_key(content) if content else NO_KEY for content in encoded)
    return keys


def read_texts(feature: Feature, keys: Keys) -> list[str]:
    """The captions generated for images, by the images' keys (n, 16); "" where there is none."""
    rows = feature.find(keys)
    stored = np.flatnonzero(rows >= 0)
    values, offsets = feature.take_ragged(rows[stored])
    content, texts = values.tobytes(), [""] * len(keys)
    for row, (start, end) in zip(stored, pairwise(offsets.tolist()), strict=True):
        texts[row] = content[start:end].decode()
    return texts


def with_captions(table: Table, captions: str, generated_by: Feature | None) -> Table:
    """The table with its captions replaced.

    A row without a generated caption, whose image may not have been captioned yet, has none. If captions are
    joined and one of the two is missing, the other is used alone. If a row has several captions, the
    generated one is appended to each.

    Args:
        captions: "table", "CAPTIONER" or "table+CAPTIONER".
        generated_by: the `captioner_feature` of these captions.
    """
    if generated_by is None:
        return table
    generated = read_texts(generated_by, table.keys("image"))
    columns = caption_columns(captions, [table.captions, *table.more_captions], generated)
    keys = [text_keys(texts) for texts in columns]
    return replace(
        table,
        captions=columns[0],
        caption_keys=keys[0],
        more_captions=columns[1:],
        more_caption_keys=keys[1:],
    )


def caption_columns(
    captions: str, own: Sequence[Sequence[str]], generated: Sequence[str]
) -> list[Sequence[str]]:
    """The captions of rows, each column (n,), of a kind as in `with_captions`; "" where a row has none.

    Args:
        own: the columns of the rows' own captions.
        generated: those that the captioner wrote, (n,), if the kind has one.
    """
    if captions == OWN:
        return [*own]
    if not captions.startswith(JOINED):
        return [list(generated)]
    first = [join(*texts) for texts in zip(own[0], generated, strict=True)]
    return [first, *(_join_present(column, generated) for column in own[1:])]


def _join_present(own: Sequence[str], generated: Sequence[str]) -> list[str]:
    """Join further captions with the generated ones, except where a row has no further caption."""
    return [join(*texts) if texts[0] else "" for texts in zip(own, generated, strict=True)]


def join(own: str, generated: str) -> str:
    """Two captions of an image as one text."""
    return f"{own.rstrip(' .')}. {generated}" if own and generated else own or generated


def text_of(row: NDArray[np.generic]) -> str:
    """A caption that a captioner wrote, from its row of UTF-8 bytes."""
    return row.tobytes().decode()


def all_captioned_tables(store: Store) -> list[Table]:
    """The store's tables, then the same tables with all other kinds of captions that the store holds."""
    tables = store.tables()
    result = list(tables)
    for feature in map(store.feature, store.features()):
        if feature.holds_texts:
            for captions in (feature.encoder, JOINED + feature.encoder):
                result += [with_captions(table, captions, feature) for table in tables]
    return result
