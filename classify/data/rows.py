"""Which rows are the same: one definition for splits, evaluation on other data, comparisons and audits.

Two rows are the same if they have the same image or, without images, the same first caption. Ids, labels and
further captions do not matter: an edited caption does not make another row of an image.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encode_once.cache import Keys, Table, content_key
from encode_once.cache.keys import KEY_BYTES, KeyIndex, pack, present
from encode_once.cache.packed_columns import PackedColumn, taken
from encode_once.classify.arrays import RowIndex

PIECE = 10_000  # entries of a list that are written as JSON at a time


def content_keys(table: Table) -> Keys:
    """A key for each row, (n, 16): equal for the same row; `NO_KEY` for a row without image and caption."""
    images = table.keys("image")
    return np.where(present(images)[:, None], images, table.keys("caption"))


def content_order(keys: Keys, ids: Sequence[str]) -> RowIndex:
    """An order of rows, (n,), that depends on their contents alone; ids decide between equal contents."""
    halves = np.ascontiguousarray(keys).view(">u8").reshape(-1, 2)  # (n, 2), which compare as the bytes do
    order = np.lexsort((halves[:, 1], halves[:, 0]))
    for start, end in equal_runs(keys[order]):
        order[start:end] = sorted(order[start:end].tolist(), key=ids.__getitem__)
    return order


def equal_runs(ordered: Keys) -> NDArray[np.intp]:
    """The start and end of each run of two equal keys or more, (r, 2), of keys (n, 16) in any order."""
    is_equal = np.zeros(len(ordered) + 1, np.bool_)
    is_equal[1:-1] = (ordered[1:] == ordered[:-1]).all(axis=1)  # to the key before
    starts = np.flatnonzero(~is_equal[:-1] & is_equal[1:])
    ends = np.flatnonzero(is_equal[:-1] & ~is_equal[1:]) + 1
    return np.stack([starts, ends], axis=1)


def match(
    keys: Keys, names: Sequence[Hashable], other_keys: Keys, other_names: Sequence[Hashable]
) -> RowIndex:
    """The position of each of n rows among m others, by content keys (n, 16) and (m, 16); -1 if it is absent.

    No two rows get the same position. Of several rows with the same content, those of equal names are
    matched first, then the rest in order.
    """
    positions = KeyIndex(other_keys).find(keys)
    is_repeated = np.append(_are_repeated(other_keys), False)[positions] | _are_repeated(keys)
    rows = np.flatnonzero(is_repeated & (positions >= 0))  # of all others, the position is right
    others = np.flatnonzero(KeyIndex(keys[rows]).find(other_keys) >= 0)
    contents = [key.tobytes() for key in keys[rows]]
    other_contents = [key.tobytes() for key in other_keys[others]]
    of_rows = np.full(len(rows), -1)
    pairs = zip(other_contents, taken(other_names, others), strict=True)
    _match(of_rows, [*zip(contents, taken(names, rows), strict=True)], pairs)
    _match(of_rows, contents, other_contents)
    positions[rows] = np.append(others, -1)[of_rows]
    return positions


def _are_repeated(keys: Keys) -> NDArray[np.bool_]:
    """Whether each key is that of several rows, (n,)."""
    first = KeyIndex(keys).find(keys)
    return np.asarray(np.bincount(first, minlength=len(keys))[first] > 1)


def _match(positions: RowIndex, values: Sequence[Hashable], others: Iterable[Hashable]) -> None:
    """Fill in the positions (n,) that are still -1 with those of equal values that are still free."""
    used = set(positions.tolist())
    free: defaultdict[Hashable, list[int]] = defaultdict(list)
    for position, value in enumerate(others):
        if position not in used:
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
        **{part: json_key(value).hex() for part, value in texts.items()},
        **{part: content_key(keys.tobytes()).hex() for part, keys in contents.items()},
    }


def json_key(value: Any) -> bytes:
    """The content key of a value as JSON with sorted keys, of which only a piece at a time is in memory."""
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    for piece in _json_pieces(value):
        digest.update(piece.encode())
    return digest.digest()


def _json_pieces(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for number, (name, entry) in enumerate(sorted(value.items())):
            yield f"{', ' if number else '{'}{json.dumps(name)}: "
            yield from _json_pieces(entry)
        yield "}" if value else "{}"
    elif isinstance(value, Sequence) and not isinstance(value, str):
        items, comma = iter(value), ""
        yield "["
        while piece := [*islice(items, PIECE)]:
            yield comma
            if any(isinstance(item, PackedColumn) for item in piece):
                for number, item in enumerate(piece):
                    yield ", " if number else ""
                    yield from _json_pieces(item)
            else:
                yield json.dumps(piece, sort_keys=True)[1:-1]
            comma = ", "
        yield "]"
    else:
        yield json.dumps(value)


def image_and_caption_keys(table: Table) -> Keys:
    """A key, (n, 16), of a row's image and all its captions.

    It identifies the contents of a table, in which any edit counts; use `content_keys` to compare rows.
    """
    captions = table.all_keys("caption")
    contents = np.concatenate([table.keys("image"), *captions], axis=1)  # (n, (1 + k) 16)
    # Trailing captions that only other rows have are left out; the first caption always counts.
    ends = KEY_BYTES * (1 + np.maximum(captions.any(axis=2).sum(axis=0), 1))
    return pack(content_key(row[:end].tobytes()) for row, end in zip(contents, ends.tolist(), strict=True))
