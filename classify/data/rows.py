"""Which rows are the same: one definition for splits, evaluation on other data, comparisons and audits.

Two rows are the same if they have the same image or, without images, the same first caption. Ids, labels and
further captions do not matter: an edited caption does not make another row of an image.
"""

import json
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from encode_once.cache import Keys, Table, content_key
from encode_once.cache.keys import KEY_BYTES, pack, present
from encode_once.classify.arrays import RowIndex


def content_keys(table: Table) -> Keys:
    """A key for each row, (n, 16): equal for the same row; `NO_KEY` for a row without image and caption."""
    images = table.keys("image")
    return np.where(present(images)[:, None], images, table.keys("caption"))


def content_order(keys: Keys, ids: Sequence[str]) -> RowIndex:
    """An order of rows, (n,), that depends on their contents alone; ids decide between equal contents."""
    contents = [key.tobytes() for key in keys]
    return np.array(sorted(range(len(keys)), key=lambda row: (contents[row], ids[row])), np.intp)


def match(
    keys: Keys, names: Sequence[Hashable], other_keys: Keys, other_names: Sequence[Hashable]
) -> RowIndex:
    """The position of each of n rows among m others, by content keys (n, 16) and (m, 16); -1 if it is absent.

    No two rows get the same position. Of several rows with the same content, those of equal names are
    matched first, then the rest in order.
    """
    positions = np.full(len(keys), -1)
    contents = [key.tobytes() for key in keys]
    other_contents = [key.tobytes() for key in other_keys]
    _match(positions, [*zip(contents, names, strict=True)], zip(other_contents, other_names, strict=True))
    _match(positions, contents, other_contents)
    return positions


def _match(positions: RowIndex, values: Sequence[Hashable], others: Iterable[Hashable]) -> None:
    """Fill in the positions (n,) that are still -1 with those of equal values that are still free."""
    taken = set(positions.tolist())
    free: defaultdict[Hashable, list[int]] = defaultdict(list)
    for position, value in enumerate(others):
        if position not in taken:
            free[value].append(position)
    for candidates in free.values():
        candidates.reverse()
    for row in np.flatnonzero(positions < 0).tolist():
        if free[values[row]]:
            positions[row] = free[values[row]].pop()


def part_keys(table: Table) -> dict[str, str]:
    """A hash of each part of a table, by which a later one is compared with it."""
    labels = [table.labels, table.unknown] if table.unknown else table.labels
    texts = {"ids": table.ids, "labels": labels, "columns": table.columns}
    contents = {"images": table.keys("image"), "captions": table.all_keys("caption")}
    return {
        **{
            part: content_key(json.dumps(value, sort_keys=True).encode()).hex()
            for part, value in texts.items()
        },
        **{part: content_key(keys.tobytes()).hex() for part, keys in contents.items()},
    }


def image_and_caption_keys(table: Table) -> Keys:
    """A key, (n, 16), of a row's image and all its captions.

    It identifies the contents of a table, in which any edit counts; use `content_keys` to compare rows.
    """
    captions = table.all_keys("caption")
    contents = np.concatenate([table.keys("image"), *captions], axis=1)  # (n, (1 + k) 16)
    # Trailing captions that only other rows have are left out; the first caption always counts.
    ends = KEY_BYTES * (1 + np.maximum(captions.any(axis=2).sum(axis=0), 1))
    return pack(content_key(row[:end].tobytes()) for row, end in zip(contents, ends.tolist(), strict=True))
