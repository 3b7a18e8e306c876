import pytest

from tests.crash.workload import ForkServer


@pytest.fixture(scope="session")
def fork_server():
    processes = ForkServer()
    yield processes
    processes.close()
