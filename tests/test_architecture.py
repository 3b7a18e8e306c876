"""Who may know whom: extract → cache ← classify, and the cache knows no torch."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {"cache": {"cache"}, "extract": {"extract", "cache"}, "classify": {"classify", "cache"}}
ROOMS = {*MAY_IMPORT, "cli"}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide which room a name is from"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms(path):
    """The rooms a module imports from."""
    names = [name.split(".") for name in imported(path)]
    assert not any(name[0] in ROOMS for name in names), f"{path}: rooms are imported from encode_once"
    return {name[1] for name in names if name[0] == "encode_once"}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_the_arrows_between_the_rooms_hold(room):
    files = list((ROOT / room).rglob("*.py"))
    assert files
    for path in files:
        assert rooms(path) <= MAY_IMPORT[room], path


# What reads, reports and tunes kept runs, and the store, starts without the libraries that fit and encode.
LIGHT = [
    "encode_once",
    "encode_once.cache",
    "encode_once.cache.describe",
    "encode_once.cache.maintenance",
    "encode_once.classify.evaluation.compare",
    "encode_once.classify.evaluation.tables",
    "encode_once.classify.experiments.recipes",
    "encode_once.classify.runs.predict",
    "encode_once.classify.runs.retune",
    "encode_once.cli",
    "encode_once.extract.encoders",
]


def test_reading_runs_and_stores_imports_neither_torch_nor_scikit_learn():
    code = (
        f"import sys, {', '.join(LIGHT)}; sys.exit(' '.join({{'torch', 'sklearn'}} & {{*sys.modules}}) or 0)"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (0, "")


def test_the_wheel_has_every_package_and_no_other():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {path.parent.relative_to(ROOT) for room in MAY_IMPORT for path in (ROOT / room).rglob("*.py")}
    assert set(listed) == {"encode_once", *(".".join(["encode_once", *folder.parts]) for folder in folders)}
