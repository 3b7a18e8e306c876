"""Reading a run's folder."""

import subprocess
import sys

import pytest

from encode_once.classify import fit
from encode_once.classify.bench.synthetic import synthetic_store

HEAVY = {"torch", "sklearn", "lightgbm", "scipy.stats", "pandas"}


@pytest.fixture(scope="module")
def store():
    """A store of 300 rows of 8 columns."""
    with synthetic_store(300, 8) as path:
        yield path


@pytest.mark.parametrize("head", ["mlp", "gbm"])
def test_kept_scores_are_used_without_the_libraries_that_fit(store, tmp_path, head):
    fit(store, head, run=tmp_path / "run")
    commands = [[verb, str(tmp_path / "run")] for verb in ("report", "tune", "evaluate")]
    commands.append(["recipe", "list", "--store", str(store)])
    code = f"""
import sys
from encode_once.cli import main
for words in {commands}:
    main(words, standalone_mode=False)
    imported = {HEAVY} & sys.modules.keys()
    assert not imported, (words, imported)
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
