"""HDF5 files of strangers: nothing outside the file is read, and nothing larger than it is allocated."""

import os
import socket
from pathlib import Path

import h5py
import numpy as np
import pytest

from encode_once.cache import DamagedError
from encode_once.cache.format.hdf5 import (
    map_array,
    map_hdf5,
    open_hdf5,
    read_array,
    read_attribute,
    read_texts,
    write_texts,
)


def write(path, change=lambda file: None):
    with h5py.File(path, "w") as file:
        file["group/numbers"] = np.arange(6, dtype="f4").reshape(2, 3)
        file["flags"] = np.array([True, False])
        file["empty"] = np.zeros((0, 16), "u1")
        write_texts(file, "texts", ["a", "bé", ""])
        file.attrs.update({"name": "x", "version": 2})
        change(file)
    return path


def read(path):
    with open_hdf5(path) as file:
        return (
            read_array(file, "group/numbers", "f", (None, 3)).tolist(),
            read_array(file, "flags", "b", (2,)).tolist(),
            read_array(file, "empty", "u", (None, 16)).shape,
            read_texts(file, "texts"),
            read_attribute(file, "name", str),
            read_attribute(file, "version", int),
        )


def test_a_file_of_plain_data_sets_is_read(tmp_path):
    assert read(write(tmp_path / "a.h5")) == (
        [[0, 1, 2], [3, 4, 5]], [True, False], (0, 16), ["a", "bé", ""], "x", 2,
    )  # fmt: skip


def private_memory():
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if "VmData" in line)
    return int(line.split()[1]) << 10


def test_a_mapped_file_does_not_count_as_memory_that_the_process_may_use(tmp_path):
    os.truncate(write(tmp_path / "a.h5"), 1 << 32)  # more than the system may promise
    before = private_memory()
    with map_hdf5(tmp_path / "a.h5") as (file, content):
        flags = map_array(file, "group/numbers", "f", (2, 3), content)
        assert private_memory() - before < 1 << 30
    assert flags.tolist() == [[0, 1, 2], [3, 4, 5]]


def virtual(file):
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (3,))
    file.create_virtual_dataset("v", layout)


def nested(file):
    for _ in range(100):
        file = file.create_group("x")


def unwritten(file):
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.CONTIGUOUS)
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_LATE)
    h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((10**13,)), plist)


ATTACKS = {
    "external storage": lambda file: file.create_dataset("x", (9,), "u1", external=[("/etc/passwd", 0, 9)]),
    "external link": lambda file: file.__setitem__("x", h5py.ExternalLink("other.h5", "/x")),
    "soft link": lambda file: file.__setitem__("x", h5py.SoftLink("/flags")),
    "soft link to itself": lambda file: file.__setitem__("x", h5py.SoftLink("/x")),
    "group in itself": lambda file: file["group"].__setitem__("x", file["group"]),
    "file in itself": lambda file: file["group"].__setitem__("x", file["/"]),
    "two names": lambda file: file.__setitem__("x", file["flags"]),
    "deep groups": nested,
    "virtual": virtual,
    "reference": lambda file: file.__setitem__("x", np.array([file.ref], h5py.ref_dtype)),
    "compressed": lambda file: file.create_dataset("x", data=np.zeros(10**6), compression="gzip"),
    "chunks": lambda file: file.create_dataset("x", (10**12,), "f4", chunks=(1024,)),
    "unwritten": unwritten,
    "compound": lambda file: file.__setitem__("x", np.zeros(3, [("a", "i4"), ("b", "f4")])),
    "opaque": lambda file: file.__setitem__("x", np.zeros(3, "V5")),
    "arrays": lambda file: file.create_dataset("x", (3,), np.dtype(("f4", (5,)))),
    "texts in the heap": lambda file: file.__setitem__("x", ["a", "bcd"]),
    "sequences": lambda file: file.create_dataset("x", (3,), h5py.vlen_dtype(np.int32)),
    "named type": lambda file: file.__setitem__("x", np.dtype("f4")),
    "null": lambda file: file.__setitem__("x", h5py.Empty("f4")),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_file_with_anything_else_is_refused_in_one_line(tmp_path, attack):
    path = write(tmp_path / "a.h5", ATTACKS[attack])
    with pytest.raises(DamagedError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


CHANGES = {
    "another type": lambda file: file.__setitem__("flags", np.zeros(2)),
    "another length": lambda file: file.__setitem__("flags", np.zeros(3, bool)),
    "another rank": lambda file: file.__setitem__("flags", np.zeros((2, 1), bool)),
    "a group": lambda file: file.create_group("flags"),
    "nothing": lambda file: None,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_data_set_of_another_type_or_shape_is_refused(tmp_path, change):
    def replace(file):
        del file["flags"]
        CHANGES[change](file)

    with pytest.raises(DamagedError, match=r"a\.h5.*flags"):
        read(write(tmp_path / "a.h5", replace))


@pytest.mark.parametrize("value", [1, "x", [1], ["x"], 1.5, np.array([], "i4"), h5py.Empty("i4")], ids=str)
def test_an_attribute_of_another_type_is_refused(tmp_path, value):
    name = "name" if not isinstance(value, str) else "version"
    path = write(tmp_path / "a.h5", lambda file: file.attrs.__setitem__(name, value))
    with pytest.raises(DamagedError, match=f"a\\.h5.*{name}"):
        read(path)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (os.mkfifo, "pipe"),
        (os.mkdir, "folder"),
        (lambda path: path.symlink_to(write(path.with_name("b.h5"))), "symbolic link"),
        (lambda path: path.symlink_to("/dev/zero"), "symbolic link"),
        (make_socket, "opened"),
    ],
    ids=["pipe", "folder", "link to a file", "link to a device", "socket"],
)  # fmt: skip
def test_only_regular_files_are_opened(tmp_path, monkeypatch, make, kind):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "a.h5")
    with pytest.raises(OSError, match=rf"a\.h5.*{kind}"):
        read(tmp_path / "a.h5")


def test_devices_are_not_opened(tmp_path):
    with pytest.raises(DamagedError, match="device"):
        read(tmp_path / "/dev/zero")


@pytest.mark.parametrize("content", [b"", b"x" * 5000, b"\x89HDF\r\n\x1a\n" + bytes(500), "cut"])
def test_other_files_are_refused(tmp_path, content):
    path = write(tmp_path / "a.h5")
    path.write_bytes(path.read_bytes()[:3000] if content == "cut" else content)
    with pytest.raises(DamagedError):
        read(path)
