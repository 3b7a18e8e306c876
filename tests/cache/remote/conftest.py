import uuid
from contextlib import suppress

import fsspec
import pytest


@pytest.fixture(scope="session")
def server():
    """An S3 server in this process, and its address and keys in the environment."""
    moto = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    with pytest.MonkeyPatch.context() as patch:
        started = moto.ThreadedMotoServer(port=0, verbose=False)
        started.start()
        _, port = started.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "tests")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "tests")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield started
        started.stop()


@pytest.fixture
def bucket(server):
    """The URL of a new bucket on that server."""
    name = f"bucket-{uuid.uuid4().hex}"
    fsspec.filesystem("s3", skip_instance_cache=True).mkdir(name)
    return f"s3://{name}"


@pytest.fixture
def memory():
    """The URL of a new folder in the memory of this process."""
    url = f"memory://{uuid.uuid4().hex}"
    yield url
    with suppress(FileNotFoundError):
        fsspec.filesystem("memory").rm(url, recursive=True)
