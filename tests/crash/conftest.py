import tempfile
from pathlib import Path

import pytest

from tests.crash.workload import ForkServer

MEMORY = Path("/dev/shm")


@pytest.fixture
def tmp_path(tmp_path):
    """A folder in memory, if possible: kills and injected faults do not need the disk's slow syncs."""
    if not MEMORY.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def fork_server():
    processes = ForkServer()
    yield processes
    processes.close()
