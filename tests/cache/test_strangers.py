"""Stores from strangers: a crafted file is one line of `list` and `verify`, and `--repair` sets it aside."""

import json
import os
import shutil
import sqlite3
from contextlib import closing

import h5py
import numpy as np
import pytest

from encode_once.cache import EncodeOnceError, Failure, Store, content_key, describe
from encode_once.cache.format.header import checksum, read_stamp, stamp_whole
from encode_once.cache.maintenance import repair, verify
from encode_once.cache.source_files import SourceFile
from encode_once.cache.table import KIND, WITH_HEADER, Table
from tests.cache.rows import KEYS, VALUES, craft, fill

TABLE = KIND[0], WITH_HEADER  # the version of tables without unknown labels
NESTED = "[" * 100_000 + "]" * 100_000


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("whole") / "store")
    fill(store, range(12), part_rows=12)
    fill(store, range(4), "f/o")
    store.feature("e/o").record_failures([Failure(content_key(b"bad").hex(), "empty", "", "bad.jpg")])
    labels = [("a",), ("b", "c")] * 6
    rows = [*map(str, range(12))]
    store.save(Table("/t/train.csv", rows, rows, rows, labels, image_keys=KEYS[:12], caption_keys=KEYS[:12]))
    store.files.remember([("/a.jpg", (1, 2), content_key(b"a"))])
    return store.path


@pytest.fixture
def path(whole, tmp_path):
    """The path of a store with every kind of file."""
    return shutil.copytree(whole, tmp_path / "store")


def file_of(path, pattern):
    (file,) = path.glob(pattern)
    return file


def check_named_and_set_aside(path, file):
    """`list` and `verify` name the file in one line; after `--repair`, the store is sound."""
    name = file.name.removesuffix(".h5")
    store = Store(path)
    problems = verify(store)
    assert len(problems) == 1, problems
    assert name in problems[0]
    assert "\n" not in problems[0]
    listing = describe.listing(describe.contents(store))
    repair(store)
    assert verify(Store(path)) == []
    assert "f/o" in listing
    np.testing.assert_array_equal(Store(path).feature("f/o").read(KEYS[:4]), VALUES[:4])


# parts ------------------------------------------------------------


def write_slots(path, text):
    """Write a stamp of any text, with the right digest."""
    content = text.encode().ljust(4096 - 18 - 34) + b"\n"
    slot = b"encode-once stamp " + content_key(content).hex().encode() + b"\n" + content
    with path.open("r+b") as file:
        file.write(slot * 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": 10**15},
        {"commit": "x"},
        {"commit": [1]},
        {"commit": 1e400},
        {"vectors": 0},
        {"vectors": 10**15},
        {"shape": {"rows": 12, "vectors": 12, "dim": 0, "dtype": "<f2", "ragged": False}},
        {"shape": {"rows": 12, "vectors": 12, "dim": 8.0, "dtype": "<f2", "ragged": False}},
        {"places": []},
        {"feature": None},
        {"checksums": {"keys": 1}},
    ],
    ids=str,
)
def test_a_crafted_part(path, changes):
    part = file_of(path, "features/e/o/*.h5")
    craft(part, **changes)
    check_named_and_set_aside(path, part)


@pytest.mark.parametrize(
    "text", ["[" * 4000, '{"a":' * 600, "[]", "nan", "9" * 4000, "{}"], ids=lambda text: text[:5]
)
def test_a_part_whose_stamp_is_no_object(path, text):
    part = file_of(path, "features/e/o/*.h5")
    write_slots(part, text)
    if text == "{}":  # of another format: it is not ours to set aside
        assert len(verify(Store(path))) == 1
    else:
        check_named_and_set_aside(path, part)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
@pytest.mark.parametrize("pattern", ["features/e/o/*.h5", "tables/*.h5"])
def test_a_pipe_a_folder_or_a_link_in_place_of_a_part_or_table(path, pattern, make):
    file = file_of(path, pattern)
    file.unlink()
    make(file)
    check_named_and_set_aside(path, file)


# tables ------------------------------------------------------------


def change_table(path, change):
    table = file_of(path, "tables/*.h5")
    header = read_stamp(table, TABLE)["header"]
    with h5py.File(table, "r+") as file:
        change(file)
    stamp_whole(table, TABLE, {"header": header})
    return table


def replaced(name, value):
    def change(file):
        del file[name]
        file[name] = value

    return change


def external(file):
    del file["ids"]
    size = os.path.getsize("/etc/passwd")
    group = file.create_group("ids")
    group.create_dataset("bytes", shape=(size,), dtype="u1", external=[("/etc/passwd", 0, size)])
    group["offsets"] = np.linspace(0, size, 13).astype("u8")


def declared(shape):
    def change(file):
        del file["ids/bytes"]
        file.create_dataset("ids/bytes", shape, "u1", chunks=(1024,))

    return change


TABLES = {
    "external storage": external,
    "external link": replaced("ids", h5py.ExternalLink("other.h5", "/ids")),
    "soft link to itself": replaced("ids", h5py.SoftLink("/ids")),
    "1e15 bytes": declared((10**15,)),
    "12e9 bytes": declared((12 * 10**9,)),
    "source is an array": lambda file: file.attrs.__setitem__("source", [1, 2]),
    "source is a reference": lambda file: file.attrs.__setitem__("source", file.ref),
    "version is a text": lambda file: file.attrs.__setitem__("version", "x"),
    "label numbers out of range": replaced("labels/numbers", np.full(18, 99, "u4")),
    "negative label numbers": replaced("labels/numbers", np.full(18, -1, "i4")),
    "label numbers are texts": replaced("labels/numbers", ["x"] * 18),
    "offsets of rank 2": replaced("ids/offsets", np.zeros((13, 1), "u8")),
    "no offsets": replaced("ids/offsets", np.zeros(0, "u8")),
    "offsets of 1e18": replaced("ids/offsets", np.full(13, 10**18, "u8")),
    "falling offsets": replaced("labels/offsets", np.arange(13, dtype="u8")[::-1]),
    "keys of 3 rows": replaced("image_keys", np.zeros((3, 16), "u1")),
    "keys are floats": replaced("image_keys", np.zeros((12, 16), "f4")),
    "keys are longer": replaced("image_keys", np.zeros((12, 16), "u4")),
    "captions of 3 rows": replaced("captions/offsets", np.array([0, 1, 2, 14], "u8")),
    "no captions": lambda file: file.__delitem__("captions"),
    "ids are a data set": replaced("ids", np.zeros(3)),
}


@pytest.mark.parametrize("attack", TABLES)
def test_a_crafted_table(path, attack):
    check_named_and_set_aside(path, change_table(path, TABLES[attack]))


@pytest.mark.parametrize(
    "text", [NESTED, "[]", "{", '{"rows": "x"}', '{"source": 1, "split": "", "rows": 1, "labelled": true}']
)
def test_a_crafted_header_of_a_table(path, text):
    table = file_of(path, "tables/*.h5")
    content = bytearray(table.read_bytes())
    text = text[:50_000].encode()
    table.write_bytes(content[:8192] + text + bytes(60_000))
    stamp_whole(table, TABLE, {"header": {"bytes": len(text), "checksum": checksum(text)}})
    with pytest.raises(EncodeOnceError, match="tables"):
        Store(path).headers()
    repair(Store(path))
    assert Store(path).headers() == []


@pytest.mark.parametrize(
    "place", [None, {}, {"bytes": -1, "checksum": ""}, {"bytes": 1e30, "checksum": ""}], ids=str
)
def test_a_crafted_place_of_a_header(path, place):
    table = file_of(path, "tables/*.h5")
    stamp_whole(table, TABLE, {"header": place})
    with pytest.raises(EncodeOnceError, match="tables"):
        Store(path).headers()


# small files ------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda record: NESTED,
        lambda record: "[]",
        lambda record: json.dumps(record | {"created": 5}),
        lambda record: json.dumps(record | {"provenance": {"torch": 1}}),
        lambda record: json.dumps(record | {"spec": None}),
        lambda record: json.dumps(record | {"more": 1}),
        lambda record: json.dumps({"key": record["key"]}),
        lambda record: "\x00" * 5000,
        lambda record: '"\\ud800"',
        lambda record: "9" * 5000,
    ],
)
def test_a_crafted_spec(path, change):
    spec = path / "features/e/o/spec.json"
    spec.write_text(change(json.loads(spec.read_text())))
    check_named_and_set_aside(path, spec)


@pytest.mark.parametrize(
    "content", [NESTED, "9" * 5000, "", "null", '{"format": "encode-once store", "version": []}']
)
def test_a_crafted_store_json(path, content):
    (path / "store.json").write_text(content)
    with pytest.raises(EncodeOnceError, match=r"store\.json") as caught:
        Store(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("version", ['"2"', "2.0", "true", "[2]"])
def test_a_version_that_is_no_number_is_not_taken_for_a_newer_one(path, version):
    (path / "store.json").write_text(f'{{"format": "encode-once store", "version": {version}}}')
    with pytest.raises(EncodeOnceError, match="not a version number"):
        Store(path)


@pytest.mark.parametrize(
    "line", [NESTED, "9" * 5000, "x" * 3_000_000, '{"key": 1}', "[1]", '{"key": "\\ud800"}']
)
def test_a_crafted_line_of_failures_is_skipped(path, line):
    journal = path / "features/e/o/failures.jsonl"
    with journal.open("a") as file:
        file.write(line + "\n")
    assert list(Store(path).feature("e/o").failures()) == [content_key(b"bad")]
    assert verify(Store(path)) == []


@pytest.mark.parametrize("target", ["victim", "/dev/zero", "pipe"])
def test_failures_are_neither_read_nor_written_through_a_link(path, tmp_path, target):
    journal, victim = path / "features/e/o/failures.jsonl", tmp_path / "victim"
    victim.write_text("precious")
    journal.unlink()
    if target == "pipe":
        os.mkfifo(journal)
    else:
        journal.symlink_to(tmp_path / target)
    with pytest.raises(EncodeOnceError, match=r"failures\.jsonl"):
        Store(path).feature("e/o").record_failures([Failure(content_key(b"x").hex(), "empty", "", "x.jpg")])
    assert victim.read_text() == "precious"
    check_named_and_set_aside(path, journal)


@pytest.mark.parametrize("name", ["0-of-1.owner", "spec.json", "0-of-1.lock"])
def test_bookkeeping_is_not_written_through_a_link(path, tmp_path, name):
    victim = tmp_path / "victim"
    file = path / "features/e/o" / name
    victim.write_bytes(file.read_bytes() if file.exists() else b"precious")
    before = victim.read_bytes()
    file.unlink(missing_ok=True)
    file.symlink_to(victim)
    try:
        feature = Store(path).feature("e/o")
        feature.add_provenance({"torch": "10"})
        with feature.writer(1) as writer:
            writer.append(KEYS[12:13], VALUES[12:13])
    except EncodeOnceError as error:
        assert name in str(error)
    assert victim.read_bytes() == before


def test_a_temporary_file_is_not_written_through_a_link(path, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (path / f"features/e/o/spec.json.{os.getpid()}.tmp").symlink_to(victim)
    Store(path).feature("e/o").add_provenance({"torch": "10"})
    assert victim.read_text() == "precious"


# files.sqlite ------------------------------------------------------------

VIEW = (
    "create view keys_of_files as with recursive n(i) as (select 1 union all select i + 1 from n) "
    "select i as path, i as size, i as mtime_ns, i as key, i as checksum from n"
)


def run_sql(path, *statements):
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize(
    "statements",
    [
        ("drop table keys_of_files", VIEW),
        ("drop table keys_of_files", "create table keys_of_files (a)"),
        ("create trigger t before insert on keys_of_files begin delete from keys_of_files; end",),
        ("create table other (a)",),
    ],
    ids=["view", "other columns", "trigger", "another table"],
)
def test_an_index_of_another_schema_is_reported_and_made_again(path, statements):
    index = path / "files.sqlite"
    run_sql(index, *statements)
    assert [str(index) in line for line in verify(Store(path))] == [True]
    assert Store(path, read_only=True).files.find({"/a.jpg": (1, 2)}) == {}
    files = Store(path).files
    assert files.find({"/a.jpg": (1, 2)}) == {}
    files.remember([("/a.jpg", (1, 2), content_key(b"a"))])
    assert files.find({"/a.jpg": (1, 2)}) == {"/a.jpg": content_key(b"a")}
    assert verify(Store(path)) == []


def test_an_index_whose_schema_is_not_text_is_reported_and_made_again(path):
    index = path / "files.sqlite"
    content = index.read_bytes()
    index.write_bytes(content.replace(b"WITHOUT ROWID", b"WITHOUT \xff\xfe\xfd\xfc\xfb"))
    assert [str(index) in line for line in verify(Store(path))] == [True]
    files = Store(path).files
    files.remember([("/a.jpg", (1, 2), content_key(b"a"))])
    assert files.find({"/a.jpg": (1, 2)}) == {"/a.jpg": content_key(b"a")}
    assert verify(Store(path)) == []


@pytest.mark.parametrize("value", ["0", "1.5", "'x'", "x''", "zeroblob(5000000)"])
@pytest.mark.parametrize("column", ["path", "size", "mtime_ns", "key"])
def test_a_value_of_another_type_in_the_index_is_skipped(path, column, value):
    run_sql(path / "files.sqlite", f"update keys_of_files set {column} = {value}, checksum = x''")
    assert Store(path).files.find({"/a.jpg": (1, 2)}) == {}


@pytest.mark.parametrize("suffix", ["", "-journal", "-wal"])
def test_the_index_is_not_written_through_a_link(path, tmp_path, suffix):
    victim = tmp_path / "victim"
    victim.write_bytes(bytes(5000))
    (path / f"files.sqlite{suffix}").unlink(missing_ok=True)
    (path / f"files.sqlite{suffix}").symlink_to(victim)
    with pytest.raises(EncodeOnceError, match=rf"files\.sqlite{suffix} is a symbolic link"):
        Store(path).files.remember([("/b.jpg", (1, 2), content_key(b"b"))])
    assert victim.read_bytes() == bytes(5000)
    assert any("symbolic link" in line for line in verify(Store(path)))


# folders ------------------------------------------------------------


@pytest.mark.parametrize("folder", ["features/e/o", "features/e", "features", "tables"])
def test_a_folder_that_is_a_link_is_reported(path, tmp_path, folder):
    (path / folder).rename(tmp_path / "elsewhere")
    (path / folder).symlink_to(tmp_path / "elsewhere")
    store = Store(path)
    assert any(f"{folder} is a symbolic link" in line for line in verify(store))
    assert f"{folder} is a symbolic link" in describe.listing(describe.contents(store))
    if folder != "tables":
        with pytest.raises(EncodeOnceError):
            store.declare("e/o", {"modality": "image", "weights": "w"})


def test_a_folder_that_cannot_be_read_is_reported(path, monkeypatch):
    """As for another user than root."""
    original = os.scandir

    def scandir(at):
        if str(at).endswith("features/e"):
            raise PermissionError(13, "Permission denied", str(at))
        return original(at)

    monkeypatch.setattr(os, "scandir", scandir)
    assert Store(path).features() == ["f/o"]
    assert any("features/e cannot be read (Permission denied)" in line for line in Store(path).problems())


def test_a_stray_folder_is_named_as_that(path):
    shutil.copytree(path / "features/e/o", path / "features/a b/mean")
    (line,) = verify(Store(path))
    assert "a b/mean is not the folder of a feature" in line
    assert Store(path).features() == ["e/o", "f/o"]


@pytest.mark.parametrize(
    "source", ["/dev/zero", "pipe", "/nowhere", "a\0b", "x" * 5000, "", "/proc/self/mem"]
)
def test_a_crafted_source_of_a_table_is_not_waited_for(path, tmp_path, source):
    os.mkfifo(tmp_path / "pipe")
    source = str(tmp_path / source) if source == "pipe" else source
    table = Store(path).tables()[0]
    Store(path).save(table, [SourceFile(source, 5, 5, "00" * 16)])
    assert not Store(path).is_outdated(table)
