"""The process of a program that has this library in it is afterwards what it was before."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_host_process_is_left_as_it_was(folder, tmp_path):
    folder(40)
    environment = os.environ | {"TORCH_HOME": str(tmp_path / "torch"), "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.invariants.host_process", str(tmp_path)],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"imports": {}, "library": {}, "command_line": {}}


def test_the_command_line_as_a_process_changes_what_is_its_own():
    code = (
        "import logging, os, cli; cli.own_process(); "
        "print(logging.root.manager.disable, os.environ['GOMP_SPINCOUNT'])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.stdout.split() == ["50", "2000"], done.stderr
