"""Stores shared by processes that read, write and are killed."""

import errno
import fcntl
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from encode_once.cache import Shard, Store, StoreBusyError, StoreError, content_key
from encode_once.cache.format import replacement
from encode_once.cache.format.atomic import replacing
from encode_once.cache.keys import pack
from encode_once.cache.maintenance import compact

ROOT = Path(__file__).parents[2]
SPEC = {"modality": "image", "weights": "w"}
KEYS = pack(content_key(bytes([row])) for row in range(60))
VALUES = np.arange(60 * 4, dtype=np.float16).reshape(60, 4)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def read_sum(feature):
    return float(feature.read(KEYS).astype(np.float64).sum())


def write_shard(path, number):
    shard = Shard(number, 3)
    is_own = shard.has(KEYS)
    feature = Store(path).declare("e/o", SPEC)
    with feature.writer(60, shard) as writer:
        for row in np.flatnonzero(is_own):
            writer.append(KEYS[row : row + 1], VALUES[row : row + 1])
    return int(is_own.sum())


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_features_can_be_sent_to_processes_of_any_start_method(store, method):
    """As arguments, and inherited; they hold no handle of HDF5."""
    feature = store.declare("e/o", SPEC)
    with feature.writer(60) as writer:
        writer.append(KEYS, VALUES)
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(read_sum, [feature] * 4) == [VALUES.astype(np.float64).sum()] * 4


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_several_writers_share_the_work_by_shards(store, method):
    store.declare("e/o", SPEC)
    with multiprocessing.get_context(method).Pool(3) as pool:
        shares = pool.starmap(write_shard, [(store.path, number) for number in range(3)])
    assert sum(shares) == 60
    assert min(shares) > 0
    np.testing.assert_array_equal(store.feature("e/o").read(KEYS), VALUES)


def test_a_feature_is_pickled_without_its_rows(store):
    feature = store.declare("e/o", SPEC)
    with feature.writer(60) as writer:
        writer.append(KEYS, VALUES)
    pickled = pickle.dumps(store.feature("e/o"))
    assert len(pickled) < 1000
    np.testing.assert_array_equal(pickle.loads(pickled).read(KEYS), VALUES)


def test_readers_read_while_a_writer_writes(store):
    feature = store.declare("e/o", SPEC)
    with feature.writer(30) as writer:
        writer.append(KEYS[:30], VALUES[:30])
    with feature.writer(30) as writer:
        writer.append(KEYS[30:], VALUES[30:])
        reader = store.feature("e/o")
        np.testing.assert_array_equal(reader.read(KEYS[:30]), VALUES[:30])
        assert not reader.has(KEYS[30:]).any()
    reader.reload()
    np.testing.assert_array_equal(reader.read(KEYS), VALUES)


def test_a_second_writer_learns_which_process_is_the_first(store):
    feature = store.declare("e/o", SPEC)
    with feature.writer(1), pytest.raises(StoreBusyError, match=f"process {os.getpid()} on"):
        feature.writer(1).__enter__()
    assert not (feature.folder / "0-of-1.owner").exists()


@pytest.mark.parametrize("owner", ["", "{", "[]", '{"pid": 1}'])
def test_a_broken_owner_file_is_ignored(store, owner):
    feature = store.declare("e/o", SPEC)
    with feature.writer(1):
        (feature.folder / "0-of-1.owner").write_text(owner)
        with pytest.raises(StoreBusyError, match="which one is not recorded"), feature.writer(1):
            pass


def test_helpers_take_the_first_free_name_and_the_next_one_seals_what_a_dead_one_committed(store):
    feature = store.declare("e/o", SPEC)
    with feature.writer(1, Shard(1, 2)) as writer, ExitStack() as helpers:
        open_helper = partial(feature.writer, 60, Shard(1, 2), is_helper=True)
        first, second = (helpers.enter_context(open_helper()) for _ in range(2))
        assert [item.name for item in (writer, first, second)] == ["1-of-2", "1-of-2+0", "1-of-2+1"]
        first.append(KEYS[:10], VALUES[:10])
        second.append(KEYS[10:20], VALUES[10:20])
        (part,) = feature.folder.glob("*.1-of-2+0.partial")
        (feature.folder / part.name.replace("+0", "+7")).write_bytes(part.read_bytes())  # nobody writes it
        assert len(feature.unfinished_helpers(Shard(1, 2))) == 3
        assert feature.unfinished_helpers(Shard(1, 3)) == []
        feature.recover()
        assert len(feature.unfinished_helpers(Shard(1, 2))) == 2
        assert (len(feature), feature.has(KEYS[:10]).all()) == (10, True)
        with open_helper() as third:
            assert third.name == "1-of-2+2"
    feature.reload()
    np.testing.assert_array_equal(feature.read(KEYS[:20]), VALUES[:20])


def test_writers_of_different_shards_do_not_wait_for_each_other(store):
    feature = store.declare("e/o", SPEC)
    with feature.writer(1, Shard(0, 2)) as first, feature.writer(1, Shard(1, 2)) as second:
        first.append(KEYS[:1], VALUES[:1])
        second.append(KEYS[1:2], VALUES[1:2])
    assert store.feature("e/o").has(KEYS).sum() == 2


def test_maintenance_refuses_to_run_beside_a_writer(store):
    feature = store.declare("e/o", SPEC)
    with feature.writer(1, Shard(1, 2)), pytest.raises(StoreBusyError):
        compact(store)


def test_a_writer_does_not_cross_a_fork(store):
    feature = store.declare("e/o", SPEC)
    with feature.writer(2) as writer:
        pid = os.fork()
        if pid == 0:
            try:
                writer.append(KEYS[:1], VALUES[:1])
            except StoreError:
                os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        writer.append(KEYS[1:2], VALUES[1:2])
    assert store.feature("e/o").has(KEYS).sum() == 1


HOLD = """
import errno, fcntl, sys, time
if sys.argv[2] == "no flock":
    def flock(*_):
        raise OSError(errno.ENOSYS, "no locks here")
    fcntl.flock = flock
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from encode_once.cache import Store
from tests.cache.test_processes import KEYS, VALUES, SPEC
feature = Store(sys.argv[1]).declare("e/o", SPEC)
with feature.writer(60) as writer:
    writer.append(KEYS[:20], VALUES[:20])
    print("locked", flush=True)
    if sys.argv[3] == "hold":
        time.sleep(600)
"""


def hold(store, system, then):
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", HOLD, store.path, system, then],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


@pytest.mark.parametrize("system", ["flock", "no flock"])
def test_a_dead_owner_is_recognised(store, system):
    """Also on a file system without locks, where the owner leaves a marker behind."""
    first = hold(store, system, "hold")
    assert first.stdout.readline() == "locked\n"
    second = hold(store, system, "end")
    stderr = second.communicate()[1]
    assert second.returncode == 1
    assert f"process {first.pid} on" in stderr
    first.send_signal(signal.SIGKILL)
    first.wait()
    third = hold(store, system, "end")
    assert third.communicate()[0] == "locked\n"
    assert third.returncode == 0
    np.testing.assert_array_equal(store.feature("e/o").read(KEYS[:20]), VALUES[:20])


@pytest.mark.filterwarnings("ignore:flock not supported")
def test_an_owner_of_another_boot_is_dead(store, monkeypatch):
    """A marker with the number of a living process, which was another one before the machine restarted."""

    def no_flock(*_):
        raise OSError(errno.ENOSYS, "no locks here")

    feature = store.declare("e/o", SPEC)
    monkeypatch.setattr(fcntl, "flock", no_flock)
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        with feature.writer(1):
            marker = feature.folder / "0-of-1.lock"
            written = marker.read_text()
        assert str(os.getpid()) in written
        marker.write_text(written.replace(str(os.getpid()), str(sleeper.pid), 1))
        time.sleep(0.1)
        with feature.writer(1) as writer:
            writer.append(KEYS[:1], VALUES[:1])
    finally:
        sleeper.kill()
        sleeper.wait()
    assert store.feature("e/o").has(KEYS).sum() == 1


def test_processes_of_one_number_on_two_machines_do_not_share_temporary_files(tmp_path):
    path = tmp_path / "spec.json"
    with replacing(path) as ours, replacing(path) as theirs:
        ours.write_text("ours")
        theirs.write_text("theirs")
    assert path.read_text() == "ours", "the last to end"
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.filterwarnings("ignore:flock not supported")
def test_without_locks_of_the_system_a_marker_keeps_two_writers_apart(tmp_path, monkeypatch):
    def no_flock(*_):
        raise OSError(errno.ENOSYS, "no locks here")

    monkeypatch.setattr(fcntl, "flock", no_flock)
    monkeypatch.setattr(replacement, "WAIT", 0.1)
    with replacement.folder_locked(tmp_path, fcntl.LOCK_EX):
        with pytest.raises(StoreBusyError, match=r"another process, as .*/\.lock says"):
            replacement.folder_locked(tmp_path, fcntl.LOCK_EX).__enter__()
        with replacement.folder_locked(tmp_path, fcntl.LOCK_SH):
            pass  # readers write nothing
    with replacement.folder_locked(tmp_path, fcntl.LOCK_EX):
        pass
    assert not [*tmp_path.iterdir()]
