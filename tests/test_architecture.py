"""Who may know whom: extract → cache ← classify, and the cache knows no torch."""

import ast
import subprocess
import sys
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


def test_the_cache_imports_no_torch():
    code = "import sys; from encode_once import cache; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_command_line_answers_before_torch_is_imported():
    code = "import sys; from encode_once import cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
