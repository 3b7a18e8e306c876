import atexit
import csv
import gc
import os
import shlex
import shutil
import tempfile
import uuid
from contextlib import suppress
from functools import cache
from pathlib import Path

import fsspec
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import settings
from PIL import Image

from encode_once.cli import main
from encode_once.extract.encoders import glove

# Two OpenMP threads can collapse where another process is busy; the tests need no second one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The examples of `make test` are always the same, and few; `make numerical-tests` takes as many as the tests
# ask for, and `make fuzz-tests` draws others and prints their seed.
settings.register_profile("few", derandomize=True, deadline=None, max_examples=30)
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("fresh", print_blob=True, deadline=None)
settings.load_profile("few")
SHARED = Path(os.environ.get("COCO19", "../shared"))
MEMORY_DISK = "/dev/shm" if Path("/dev/shm").is_dir() else None  # where a sync costs nothing
ENOUGH = 2**30  # bytes of it that must be free


def memory_disk():
    """A disk in memory, if possible: thousands of writes are synced, which a disk does slowly."""
    enough = MEMORY_DISK is not None and shutil.disk_usage(MEMORY_DISK).free >= ENOUGH
    return MEMORY_DISK if enough else None


@pytest.fixture
def tmp_path(tmp_path, request):
    """An empty folder; that of tests which use `state_after` is always the same one."""
    if "state_after" in request.fixturenames:
        place = request.getfixturevalue("states").place
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        yield place
    elif disk := memory_disk():
        with tempfile.TemporaryDirectory(dir=disk, ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    else:
        yield tmp_path


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Nothing of what is imported for the tests becomes garbage: no garbage collection looks at it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


atexit.register(gc.unfreeze)  # else libraries report what they take for leaks


@pytest.hookimpl(tryfirst=True)  # xdist reads the marks
def pytest_collection_modifyitems(items):
    """Tests that share what a fixture of their module writes run on one worker, which makes it once.

    So do all tests that use `state_after`. The other tests go to whichever worker is free.
    """
    for item in items:
        if not item.get_closest_marker("xdist_group"):
            if "state_after" in item.fixturenames:
                item.add_marker(pytest.mark.xdist_group("states"))
            elif any(map(writes_for_many, item._fixtureinfo.name2fixturedefs.values())):
                item.add_marker(pytest.mark.xdist_group(item.location[0]))


def writes_for_many(definitions):
    """Whether a fixture of a test module makes files that several tests use."""
    used = definitions[-1]
    return used.scope != "function" and used.baseid.endswith(".py") and "tmp_path_factory" in used.argnames


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=5, help="How often tests/crash kills a command.")
    parser.addoption("--thorough", action="store_true", help="Break every place, rather than every fourth.")


def rounds(count):
    """This many rounds over random problems, or fewer in proportion if the profile has less than 100."""
    return max(5, count * settings().max_examples // 100)


def examples(count):
    """Draw this many examples, or fewer in proportion if the profile has less than 100."""
    return settings(max_examples=rounds(count))


@pytest.fixture
def stride(request):
    """How many places a test that breaks one after the other goes on each time."""
    return 1 if request.config.getoption("--thorough") else 4


@pytest.fixture(scope="session", autouse=True)
def torch_home(tmp_path_factory):
    """What is downloaded or exported goes to a folder of the tests."""
    os.environ["TORCH_HOME"] = str(tmp_path_factory.mktemp("torch"))
    os.environ["ENCODE_ONCE_STORE_CACHE"] = str(tmp_path_factory.mktemp("stores"))


@pytest.fixture(scope="session")
def s3_server():
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
def bucket(s3_server):
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


@pytest.fixture(scope="session", autouse=True)
def word_vectors_once():
    """The packaged word vectors, 80 MB, are hashed and read once, rather than by every extraction."""
    hashed, read = glove.file_identity, glove._read_packaged
    hashed_once = cache(hashed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(glove, "_read_packaged", cache(read))
        patch.setattr(
            glove, "file_identity", lambda path: (hashed_once if path.endswith(".npy") else hashed)(path)
        )
        yield


@pytest.fixture(scope="session")
def shared():
    """The folder of real data, where there is one."""
    if not (SHARED / "coco19-9k").is_dir():
        pytest.skip(f"no real data at {SHARED}: set COCO19")
    return SHARED.resolve()


def picture(seed, size=(64, 48)):
    """A picture with large shapes and fine noise, so that resizing and cropping matter."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (6, 8, 3), np.uint8)
    large = Image.fromarray(blocks).resize(size, Image.Resampling.BICUBIC)
    noise = rng.integers(-20, 20, (size[1], size[0], 3))
    return Image.fromarray(np.clip(np.asarray(large) + noise, 0, 255).astype(np.uint8))


EXTRACT = "extract --encoder efficientnet-lite0 --encoder glove-50"  # for `state_after`
WORDS = ["dog", "cat", "car", "bus", "boat", "bird"]


def vectors_file(path, dim=100):
    """Write a file in GloVe's format with the words of the test captions; returns its path."""
    rng = np.random.default_rng(0)
    lines = (f"{word} {' '.join(map(str, rng.normal(size=dim)))}\n" for word in ["a", "and", *WORDS])
    path.write_text("".join(lines))
    return path


def files_of(folder):
    """Path → content of each file in a folder and its subfolders."""
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def shorten_fits(patch):
    """`fit` tunes on a tenth of the train rows, as folds take six fits, and an epoch has few steps."""
    patch.setattr("encode_once.classify.runs.head_fitter.FOLDS_UP_TO", 0)
    patch.setattr("encode_once.classify.heads.torch.training.MIN_BATCHES", 5)


@pytest.fixture
def fit_once(monkeypatch):
    """Short fits, in tests of other things."""
    shorten_fits(monkeypatch)


def write_data(root, n=12, test_rows=0, extra=None):
    """Make a data folder of n rows, each labelled by what its caption names."""
    (root / "data").mkdir(parents=True)
    for table, rows in (("train", range(n)), ("test", range(n, n + test_rows))):
        if not rows:
            continue
        with (root / f"{table}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            columns = ["ImageID", *(["Labels"] if table == "train" else []), "Caption", *(extra or {})]
            writer.writerow(columns)
            for row in rows:
                picture(row, (40 + row % 7, 40 + row % 5)).save(root / "data" / f"{row}.png")
                words = [WORDS[row % 6], WORDS[(row // 6) % 6]]
                labels = [" ".join(dict.fromkeys(words))] if table == "train" else []
                more = [values[row] for values in (extra or {}).values()]
                writer.writerow([f"{row}.png", *labels, f"a {words[0]} and a {words[1]}, {row}", *more])
    return root


@pytest.fixture
def folder(tmp_path):
    """A function that makes a data folder, see `write_data`."""

    def make(n=12, name="input", test_rows=0, extra=None):
        return write_data(tmp_path / name, n, test_rows, extra)

    return make


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A function that runs a command in an empty working directory."""
    monkeypatch.chdir(tmp_path)

    def command(*words, status=0):
        result = CliRunner().invoke(main, [str(word) for word in words])
        assert result.exit_code == status, result.output
        return result

    return command


class States:
    """Copies of the folder `place`, by the commands that were run there."""

    def __init__(self, root):
        self.place, self.copies = root / "place", root / "copies"
        self.by_steps = {}  # (arguments of `state_after`, commands) → a copy

    def keep(self, steps, but):
        """Copy what is at the place, but for files and folders of these names."""
        copy = self.by_steps[steps] = self.copies / str(len(self.by_steps))
        copy.mkdir(parents=True)
        for path in self.place.iterdir():
            if path.name not in but:
                shutil.copytree(path, copy / path.name) if path.is_dir() else shutil.copy2(path, copy)

    def restore(self, steps):
        shutil.copytree(self.by_steps[steps], self.place, dirs_exist_ok=True)


@pytest.fixture(scope="session")
def states():
    with tempfile.TemporaryDirectory(dir=memory_disk(), ignore_cleanup_errors=True) as root:
        yield States(Path(root))


@pytest.fixture
def state_after(states, folder, run):
    """A function that makes `input` and other files, and runs commands, unless an earlier test did the same.

    Then it restores what they left. A store knows its tables by their paths, so all these tests run at one
    place. `fit` tunes as with `fit_once`.
    """

    def state(*commands, n=60, test_rows=0, files=None):
        files = files or {}
        before = [path.name for path in states.place.iterdir()]
        steps = [(n, test_rows, *files.items(), *commands[:count]) for count in range(len(commands) + 1)]
        latest = max((count for count, step in enumerate(steps) if step in states.by_steps), default=None)
        if latest is None:
            folder(n, test_rows=test_rows)
            for name, content in files.items():
                Path(name).parent.mkdir(exist_ok=True)
                Path(name).write_text(content)
            for path in [*states.place.rglob("input/**/*"), *map(Path, files)]:
                os.utime(path, (1e9, 1e9))  # the index remembers no file that has just been written
            states.keep(steps[latest := 0], before)
        else:
            states.restore(steps[latest])
        with pytest.MonkeyPatch.context() as patch:
            shorten_fits(patch)
            for step in steps[latest + 1 :]:
                run(*shlex.split(step[-1]))
                states.keep(step, before)
        return states.place / "input"

    return state
