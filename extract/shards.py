"""The rows of a table that one of several machines encodes."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from encode_once.cache import NO_KEY, Shard, Table, content_key
from encode_once.cache.captions import text_keys
from encode_once.cache.keys import pack
from encode_once.extract.images.containers import container_of

PER_SHARD = 8  # containers; of fewer, each is divided among the shards


class Share:
    """The rows of a table that belong to a shard.

    A row goes by the path of its image below the data's folder, which is the same on all machines, or by its
    caption if it has no image. So no machine reads the images of another one. If images are in many
    containers, a row goes by the container, which one machine then reads from start to end.

    Attributes:
        table: with the shard's rows only.
        is_part: whether other shards have the other rows.
    """

    def __init__(self, whole: Table, shard: Shard) -> None:
        self.table, self.is_part = whole, shard.count > 1
        if self.is_part:
            keys = pack(content_key(os.fsencode(name)) for name in _names(whole, shard.count))
            self._whole, self._rows = whole, np.flatnonzero(shard.has(keys))
            self.table = whole.take(self._rows)

    def whole(self) -> Table:
        """The whole table; images of other shards have no key."""
        if not self.is_part:
            return self.table
        images = np.tile(np.frombuffer(NO_KEY, np.uint8), (len(self._whole), 1))  # (n, 16)
        images[self._rows] = self.table.keys("image")
        captions, *more = map(text_keys, (self._whole.captions, *self._whole.more_captions))
        return replace(self._whole, image_keys=images, caption_keys=captions, more_caption_keys=more)


def _names(table: Table, shards: int) -> list[str]:
    """What decides the shard of each row, (n,)."""
    files = [container_of(path) for path in table.images]
    folder = _folder(table, [path for path in files if path])
    images = files if len({*files}) >= PER_SHARD * shards else table.images
    rows = zip(images, table.captions, strict=True)
    return [image.removeprefix(folder) or caption for image, caption in rows]


def _folder(table: Table, files: Sequence[str]) -> str:
    """The start of all paths that may differ between machines: the data's folder, or what files share."""
    source = Path(table.source)
    folder = f"{source if source.is_dir() else source.parent}{os.sep}"
    if all(path.startswith(folder) for path in files):
        return folder
    return os.path.commonpath([Path(min(files)).parent, Path(max(files)).parent]) + os.sep
