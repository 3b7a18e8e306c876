"""Every format of `store export` is one of `store import`: the same rows get the same vectors."""

import json

import numpy as np
import pytest

from encode_once.cache import Store
from tests.test_captions_without_encoder import captions_csv


@pytest.mark.parametrize("kind", ["npy", "safetensors", "parquet", "lance", "clip-retrieval"])
def test_exported_vectors_are_imported_as_they_were(run, tmp_path, kind):
    if kind == "lance":
        pytest.importorskip("lance")
    captions_csv(tmp_path / "photos", rows=20)
    run("extract", "--encoder", "glove-50", "--data", "photos")
    path = f"vectors.{kind}"
    report = json.loads(run("store", "export", "glove-50/mean", "--to", kind, "-o", path, "--json").stdout)
    assert (report["rows"], report["rows_without_vector"], report["output"]) == (20, 0, path)
    run("store", "import", "own", path)
    store = Store("store")
    (table,) = store.tables()
    before = store.feature("glove-50/mean").read(table.keys("caption")).astype(np.float32)
    if kind == "clip-retrieval":
        before /= np.linalg.norm(before, axis=1, keepdims=True)
    after = store.feature("own/imported").read(table.keys("row"))
    np.testing.assert_allclose(after, before, atol=0 if kind != "clip-retrieval" else 1e-3)


def test_rows_without_a_vector_are_counted_and_wrong_use_is_refused(run, tmp_path):
    captions_csv(tmp_path / "photos", rows=20)
    with (tmp_path / "photos/train.csv").open("a") as file:
        file.write('20.jpg,1,"xqzvkw"\n')  # no word that GloVe knows
    run("extract", "--encoder", "glove-50", "--data", "photos", status=1)
    output = run("store", "export", "glove-50/mean", "--to", "parquet").stderr
    assert "glove-50-mean.parquet: 20 rows" in output
    assert "warning: 1 of 21 rows of" in output
    words = ["store", "export", "glove-50/mean"]
    assert "takes one feature, not 2" in run(*words, "glove-50/tokens", "--to", "npy", status=2).stderr
    assert "did you mean 'clip-retrieval'" in run(*words, "--to", "clip-retreival", status=2).stderr
    run(*words, "--to", "clip-retrieval", "-o", "out")
    assert "out exists: remove it" in run(*words, "--to", "clip-retrieval", "-o", "out", status=1).stderr
