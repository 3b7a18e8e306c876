"""A disk error at each write, sync and rename: one clear line, nothing lost, and the next run continues."""

import errno
import os
import sys
from pathlib import Path

import pytest

from encode_once.cache import Store, StoreError
from encode_once.cache.format import feature_writer
from encode_once.cache.maintenance import verify
from encode_once.extract import ComputeOptions, encode
from tests.conftest import vectors_file
from tests.crash.workload import arguments, check_rows, committed, readable

CALLS = [(os, "pwrite"), (os, "fsync"), (os, "fdatasync"), (os, "replace"), (os, "unlink")]
CALLS += [(Path, "write_text")]
pytestmark = pytest.mark.xdist_group("fork server")  # which takes seconds to start
ROWS = 2


class Disk:
    """Counts the calls that write; calls with a number in `bad` fail, or write only half of the data."""

    def __init__(self, monkeypatch):
        self.calls, self.bad, self.error = 0, range(0), errno.ENOSPC
        for owner, name in CALLS:
            monkeypatch.setattr(owner, name, self._watched(name, getattr(owner, name)))

    def _watched(self, name, original):
        def call(*args, **options):
            self.calls += 1
            if self.calls - 1 in self.bad:
                if self.error is not None:
                    raise OSError(self.error, os.strerror(self.error))
                if name == "pwrite" and len(args[1]) > 1:
                    args = (args[0], args[1][: len(args[1]) // 2], args[2])
            return original(*args, **options)

        return call

    def fail(self, bad, error):
        self.calls, self.bad, self.error = 0, bad, error


@pytest.fixture
def disk(monkeypatch):
    return Disk(monkeypatch)


@pytest.fixture
def run(folder, tmp_path, monkeypatch):
    """A function that extracts captions into a store."""
    monkeypatch.setattr(feature_writer, "PART_BYTES", 500)  # two parts of the dense feature
    data, weights = folder(ROWS), {"glove-100": str(vectors_file(tmp_path / "vectors.txt"))}

    def extract(store):
        return encode(
            data, ["glove-100"], store, weights=weights, compute=ComputeOptions(batch_size=1), progress=False
        )

    return extract


@pytest.fixture
def acknowledged(monkeypatch):
    """Feature → keys of the rows for which `append` has returned."""
    keys = {}
    original = feature_writer.FeatureWriter.append

    def append(self, new, *args):
        original(self, new, *args)
        keys.setdefault(self._feature.name, set()).update(key.tobytes() for key in new)

    monkeypatch.setattr(feature_writer.FeatureWriter, "append", append)
    return keys


@pytest.mark.parametrize("persists", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
def test_a_fault_at_any_write_loses_nothing(run, disk, acknowledged, tmp_path, error, persists, stride):
    run(tmp_path / "whole")
    points, whole = disk.calls, readable(tmp_path / "whole")
    assert points > 40
    assert {len(rows) for rows in whole.values()} == {ROWS}
    tried = range(2 * persists + (error == errno.EIO), points, stride)  # together the four try all
    failed = 0
    for point in tried:
        store = tmp_path / f"store-{point}"
        acknowledged.clear()
        disk.fail(range(point, sys.maxsize if persists else point + 1), error)
        try:
            run(store)
        except StoreError as error_of_run:
            failed += 1
            assert "\n" not in str(error_of_run)
            assert os.strerror(error) in str(error_of_run)
        disk.fail(range(0), None)
        kept = committed(store)
        for name, keys in acknowledged.items():
            assert keys <= kept[name].keys(), "a row is missing although append returned"
        check_rows(whole, kept)
        run(store)
        assert readable(store) == whole
        assert verify(Store(store)) == []
    assert failed > len(tried) / 2  # it is no failure if a file cannot be removed, or an owner file written


def test_short_writes_are_completed(run, disk, tmp_path):
    run(tmp_path / "whole")
    disk.fail(range(sys.maxsize), None)
    run(tmp_path / "store")
    assert readable(tmp_path / "store") == readable(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 50, 5_000, 20_000, 40_000])
def test_a_limit_of_the_file_size_is_reported_in_one_line(fork_server, folder, tmp_path, size):
    """The system's limit also holds for files that HDF5 and SQLite write."""
    store, stderr = tmp_path / "store", tmp_path / "stderr"
    args = arguments(folder(ROWS), store, vectors_file(tmp_path / "vectors.txt"))
    stderr.touch()
    assert fork_server.run(args, largest_file=size, stderr=stderr) == 1
    assert "Traceback" not in stderr.read_text()
    assert size < 100 or stderr.read_text().splitlines()[-1].startswith("Error: ")
    assert fork_server.run(args) == 0
    assert {len(rows) for rows in readable(store).values()} == {ROWS}
    assert verify(Store(store)) == []
