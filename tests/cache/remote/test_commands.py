"""The commands on a store at a URL, as a user types them."""

import json
import shutil

import numpy as np
import pytest

from encode_once.cache import Store
from encode_once.cache.remote.folder import RemoteFolder

EXTRACT = "extract", "--encoder", "glove-50"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A function that goes on as on a machine of that name: with local copies of its own."""

    def go_to(name):
        monkeypatch.setenv("ENCODE_ONCE_STORE_CACHE", str(tmp_path / name))

    go_to("first")
    return go_to


@pytest.mark.slow
def test_every_command_works_on_a_store_at_a_url_also_one_named_by_a_run(
    folder, run, bucket, machine, fit_once, tmp_path
):
    folder(60, test_rows=6)
    at = "--store", f"{bucket}/store"
    assert "rows in 2 parts sent" in run(*EXTRACT, *at).output
    machine("second")
    result = run(*EXTRACT, *at, "--json")
    assert json.loads(result.stdout)["features"]["glove-50/mean"] == {
        "encoded": 0,
        "present": 66,
        "failed": 0,
    }
    assert "glove-50/mean" in run("store", "list", *at).output
    assert "modality" in run("store", "info", "glove-50/mean", *at).output
    run("store", "verify", "--repair", *at)
    run("fit", "--head", "linear", "--features", "glove-50/mean", *at)
    assert json.loads((tmp_path / "runs/linear/run.json").read_text())["store"] == f"{bucket}/store"
    machine("third")
    lines = run("predict", "runs/linear", "-o", "own.csv").output
    assert f"names the store {bucket}/store, which is read: --store DIR names another" in lines
    run("predict", "runs/linear", *at, "-o", "named.csv")
    assert (tmp_path / "own.csv").read_text() == (tmp_path / "named.csv").read_text()
    run("evaluate", "runs/linear")
    run("store", "export", "glove-50/mean", "--to", "npy", "-o", "v.npy", "--table", "train", *at)
    assert np.load(tmp_path / "v.npy").shape == (60, 50)
    run("store", "merge", f"{bucket}/store", "--store", "copy")
    run("store", "merge", "copy", "--store", f"{bucket}/other")
    machine("fourth")
    assert len(Store(f"{bucket}/other").feature("glove-50/mean")) == 66
    run("doctor", *at)
    for words in (["compact"], ["gc", "--delete"], ["drop", "glove-50/mean"]):
        refused = run("store", *words, *at, status=1).output
        assert (
            f"Error: {bucket}/store: nothing is deleted or rewritten in a store at a URL: store merge"
            in refused
        )
    before = RemoteFolder(f"{bucket}/store").list()
    assert "nothing is deleted or rewritten" in run("forget", "0.png", *at, status=1).output
    assert {name for name in before if "claims" not in name} <= RemoteFolder(f"{bucket}/store").list().keys()


@pytest.mark.slow
def test_what_cannot_be_reached_is_said_in_one_line(run, folder, bucket, machine, monkeypatch):
    folder(6)
    at_nothing = run(*EXTRACT, "--store", "s3://no-such-bucket-of-ours/x", status=1)
    assert at_nothing.output.splitlines()[-1].startswith(
        "Error: s3://no-such-bucket-of-ours/x: there is no such bucket: create it first"
    )
    run("store", "list", "--store", "http://example.org/store", status=2)
    shutil.rmtree("input")
    assert "is not a store: run extract first" in run("store", "list", "--store", bucket, status=1).output
