"""Whose captions: those of a table, those a captioner wrote of its images, or both joined.

A captioner is an encoder of images whose output `text` holds, as a row of UTF-8 bytes, what it says of each.
"""

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import numpy as np

from encode_once.cache.errors import UsageError
from encode_once.cache.feature import Feature
from encode_once.cache.keys import NO_KEY, Keys, content_key, pack
from encode_once.cache.names import JOINED, TEXT, FeatureName, captioner
from encode_once.cache.store import Store
from encode_once.cache.table import Table


def captioner_feature(captions: str, store: Store) -> Feature | None:
    """What the captioner of these captions wrote; None where they are the table's own.

    Raises:
        UnknownFeatureError: the store has nothing of that captioner.
        UsageError: it writes no captions.
    """
    writer = captioner(captions)
    if writer is None:
        return None
    written = store.feature(str(FeatureName(writer, TEXT)))
    if len(written) and not written.holds_texts:
        raise UsageError(f"{writer} writes no captions: {written.name} holds vectors")
    return written


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


def with_captions(table: Table, captions: str, written: Feature | None) -> Table:
    """The table with those captions in the place of its own.

    A row has none where the captioner wrote none, or has not seen the image yet; of two joined, the one that
    is there stands alone. To each of several captions the generated one is joined.

    Args:
        captions: "table", "CAPTIONER" or "table+CAPTIONER".
        written: what `captioner_feature` these captions finds.
    """
    if written is None:
        return table
    generated = read_texts(written, table.keys("image"))
    columns = [generated]
    if captions.startswith(JOINED):
        columns = [
            [joined(*both) for both in zip(table.captions, generated, strict=True)],
            *(_joined_if_any(own, generated) for own in table.more_captions),
        ]
    keys = [text_keys(texts) for texts in columns]
    return replace(
        table,
        captions=columns[0],
        caption_keys=keys[0],
        more_captions=columns[1:],
        more_caption_keys=keys[1:],
    )


def _joined_if_any(own: list[str], generated: list[str]) -> list[str]:
    """Further captions with the generated ones behind them, where there is a further one."""
    return [joined(*both) if both[0] else "" for both in zip(own, generated, strict=True)]


def joined(own: str, generated: str) -> str:
    """Two captions of an image as one text."""
    return f"{own.rstrip(' .')}. {generated}" if own and generated else own or generated


def all_captioned_tables(store: Store) -> list[Table]:
    """The tables of a store, then the same with every other kind of captions that it holds texts for."""
    tables = store.tables()
    features = [store.feature(name) for name in store.features()]
    kinds = [(how, one) for one in features if one.holds_texts for how in ("", JOINED)]
    return tables + [
        with_captions(table, f"{how}{one.encoder}", one) for how, one in kinds for table in tables
    ]
