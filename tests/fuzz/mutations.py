"""Ways to break a valid file: its bytes, its lines, its JSON, its HDF5 content."""

import copy
import json

import h5py
import numpy as np

DEEP = "\u0000deep\u0000"  # stands for brackets nested deeper than any parser recurses
ODD_VALUES = [
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**30, 1e308, float("nan"), float("inf"), 0.5,
    "", " ", "a", "0", "\ud800", "\udcff", "\x00", "\x1b[31m", "../../etc/passwd", "/dev/zero",
    "x" * 5000, "é", "NaN",
    "x.tar::y@0+99999999999999999999", "x.parquet::y[99999999999999999999]",
    [], {}, [[]], [None], [1, "a", None], {"a": 1}, {"": None}, [{}], DEEP,
]  # fmt: skip
ODD_TEXTS = [
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b'"', b'""', b"'", b"\r", b"\r\n", b"\n\n", b",", b",,,",
    b"\t", b";",
    b"[" * 3000, b"{" * 3000, b"\\ud800", b"nan", b"-inf", b"1e999", b"9" * 400, b"\x1b]0;x\x07", b"::",
    b"@0+99999", b"\xed\xa0\x80", b" ", b"=", b"null", b"{}", b"[]",
]  # fmt: skip


def of_bytes(rng, content):
    """The content with one to four faults of storage or transport."""
    content = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(content) + 1)
        end = min(len(content), place + rng.choice([1, 2, 8, 64, 1024]))
        match rng.randrange(7):
            case 0:
                del content[place:]
            case 1:
                del content[place:end]
            case 2:
                content[place:end] = rng.randbytes(end - place)
            case 3:
                content[place:end] = bytes([rng.choice([0, 255])]) * (end - place)
            case 4:
                content[place:place] = content[place:end]
            case 5:
                content[place:place] = rng.choice(ODD_TEXTS)
            case 6 if place < len(content):
                content[place] ^= 1 << rng.randrange(8)
    return bytes(content)


def of_lines(rng, content):
    """A text with one to three lines or fields exchanged, repeated, dropped or replaced by odd texts."""
    lines = content.split(b"\n")
    for _ in range(rng.randint(1, 3)):
        row = rng.randrange(len(lines))
        separator = bytes([rng.choice(b",\t =")])
        fields = lines[row].split(separator)
        match rng.randrange(5):
            case 0:
                lines[row] = lines[rng.randrange(len(lines))]
            case 1:
                lines.insert(row, lines[row])
            case 2 if len(lines) > 1:
                del lines[row]
            case 3:
                fields[rng.randrange(len(fields))] = rng.choice(ODD_TEXTS)
                lines[row] = separator.join(fields)
            case 4:
                rng.shuffle(fields)
                lines[row] = separator.join(fields)
    return b"\n".join(lines)


def of_json(rng, tree):
    """The bytes of a JSON text, with one to three values or names replaced, dropped or repeated."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.randint(1, 3)):
        places = list(_places(tree))
        if not places:
            break
        parent, key = rng.choice(places)
        odd = copy.deepcopy(rng.choice(ODD_VALUES))
        match rng.randrange(4):
            case 0 | 1:
                parent[key] = odd
            case 2:
                del parent[key]
            case 3 if isinstance(parent, dict):
                parent[rng.choice(["", "\ud800", "x", "a" * 300])] = odd
            case 3:
                parent.insert(key, odd)
    text = json.dumps(tree).replace(json.dumps(DEEP), "[" * 100_000 + "]" * 100_000)
    return text.encode()


def _places(tree):
    for key in tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield tree, key
        yield from _places(tree[key])


def of_hdf5(rng, path, outside):
    """Change one or two data sets or attributes of an HDF5 file: type, shape, values, links, storage.

    Args:
        outside: a file that no reader may reach through this one.
    """
    with h5py.File(path, "r+") as file:
        names = []
        file.visit(names.append)
        for _ in range(rng.randint(1, 2)):
            target = (
                file
                if rng.random() < 0.2 or not names
                else file[name]
                if (name := rng.choice(names)) in file
                else file
            )
            if target.attrs and rng.random() < 0.4:
                target.attrs[rng.choice(list(target.attrs))] = rng.choice(
                    [1, -1.5, "x", "", [1, 2], np.nan, b"\xff"]
                )
            elif names:
                _replace(rng, file, rng.choice(names), outside)


def _replace(rng, file, name, outside):
    old = np.asarray(file[name][()]) if isinstance(file.get(name), h5py.Dataset) else np.zeros(3)
    if name in file:
        del file[name]
    virtual = h5py.VirtualLayout((3,), "f4")
    virtual[:] = h5py.VirtualSource(str(outside), "x", (3,))
    ways = [
        lambda: file.create_group(name),
        lambda: file.create_dataset(name, (800,), "u1", external=[(str(outside), 0, 800)]),
        lambda: file.create_dataset(name, (10**12,), "f4", chunks=(1024,)),
        lambda: file.create_dataset(name, data=np.zeros(1000), chunks=(10,), compression="gzip"),
        lambda: file.create_virtual_dataset(name, virtual),
    ]
    values = [
        h5py.SoftLink(f"/{name}"),
        h5py.ExternalLink(str(outside), "/x"),
        old.astype("S4") if old.dtype.kind in "iufb" else np.arange(4),
        old.reshape(-1)[: rng.randrange(3)],
        np.full((2, 3, 4), rng.choice([np.nan, -1.0, 1e300])),
        rng.choice([5, "text", 0.5]),
        np.array([file.ref, file.ref], dtype=h5py.ref_dtype),
        np.full(old.shape, 2**62, "i8"),
        np.full(old.shape, np.nan),
    ]
    way = rng.choice([*ways, *values])
    if callable(way):
        way()
    else:
        file[name] = way
