"""Whose captions: those of a table, those a captioner wrote of its images, or both joined.

A captioner is an encoder of images whose output `text` holds, as a row of UTF-8 bytes, what it says of each.
"""

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import numpy as np

from cache.feature import Feature
from cache.keys import NO_KEY, Keys, content_key, pack
from cache.store import Store
from cache.tables import Table

OWN = "table"  # the captions of the table itself
JOINED = "table+"  # then a captioner: each caption of the table with the generated one behind it


def captioner(captions: str) -> str | None:
    """The encoder that writes these captions; None where they are the table's own."""
    return None if captions == OWN else captions.removeprefix(JOINED)


def text_feature(store: Store, captions: str) -> Feature | None:
    """What a captioner wrote; None where the captions are the table's own.

    Raises:
        UnknownFeatureError: the store has nothing of that captioner.
    """
    name = captioner(captions)
    return None if name is None else store.feature(f"{name}/text")


def text_keys(texts: Iterable[str]) -> Keys:
    """The content keys of captions, (n, 16); `NO_KEY` where one is empty."""
    return pack(content_key(text.encode()) if text else NO_KEY for text in texts)


def read_texts(feature: Feature, keys: Keys) -> list[str]:
    """What a captioner wrote of images, by their keys (n, 16); "" where it wrote nothing."""
    rows = feature.find(keys)
    there = np.flatnonzero(rows >= 0)
    values, offsets = feature.take_ragged(rows[there])
    written, texts = values.tobytes(), [""] * len(keys)
    for row, (start, end) in zip(there, pairwise(offsets.tolist()), strict=True):
        texts[row] = written[start:end].decode()
    return texts


def captioned(table: Table, store: Store, captions: str) -> Table:
    """The table with those captions in the place of its own: "table", "CAPTIONER" or "table+CAPTIONER".

    A row has none where the captioner wrote none, or has not seen the image yet; of two joined, the one that
    is there stands alone.
    """
    written = text_feature(store, captions)
    if written is None:
        return table
    texts = read_texts(written, table.keys("image"))
    if captions.startswith(JOINED):
        texts = [joined(*both) for both in zip(table.captions, texts, strict=True)]
    return replace(table, captions=texts, caption_keys=text_keys(texts))


def joined(own: str, generated: str) -> str:
    """Two captions of an image as one text."""
    return f"{own.rstrip(' .')}. {generated}" if own and generated else own or generated


def all_captioned(store: Store) -> list[Table]:
    """The tables of a store, then the same with every other kind of captions that it holds texts for."""
    tables = store.tables()
    writers = [name.removesuffix("/text") for name in store.features() if name.endswith("/text")]
    writers = [name for name in writers if store.feature(f"{name}/text").holds_texts]
    kinds = [f"{how}{name}" for name in writers for how in ("", JOINED)]
    return tables + [captioned(table, store, kind) for kind in kinds for table in tables]
