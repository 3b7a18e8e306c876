"""`extract` of a table that is read in pieces: the same store, with bounded memory."""

import itertools
import os
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest

from encode_once.cache import Shard, Store, large_arrays
from encode_once.cache.bench.peak_memory import with_peak_memory
from encode_once.cache.format.feature_writer import FeatureWriter
from encode_once.cache.table_spool import TableSpool
from encode_once.extract import ComputeOptions, encode, workers
from encode_once.extract.readers import large_tables

ENCODER = """
import numpy as np

from encode_once.extract.encoders.base import Tower


class Letters(Tower):
    modality = "caption"
    parallel = True
    cpu_batch = 4096

    def __init__(self, options):
        super().__init__({"counts": {"encoder": "letters", "weights": "none"}})

    def load(self, device):
        pass

    def prepare(self, text):
        return [len(text), text.count("a")]

    def encode(self, batch):
        return {"counts": np.array(batch, np.float32)}
"""
SCALE_ROWS = 3_000_000  # read in pieces, as 150 MB are


@pytest.fixture
def letters(tmp_path, monkeypatch):
    """The name of an encoder that takes no time."""
    monkeypatch.chdir(tmp_path)
    Path("letters.py").write_text(ENCODER)
    return "letters.py:Letters"


def write(path, rows):
    with path.open("w") as file:
        file.write("id,caption,labels,note\n")
        file.writelines(
            f"r{row},a cat on a table of {row % (rows // 2)} legs,{'dog' if row % 3 else 'cat dog'},web\n"
            for row in range(rows)
        )
    return path


@pytest.mark.parametrize("shards", [1, 3])
def test_a_table_in_pieces_gives_the_store_of_the_whole_one(letters, shards, tmp_path, monkeypatch):
    path = write(tmp_path / "train.csv", 40)
    encode(path, [letters], "whole", progress=False)
    monkeypatch.setattr(large_tables, "LARGE_BYTES", 0)
    monkeypatch.setattr(large_tables, "PIECE_ROWS", 7)
    monkeypatch.setattr(large_arrays, "BLOCK", 4)
    monkeypatch.setattr(large_arrays, "IN_MEMORY", 0)
    for number in range(shards):
        report = encode(path, [letters], "pieces", shard=Shard(number, shards), progress=False)
    whole, pieces = Store("whole"), Store("pieces")
    (table,), (other,) = whole.tables(), pieces.tables()
    assert other.has_rows_of(table)
    assert (other.keys("caption") == table.keys("caption")).all()
    name = f"{letters}/counts"
    assert len(pieces.feature(name)) == 20
    keys = table.keys("caption")
    assert np.array_equal(pieces.feature(name).read(keys), whole.feature(name).read(keys))
    again = encode(path, [letters], "pieces", progress=False).features[name]
    assert (again.encoded, again.present, again.failed) == (0, 40, 0)
    if shards == 1:
        assert vars(report.features[name]) == {"encoded": 40, "present": 0, "failed": 0}


def killed_at(owner, name, call):
    """Make a method kill its process at that call."""
    calls, method = itertools.count(1), getattr(owner, name)

    def killing(*args, **options):
        if next(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return method(*args, **options)

    setattr(owner, name, killing)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "name", "call", "committed"),
    [(TableSpool, "append", 3, 0), (FeatureWriter, "append", 1, 0), (FeatureWriter, "append", 3, 8)],
)
def test_after_a_kill_the_same_command_encodes_what_is_missing(
    letters, owner, name, call, committed, tmp_path, monkeypatch
):
    monkeypatch.setattr(large_tables, "LARGE_BYTES", 0)
    monkeypatch.setattr(large_tables, "PIECE_ROWS", 7)
    monkeypatch.setattr(large_arrays, "BLOCK", 4)
    monkeypatch.setattr(workers, "COMMIT_SECONDS", 0)
    path = write(tmp_path / "train.csv", 40)
    options = {"progress": False, "compute": ComputeOptions(batch_size=4)}
    encode(path, [letters], "whole", **options)
    pid = os.fork()
    if pid == 0:
        killed_at(owner, name, call)
        encode(path, [letters], "store", **options)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    store, whole = Store("store"), Store("whole")
    report = encode(path, [letters], store, **options).features[f"{letters}/counts"]
    assert vars(report) == {"encoded": 40 - 2 * committed, "present": 2 * committed, "failed": 0}
    feature, keys = store.feature(f"{letters}/counts"), store.table().keys("caption")
    assert sum(part.rows for part in feature.parts) == 20, "each caption has one vector"
    assert np.array_equal(feature.read(keys), whole.feature(feature.name).read(keys))
    assert store.table().has_rows_of(whole.table())


@pytest.fixture
def gigabyte():
    """A control group whose processes have a gigabyte, pages of files included; None if there is no such."""
    lines = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    groups = {kind: place.lstrip("/") for _, kind, place in (line.split(":", 2) for line in lines)}
    group = Path("/sys/fs/cgroup/memory", groups.get("memory", ""), f"encode-once-{os.getpid()}")
    try:
        group.mkdir()
    except OSError:
        yield None
        return
    (group / "memory.limit_in_bytes").write_text("1000000000")
    yield group
    group.rmdir()


@pytest.fixture
def on_disk(monkeypatch):
    """A folder on a disk: files in memory, where `tmp_path` may be, keep their pages."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


def _extracted(path, letters, group):
    if group:
        (group / "cgroup.procs").write_text(str(os.getpid()))
    return encode(path, [letters], path.parent / "store", progress=False).samples


@pytest.mark.scale
def test_millions_of_captions_are_encoded_in_less_than_a_gigabyte(letters, gigabyte, on_disk):
    path = write(on_disk / "train.csv", SCALE_ROWS)
    rows, grown = with_peak_memory(_extracted, path, letters, gigabyte)
    assert rows == SCALE_ROWS
    assert len(Store(on_disk / "store").feature(f"{letters}/counts")) == SCALE_ROWS // 2
    assert grown < 5e8
