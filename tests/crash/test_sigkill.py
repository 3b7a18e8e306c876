"""Kill real `extract` processes at random moments: committed rows remain, and the final store is exact."""

import random
import signal
import time

import pytest

from encode_once.cache import Store
from encode_once.cache.maintenance import verify
from tests.conftest import vectors_file
from tests.crash.workload import arguments, check_rows, committed, readable

pytestmark = pytest.mark.xdist_group("fork server")  # which takes seconds to start
ROWS = 16


def test_no_kill_loses_or_changes_a_committed_row(fork_server, folder, tmp_path, request):
    """--kills sets the number of kills, which are spread over several extractions."""
    target = request.config.getoption("--kills")
    data, vectors = folder(ROWS), vectors_file(tmp_path / "vectors.txt")
    for name in ("warm-up", "uninterrupted"):
        started = time.monotonic()
        assert fork_server.run(arguments(data, tmp_path / name, vectors)) == 0
        longest = time.monotonic() - started
    whole = committed(tmp_path / "uninterrupted")
    assert {len(rows) for rows in whole.values()} == {ROWS}

    rng = random.Random(0)
    kills = finished = 0
    store, before = tmp_path / "store-0", {}
    while kills < target or not finished:
        kill_after = rng.uniform(0, longest) if kills < target else None
        status = fork_server.run(arguments(data, store, vectors), kill_after)
        after = committed(store)
        check_rows(whole, after, before)
        for name, rows in readable(store).items():
            assert rows.items() <= after[name].items(), "a reader saw a row that was not committed"
        if status == 0:
            assert readable(store) == whole
            assert verify(Store(store)) == []
            finished += 1
            store, before = tmp_path / f"store-{finished}", {}
        else:
            assert status == -signal.SIGKILL
            kills, before = kills + 1, after
