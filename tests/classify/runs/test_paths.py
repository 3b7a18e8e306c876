"""Paths in run.json."""

import os
from pathlib import Path

import pytest

from encode_once.classify.runs.paths import absolute, relative


@pytest.mark.parametrize(
    ("path", "stored"),
    [
        ("/home/a/project/store", "../../store"),
        ("/home/a/project/runs/run/store", "store"),
        ("/data/input/train.csv", "../../../../../data/input/train.csv"),
        ("/home/a/project/runs/run", "."),
        ("", ""),
    ],
)
def test_a_path_is_relative_to_the_run_and_comes_back(path, stored):
    folder = Path("/home/a/project/runs/run")
    assert relative(path, folder) == stored
    assert absolute(stored, folder) == path


def test_an_absolute_path_in_a_file_stays(tmp_path):
    assert absolute("/etc/hosts", tmp_path) == "/etc/hosts"


def test_the_folder_may_be_a_link_or_relative(tmp_path, monkeypatch):
    (tmp_path / "project" / "run").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "project" / "run")
    store = str(tmp_path.resolve() / "project" / "store")
    assert relative(store, tmp_path / "link") == "../store"
    assert absolute("../store", tmp_path / "link") == store
    monkeypatch.chdir(tmp_path / "project")
    assert absolute(relative(store, Path("run")), Path("run")) == store
    assert os.sep == "/" or "\\" not in relative(store, Path("run"))
