"""The wheel as a new user has it: installed, and used in a folder that has packages of the same names."""

import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

from tests.conftest import write_data

ROOT = Path(__file__).parents[1]
NOT_BUILT = (".*", "build", "tests", "docs", "shared", "__pycache__", "*.egg-info")
LABELS = """
from encode_once import Predictor
import encode_once, sys

assert "installed" in encode_once.__file__, encode_once.__file__
print(*Predictor("runs/linear")("photo.png", "a dog and a cat")[0].labels, sep=", ")
"""


@pytest.mark.slow
def test_the_installed_wheel_goes_from_a_folder_to_the_labels_of_a_photo(tmp_path):
    pytest.importorskip("setuptools", "77")  # as pyproject.toml has it
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    if not Path(uv).exists():
        pytest.skip("no uv to build a wheel with")
    source, place, project = tmp_path / "source", tmp_path / "installed", tmp_path / "project"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*NOT_BUILT))
    build = [uv, "build", "-q", "--wheel", "--no-build-isolation", "--python", sys.executable, source]
    subprocess.run(build, check=True)
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, place], check=True)
    python, (wheel,) = place / "bin/python", (source / "dist").glob("*.whl")
    subprocess.run([uv, "pip", "install", "-q", "--no-deps", "--python", python, wheel], check=True)
    (packages,) = place.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))  # all that it depends on

    write_data(project / "input", 60)
    shutil.copy(project / "input/data/0.png", project / "photo.png")
    for name in ("cache", "extract", "classify"):
        (project / name).mkdir()
        (project / name / "__init__.py").write_text(f"raise ImportError('the {name} of the project')")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    printed = []
    command = place / "bin/encode-once"
    for words in (
        [command, "extract", "--encoder", "efficientnet-lite0"],
        [command, "fit", "--head", "linear", "--validation", "tenth"],
        [command, "predict", "runs/linear", "photo.png"],
        [python, "-c", LABELS],
    ):
        started = time.perf_counter()
        done = subprocess.run(words, cwd=project, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        print(f"{time.perf_counter() - started:.1f} s: {Path(words[0]).name} {words[1]}")
        printed.append(done.stdout)
    labels = printed[2].removeprefix("photo.png  ").strip()
    assert [label.rsplit(" ", 1)[0] for label in labels.split(", ")] == printed[3].strip().split(", ")
