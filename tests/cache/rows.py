"""Rows and tables for the tests of stores, and ways to damage files."""

import numpy as np

from encode_once.cache import Table, content_key
from encode_once.cache.format.header import read_stamp, write_stamp
from encode_once.cache.format.part import KIND
from encode_once.cache.keys import pack

SPEC = {"modality": "image", "weights": "w"}
KEYS = pack(content_key(bytes([row])) for row in range(20))
VALUES = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float16)


def fill(store, rows, name="e/o", spec=SPEC, part_rows=4):
    """Write rows to a feature, in several parts."""
    feature = store.declare(name, spec)
    rows = np.asarray(rows)
    for start in range(0, len(rows), part_rows):
        with feature.writer(part_rows) as writer:
            batch = rows[start : start + part_rows]
            writer.append(KEYS[batch], VALUES[batch])
    return feature


def save_table(store, rows, name="t"):
    """Save a table of the contents of these rows."""
    ids = [str(row) for row in rows]
    keys = KEYS[np.asarray(rows)]
    store.save(Table(f"/{name}/train.csv", ids, ids, ids, None, image_keys=keys, caption_keys=keys * 0))


def craft(part, **changes):
    """Change the stamp of a part, with the right digest."""
    stamp = read_stamp(part, KIND)
    with part.open("r+b") as file:
        write_stamp(file.fileno(), stamp | changes)


def flip(path, at, mask=1):
    """Flip bits of the byte at this place of a file; a negative place counts from the end."""
    with path.open("r+b") as file:
        file.seek(at, 0 if at >= 0 else 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ mask]))
