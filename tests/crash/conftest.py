import tempfile
from pathlib import Path

import pytest

from tests.crash.workload import Nursery

MEMORY = Path("/dev/shm")


@pytest.fixture
def tmp_path(tmp_path):
    """A folder in memory where there is one: neither kills nor injected faults need the disk's slow syncs."""
    if not MEMORY.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def nursery():
    one = Nursery()
    yield one
    one.close()
