"""Kill every operation on a store at random moments: nothing is lost, wrong, or reported without reason."""

import random
import shutil
import signal
import time

import pytest

from encode_once.cache import Store
from encode_once.cache.keys import KEY_BYTES
from encode_once.cache.maintenance import verify
from tests.cache.rows import flip
from tests.conftest import vectors_file
from tests.crash.workload import arguments, check_rows, committed, readable

pytestmark = pytest.mark.real
ROWS, MORE = 12, 4
KILLS_PER_STORE = 20
SHARDS = 3


class Killed:
    """A store that operations change, and which rows it must and may have.

    Its rows are those of `input` and, until `gc` drops them, those of `more`. `damage` is the file in which a
    byte was flipped, until it has been repaired.
    """

    def __init__(self, path, folders, vectors, rng):
        self.path, self.folders, self.vectors, self.rng = path, folders, vectors, rng
        self.damage = None

    def words(self, operation):
        """The arguments of `cli.py`, after what the operation needs was prepared."""
        store = ["--store", str(self.path)]
        match operation:
            case "extract" | "more":
                data = self.folders["input" if operation == "extract" else "more"]
                return arguments(data, self.path, self.vectors)
            case "shard":
                shard = f"{self.rng.randint(1, SHARDS)}/{SHARDS}"
                return [*arguments(self.folders["input"], self.path, self.vectors), "--shard", shard]
            case "merge":
                return ["store", "merge", str(self.folders["node"]), *store]
            case "compact":
                return ["store", "compact", *store]
            case "gc":
                for table in self.path.glob("tables/more-*.h5"):
                    table.unlink()
                return ["store", "gc", "--delete", *store]
            case "repair":
                self.flip_a_byte()
                return ["store", "verify", "--repair", *store]

    def flip_a_byte(self):
        """Change a byte of the values of a sealed part, unless a damaged one is left."""
        parts = [
            part
            for name in Store(self.path).features()
            for part in Store(self.path).feature(name).parts
            if part.values.size
        ]
        if self.damage or not parts:
            return
        part = self.rng.choice(parts)
        flip(part.path, part.stamp.places["values"] + self.rng.randrange(part.values.nbytes))
        self.damage = part.path

    def in_tables(self):
        """The content keys of the store's tables, which `gc` keeps."""
        tables = Store(self.path).tables()
        return {
            key.tobytes()
            for table in tables
            for kind in ("image", "caption")
            for key in table.all_keys(kind).reshape(-1, KEY_BYTES)
        }

    def check(self, whole, before):
        """Compare what the store has with a clean run, and with what it had; returns what it has."""
        after = committed(self.path)
        check_rows(whole, after, before)
        problems = verify(Store(self.path))
        assert [line for line in problems if not self.damage or str(self.damage) not in line] == []
        return after


def test_no_kill_of_any_operation_loses_or_changes_a_row(fork_server, folder, tmp_path, request):
    """--kills sets the number of kills, over all operations."""
    target, rng = request.config.getoption("--kills"), random.Random(0)
    vectors = vectors_file(tmp_path / "vectors.txt")
    folders = {"input": folder(ROWS), "more": folder(ROWS + MORE, "more"), "node": tmp_path / "node"}
    seconds = {}

    def timed(store, operation):
        started = time.monotonic()
        assert fork_server.run(store.words(operation)) == 0, operation
        seconds[operation] = time.monotonic() - started

    clean = Killed(tmp_path / "clean", folders, vectors, rng)
    timed(clean, "more")
    whole = readable(clean.path)
    node = arguments(folders["input"], folders["node"], vectors)
    assert fork_server.run([*node, "--shard", "1/2"]) == 0
    tried = Killed(tmp_path / "tried", folders, vectors, rng)
    shutil.copytree(clean.path, tried.path)
    for operation in ("compact", "gc", "merge", "repair", "extract", "shard", "more"):
        timed(tried, operation)
        tried.damage = None
    assert readable(tried.path) == whole
    assert len(whole) == 4
    timed(Killed(tmp_path / "extract", folders, vectors, rng), "extract")
    timed(Killed(tmp_path / "shard", folders, vectors, rng), "shard")

    kills, number = dict.fromkeys(seconds, 0), 0
    while sum(kills.values()) < target:
        store, before = Killed(tmp_path / f"store-{number}", folders, vectors, rng), {}
        number += 1
        enough = sum(kills.values()) + KILLS_PER_STORE
        while sum(kills.values()) < min(target, enough):
            filled = any(before.values())
            choices = ["extract", "shard", "more"] * 2 + ["merge"]
            if filled:
                choices += [*["compact", "gc"] * 2, "repair"]
            operation = "repair" if store.damage else rng.choice(choices)
            words = store.words(operation)
            if store.damage:
                before = committed(store.path)  # without the damaged row
            if operation == "gc":
                needed = store.in_tables()
                before = {name: {k: rows[k] for k in rows.keys() & needed} for name, rows in before.items()}
            status = fork_server.run(words, rng.uniform(0, 1.1 * seconds[operation]))
            before = store.check(whole, before)
            if status == 0:
                store.damage = None
            else:
                assert status == -signal.SIGKILL, (operation, status)
                kills[operation] += 1
        if store.damage:
            assert fork_server.run(store.words("repair")) == 0
            store.damage = None
        assert fork_server.run(store.words("more")) == 0
        assert readable(store.path) == whole
        assert verify(Store(store.path)) == []
    print("kills:", kills)
