"""A store at a URL: it reads and writes as a folder does, from several machines, and loses nothing."""

import json
import pickle
import shutil
import time
from concurrent.futures import wait
from threading import Event, Thread

import fsspec
import numpy as np
import pytest

from encode_once.cache import (
    DamagedError,
    Failure,
    RemoteError,
    Shard,
    SpecMismatchError,
    Store,
    StoreBusyError,
    StoreError,
    Table,
)
from encode_once.cache.doctor import stored
from encode_once.cache.doctor.machine import checks as checks_of_machine
from encode_once.cache.feature import JOURNAL
from encode_once.cache.maintenance import compact, drop_feature, repair, verify
from encode_once.cache.merge import merge
from encode_once.cache.remote import mirror, parts
from encode_once.cache.remote.folder import RemoteFolder
from tests.cache.rows import KEYS, SPEC, VALUES, fill, flip, save_table


@pytest.fixture(params=["memory", pytest.param("bucket", marks=pytest.mark.slow)])
def url(request):
    return f"{request.getfixturevalue(request.param)}/store"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A function that goes on as on a machine of that name: with local copies of its own."""

    def go_to(name):
        monkeypatch.setenv("ENCODE_ONCE_STORE_CACHE", str(tmp_path / name))
        monkeypatch.setattr("socket.gethostname", lambda: name)
        return tmp_path / name

    go_to("first")
    return go_to


@pytest.fixture
def heads(monkeypatch):
    """Every part has a head, and the files are that small."""
    monkeypatch.setattr(parts, "SMALL", 8192)


def files(url):
    return RemoteFolder(url).list()


def unreachable(self, name, file):
    raise RemoteError(f"{self.url} cannot be reached")


def part_files(url):
    return [name for name in files(url) if name.endswith(".h5") and name.startswith("features/")]


def vectors_here(folder):
    return [path for path in folder.rglob("features/**/*.h5") if not parts.is_head(path)]


def test_what_one_machine_writes_another_reads(url, machine, heads):
    store = Store(url)
    fill(store, range(10))
    save_table(store, range(10))
    store.feature("e/o").record_failures([Failure("ff" * 16, "empty", "no bytes", "x.png")])
    store.upload()
    folder = machine("second")
    other = Store(url)
    assert (other.features(), other.location, repr(other)) == (["e/o"], url, f"Store({url!r})")
    feature = other.feature("e/o")
    assert (len(feature), [*feature.failures()]) == (10, [b"\xff" * 16])
    assert vectors_here(folder) == []
    assert np.array_equal(feature.read(KEYS[3:6]), VALUES[3:6])
    assert len(vectors_here(folder)) == 2  # the parts of rows 0 to 3 and 4 to 7
    assert other.tables()[0].ids == store.tables()[0].ids
    assert verify(other) == []
    assert len(pickle.loads(pickle.dumps(other)).feature("e/o")) == 10


def test_the_objects_are_a_store_for_every_other_program(url, machine, tmp_path):
    fill(Store(url), range(10))
    save_table(Store(url), range(10))
    fsspec.filesystem(url.partition(":")[0]).get(url, str(tmp_path / "copy"), recursive=True)
    shutil.rmtree(tmp_path / "copy" / "claims")
    copy = Store(tmp_path / "copy", read_only=True)
    assert verify(copy) == []
    assert np.array_equal(copy.feature("e/o").read(KEYS[:10]), VALUES[:10])


def test_shards_of_two_machines_fill_one_store(memory, machine):
    first = Store(memory)
    feature = first.declare("e/o", SPEC)
    with feature.writer(8, Shard(0, 2)) as writer:
        writer.append(KEYS[:8], VALUES[:8])
        machine("second")
        with Store(memory).declare("e/o", SPEC).writer(8, Shard(1, 2)) as other:
            other.append(KEYS[8:16], VALUES[8:16])
    machine("third")
    assert np.array_equal(Store(memory).feature("e/o").read(KEYS[:16]), VALUES[:16])


def test_of_two_machines_that_write_one_shard_one_is_refused(memory, machine, monkeypatch):
    monkeypatch.setattr("encode_once.cache.remote.claims.RENEW_SECONDS", 0.02)
    monkeypatch.setattr("encode_once.cache.remote.claims.POLL_SECONDS", 0.02)
    with Store(memory).declare("e/o", SPEC).writer(8):
        machine("second")
        with (
            pytest.raises(StoreBusyError, match=r"writing e/o in memory:.* on first since .*--shard"),
            Store(memory).feature("e/o").writer(8),
        ):
            pass


def test_a_writer_knows_the_rows_that_another_machine_wrote_since_it_opened_the_store(memory, machine):
    early = Store(memory).declare("e/o", SPEC)
    machine("second")
    fill(Store(memory), range(8))
    machine("first")
    with early.writer(12) as writer:
        writer.append(KEYS[:12], VALUES[:12])
    assert sum(part.rows for part in Store(memory).feature("e/o").parts) == 12


def test_another_spec_of_another_machine_is_refused(memory, machine):
    store = Store(memory)
    machine("second")
    Store(memory).declare("e/o", SPEC | {"weights": "other"})
    with pytest.raises(SpecMismatchError, match="weights"):
        store.declare("e/o", SPEC)
    assert json.loads(RemoteFolder(memory).read("features/e/o/spec.json"))["spec"]["weights"] == "other"


def test_the_spec_of_a_machine_that_has_not_sent_its_rows_yet_stays(memory, machine):
    with Store(memory).declare("e/o", SPEC).writer(4) as writer:
        writer.append(KEYS[:4], VALUES[:4])
        machine("second")
        with pytest.raises(SpecMismatchError, match="weights"):
            Store(memory).declare("e/o", SPEC | {"weights": "other"})
    machine("third")
    assert len(Store(memory).feature("e/o")) == 4


def test_failures_of_any_number_are_sent_once_each_and_read(memory, machine, monkeypatch):
    monkeypatch.setattr(mirror, "JSON_BYTES", 3000)
    failures = [Failure(f"{number:032x}", "empty", "x" * 200, "") for number in range(20)]
    store = Store(memory)
    for _ in range(3):
        store.declare("e/o", SPEC).record_failures(failures)
    store.upload()
    assert files(memory)["features/e/o/failures.jsonl"].size > 3000
    assert len(RemoteFolder(memory).read("features/e/o/failures.jsonl").splitlines()) == 20
    machine("second")
    assert len(Store(memory).feature("e/o").failures()) == 20


def test_failures_of_two_threads_are_kept_while_those_of_another_machine_are_fetched(
    memory, machine, monkeypatch
):
    store = Store(memory)
    feature = store.declare("e/o", SPEC)
    feature.record_failures([Failure("aa" * 16, "empty", "", "")])
    store.upload()
    machine("second")
    Store(memory).feature("e/o").record_failures([Failure("bb" * 16, "empty", "", "")])
    Store(memory).upload()
    machine("first")
    write, threads = mirror.write_failures, []

    def slow(path, failures):
        threads.append(Thread(target=feature.record_failures, args=([Failure("cc" * 16, "empty", "", "")],)))
        threads[-1].start()
        time.sleep(0.05)
        write(path, failures)

    feature.record_failures([Failure("dd" * 16, "empty", "", "")])
    monkeypatch.setattr(mirror, "write_failures", slow)
    store.mirror.pull("features/e/o/")
    threads[0].join()
    assert {key[:1].hex() for key in feature.failures()} == {"aa", "bb", "cc", "dd"}


def test_two_processes_that_fetch_parts_at_once_read_the_same_files(memory, machine, heads, monkeypatch):
    fill(Store(memory), range(8))
    machine("second")
    first, second = Store(memory), Store(memory)
    fetch, is_open = parts.PartCache.fetch, Event()

    def late(self, name, file):
        if self is second.mirror.parts:
            is_open.wait(5)
        else:
            for new in to_start:  # the first of several threads
                new.start()
            time.sleep(0.05)
        fetch(self, name, file)

    thread = Thread(target=second.feature, args=["e/o"])
    to_start = iter([thread])
    monkeypatch.setattr(parts.PartCache, "fetch", late)
    feature = first.feature("e/o")
    is_open.set()
    thread.join()
    assert np.array_equal(feature.read(KEYS[:8]), VALUES[:8])
    assert np.array_equal(second.feature("e/o").read(KEYS[:8]), VALUES[:8])


def test_tables_are_fetched_when_they_are_read(memory, machine):
    save_table(Store(memory), range(10))
    folder = machine("second")
    store = Store(memory)
    assert not [*folder.rglob("tables/*.h5")]
    header = store.headers()[0]
    machine("first")
    save_table(Store(memory), range(10), "u")
    assert len(store.load(header)) == 10
    assert len(Store(memory).tables()) == 2


def test_a_feature_can_be_pickled_while_parts_are_sent(memory, machine, monkeypatch):
    monkeypatch.setenv("ENCODE_ONCE_UPLOAD_SECONDS", "0")
    monkeypatch.setattr(mirror, "SHARE", 0)
    feature = Store(memory).declare("e/o", SPEC)
    with feature.writer(8) as writer:
        writer.append(KEYS[:4], VALUES[:4])
        assert len(pickle.loads(pickle.dumps(feature))) in (0, 4)
    assert np.array_equal(pickle.loads(pickle.dumps(feature)).read(KEYS[:4]), VALUES[:4])


def test_tables_and_failures_of_two_machines_are_joined(memory, machine):
    def save(rows):
        keys = np.where(np.isin(np.arange(8), rows)[:, None], KEYS[:8], 0).astype(np.uint8)
        ids = [str(row) for row in range(8)]
        store.save(
            Table("/t/train.csv", ids, ids, ids, None, image_keys=keys, caption_keys=keys * 0), is_shard=True
        )
        store.declare("e/o", SPEC).record_failures([Failure(f"{rows[0]:032}", "empty", "", "")])

    store = early = Store(memory)
    save([0, 1, 2])
    early.upload()
    machine("second")
    store = Store(memory)
    save([3, 4])
    machine("first")
    store = early  # it has not seen what the second has sent
    save([5])
    machine("second")
    Store(memory).upload()
    machine("first")
    store.upload()
    machine("third")
    store = Store(memory)
    assert store.tables()[0].keys("image").any(axis=1).tolist() == [True] * 6 + [False] * 2
    journal = (store.feature_folder("e/o") / JOURNAL).read_text()
    assert all(f"{row:032}" in journal for row in (0, 3, 5))


def test_rows_that_could_not_be_sent_are_kept_and_sent_by_the_next_command(memory, machine, monkeypatch):
    feature = Store(memory).declare("e/o", SPEC)
    with monkeypatch.context() as patch:
        patch.setattr(RemoteFolder, "upload", unreachable)
        with (
            pytest.raises(
                RemoteError, match=r"cannot be reached\. What was .* kept in .*: run the same command"
            ),
            feature.writer(8) as writer,
        ):
            writer.append(KEYS[:8], VALUES[:8])
    assert part_files(memory) == []
    store = Store(memory)
    assert len(store.feature("e/o")) == 8
    sent = store.upload()
    assert (sent.rows, str(sent)) == (8, "8 rows in 1 part")
    assert store.upload().rows == 0
    machine("second")
    assert np.array_equal(Store(memory).feature("e/o").read(KEYS[:8]), VALUES[:8])


def test_a_part_whose_upload_was_not_noted_is_not_sent_or_fetched_again(memory, machine, monkeypatch):
    fill(Store(memory), range(4))
    (state,) = machine("first").glob("*/state/files.json")
    state.unlink()
    (part,) = vectors_here(machine("first"))
    before = part.stat()
    store = Store(memory)
    monkeypatch.setattr(RemoteFolder, "upload", unreachable)
    assert store.mirror._was_sent(part_files(memory)[0])
    assert store.upload().parts == 0
    assert len(store.feature("e/o")) == 4
    assert (part.stat().st_ino, len(part_files(memory))) == (before.st_ino, 1)


def test_parts_are_sealed_and_sent_while_rows_are_added(memory, machine, monkeypatch):
    monkeypatch.setenv("ENCODE_ONCE_UPLOAD_SECONDS", "0")
    monkeypatch.setattr(mirror, "SHARE", 0)
    store = Store(memory)
    with store.declare("e/o", SPEC).writer(20) as writer:
        for row in range(0, 20, 4):
            writer.append(KEYS[row : row + 4], VALUES[row : row + 4])
            store.mirror.wait()
            assert len(part_files(memory)) == row // 4 + 1
    assert store.uploads.rows == 20


def test_an_error_of_sending_in_the_background_ends_the_writer(memory, machine, monkeypatch):
    monkeypatch.setenv("ENCODE_ONCE_UPLOAD_SECONDS", "0")
    monkeypatch.setattr(mirror, "SHARE", 0)
    monkeypatch.setattr(RemoteFolder, "upload", unreachable)
    store = Store(memory)
    with (
        pytest.raises(RemoteError, match=r"cannot be reached"),
        store.declare("e/o", SPEC).writer(20) as w,
    ):
        w.append(KEYS[:4], VALUES[:4])
        wait([store.mirror._sending])
        w.append(KEYS[4:8], VALUES[4:8])
        raise AssertionError("the second batch was accepted")


def test_what_was_deleted_in_the_bucket_is_gone_here_but_nothing_that_was_not_sent(
    memory, machine, monkeypatch
):
    fill(Store(memory), range(4))
    monkeypatch.setattr(RemoteFolder, "upload", unreachable)
    with pytest.raises(RemoteError), Store(memory).feature("e/o").writer(4) as writer:
        writer.append(KEYS[4:8], VALUES[4:8])
    RemoteFolder(memory).delete(part_files(memory)[0])
    feature = Store(memory).feature("e/o")
    assert feature.has(KEYS[:8]).tolist() == [False] * 4 + [True] * 4


def test_vectors_that_were_not_used_for_longest_make_room(memory, machine, heads, monkeypatch):
    fill(Store(memory), range(12))
    folder = machine("second")
    store = Store(memory)
    monkeypatch.setenv("ENCODE_ONCE_STORE_CACHE_GB", str(2.5 * VALUES[:4].nbytes / 1e9))
    feature = store.open_feature("e/o")
    feature.read(KEYS[:12])
    assert len(vectors_here(folder)) == 3  # all are in use
    assert feature.is_current
    del feature
    third = machine("third")
    feature = Store(memory).open_feature("e/o")
    names = [part.path.name for part in feature.parts]
    for row in (0, 4, 0, 8):
        feature = Store(memory).open_feature("e/o")
        assert np.array_equal(feature.read(KEYS[row : row + 4]), VALUES[row : row + 4])
    assert sorted(path.name for path in vectors_here(third)) == [names[0], names[2]]
    assert np.array_equal(Store(memory).feature("e/o").read(KEYS[:12]), VALUES[:12])


def test_a_damaged_object_is_refused_and_named(memory, machine, heads, tmp_path):
    fill(Store(memory), range(4))
    (name,) = part_files(memory)
    content = bytearray(RemoteFolder(memory).read(name))
    place = bytes(content).index(VALUES[:4].tobytes())
    content[place] ^= 1
    RemoteFolder(memory).write(name, bytes(content))
    machine("second")
    store = Store(memory)
    with pytest.raises(DamagedError, match=r"\.h5 is damaged among its rows 0 to 3"):
        store.feature("e/o").read(KEYS[:4])
    assert "4 rows damaged" in verify(store)[0] or "1 of 4 rows damaged" in verify(store)[0]
    RemoteFolder(memory).write(name, bytes(content[:-4096]))
    machine("third")
    with pytest.raises(DamagedError):
        Store(memory).feature("e/o")


def test_names_that_lead_out_of_the_copy_are_ignored(memory, machine, tmp_path):
    fill(Store(memory), range(4))
    system = fsspec.filesystem("memory")
    root = system._strip_protocol(memory)
    for name in (
        "tables/../../../../escaped.h5",
        "features/e/o/../../../../up.h5",
        "features/.x/o/spec.json",
        "x.py",
    ):
        system.store[f"{root}/{name}"] = system.store[f"{root}/store.json"]
    folder = machine("second")
    assert Store(memory).features() == ["e/o"]
    assert not [path for path in tmp_path.rglob("*") if path.name in ("escaped.h5", "up.h5", "x.py")]
    assert not (folder / "x.py").exists()


def test_a_prefix_with_other_files_is_refused(memory, machine):
    RemoteFolder(memory).write("photos/1.jpg", b"x")
    with pytest.raises(
        StoreError, match=r"contains other files, such as photos/1.jpg, and no store.json: choose"
    ):
        Store(memory)


def test_a_server_that_overwrites_what_was_to_be_created_is_refused(memory, machine, monkeypatch):
    def overwrites(self, name, content):
        self.write(name, content)
        return True

    monkeypatch.setattr(RemoteFolder, "create", overwrites)
    with pytest.raises(
        StoreError, match="ignores If-None-Match, so that two writers would overwrite each other"
    ):
        fill(Store(memory), range(4))


def test_repair_fetches_damaged_files_of_the_local_copy_again_and_keeps_sound_rows_that_were_not_sent(
    memory, machine, monkeypatch
):
    fill(Store(memory), range(8))
    save_table(Store(memory), range(4))
    folder = machine("second")
    store = Store(memory)
    store.feature("e/o").read(KEYS[:8])
    sent = sorted(vectors_here(folder))
    flip(sent[0], sent[0].read_bytes().index(KEYS[0].tobytes()))
    flip(sent[1], sent[1].read_bytes().index(VALUES[4].tobytes()))
    flip(store.table_files()[0], -5)
    with pytest.raises(DamagedError, match="is damaged: a checksum"):
        Store(memory).feature("e/o")
    lines = repair(Store(memory))
    assert [line.partition(".h5 ")[2] for line in lines] == [
        f"was damaged, and is fetched again from {memory}"
    ] * 3
    assert verify(Store(memory)) == []
    with monkeypatch.context() as patch:
        patch.setattr(RemoteFolder, "upload", unreachable)
        with pytest.raises(RemoteError), Store(memory).feature("e/o").writer(4) as writer:
            writer.append(KEYS[8:12], VALUES[8:12])
    (unsent,) = {*vectors_here(folder)} - {*sent}
    flip(unsent, unsent.read_bytes().index(VALUES[9].tobytes()))

    (line,) = repair(Store(memory))
    assert line.endswith(".h5.damaged: 3 sound rows kept")
    assert (verify(Store(memory)), Store(memory).upload().rows) == ([], 3)
    machine("third")
    assert Store(memory).feature("e/o").has(KEYS[:12]).tolist() == [True] * 9 + [False] + [True] * 2


@pytest.mark.parametrize("change", [compact, lambda store: drop_feature(store, "e/o")])
def test_nothing_is_deleted_at_a_url(memory, machine, change):
    fill(Store(memory), range(4))
    with pytest.raises(StoreError, match=rf"{memory}: nothing is deleted .*store merge {memory} --store DIR"):
        change(Store(memory))


def test_stores_are_merged_from_and_to_urls(url, machine, heads, tmp_path):
    local = Store(tmp_path / "local")
    fill(local, range(10))
    save_table(local, range(10))
    assert merge(Store(url), local).changes[0].rows == 10
    machine("second")
    copy = Store(tmp_path / "copy")
    result = merge(copy, Store(url))
    assert (result.changes[0].rows, result.refused, verify(copy)) == (10, [], [])
    assert np.array_equal(copy.feature("e/o").read(KEYS[:10]), VALUES[:10])
    assert len(copy.tables()) == 1


def test_doctor_reads_a_store_at_a_url(memory, machine, tmp_path):
    assert [check.finding for check in stored.checks(memory)] == [f"{memory} is not there yet"]
    fill(Store(memory), range(4))
    save_table(Store(memory), range(4))
    assert [check.state for check in stored.checks(memory)] == ["WARN", "PASS"]  # the table's source is gone
    Store(memory).save(
        Table("s3://b/t.csv", ["1"], ["1"], ["1"], None, image_keys=KEYS[:1], caption_keys=KEYS[:1])
    )
    assert len([*stored.checks(memory)]) == 2
    assert {check.subject for check in checks_of_machine(memory)} >= {"store folder"}


def test_a_file_url_is_a_path(tmp_path):
    fill(Store((tmp_path / "a b").as_uri()), range(4))
    assert len(Store(tmp_path / "a b").feature("e/o")) == 4
