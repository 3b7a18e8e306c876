import csv
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import settings
from PIL import Image

from encode_once.cli import main

# Two OpenMP threads can collapse where another process is busy; the tests need no second one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The examples of `make test` are always the same; `make fuzz-tests` draws others and prints their seed.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("fresh", print_blob=True, deadline=None)
settings.load_profile("fixed")
SHARED = Path(os.environ.get("COCO19", "../shared"))
MEMORY_DISK = "/dev/shm" if Path("/dev/shm").is_dir() else None  # where a sync costs nothing
ENOUGH = 2**30  # bytes of it that must be free


@pytest.fixture
def tmp_path(tmp_path):
    """A folder in memory, if possible: thousands of writes are synced, which a disk does slowly."""
    if MEMORY_DISK is None or shutil.disk_usage(MEMORY_DISK).free < ENOUGH:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY_DISK, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=5, help="How often tests/crash kills a command.")
    parser.addoption("--thorough", action="store_true", help="Break every place, rather than every fourth.")


@pytest.fixture
def stride(request):
    """How many places a test that breaks one after the other goes on each time."""
    return 1 if request.config.getoption("--thorough") else 4


@pytest.fixture(scope="session", autouse=True)
def torch_home(tmp_path_factory):
    """What is downloaded or exported goes to a folder of the tests."""
    os.environ["TORCH_HOME"] = str(tmp_path_factory.mktemp("torch"))


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


@pytest.fixture
def fit_once(monkeypatch):
    """`fit` tunes on a tenth of the train rows, in tests of other things: folds take six fits."""
    monkeypatch.setattr("encode_once.classify.runs.head_fitter.FOLDS_UP_TO", 0)


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
