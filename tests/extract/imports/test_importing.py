"""Imported vectors are a feature like any other: fitted, compared and predicted without an encoder."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.datasets import dump_svmlight_file

from encode_once.cache import Store
from encode_once.classify.data import features as featuring
from encode_once.extract import encode

N, WIDTH = 120, 12
RNG = np.random.default_rng(0)
Y = RNG.random((N, 3)) < 0.4
X = (Y @ RNG.normal(size=(3, WIDTH)) * 2 + RNG.normal(size=(N, WIDTH))).astype(np.float32)
IDS = [f"row {row}" for row in range(N)]
NAMES = np.array(["red", "blue", "big"])


@pytest.fixture
def command(run):
    """The command line in a folder with a table without images and captions, and its vectors."""
    labels = [";".join(NAMES[row]) for row in Y]
    pd.DataFrame({"id": IDS, "labels": labels, "price": RNG.random(N)}).to_csv("table.csv", index=False)
    np.savez("x.npz", ids=np.array(IDS)[::-1], x=X[::-1])
    return run


def stored(store, name, table=None):
    """The vectors of a table's rows as heads read them."""
    (source,) = featuring.choose(store, [name])
    return featuring.load([source], table or store.table())[np.arange(N)]


def test_a_table_without_content_gets_vectors_and_is_fitted(command):
    out = command("store", "import", "api", "x.npz", "--data", "table.csv").stdout
    assert "api/imported: 120 vectors stored (12 columns)" in out
    assert "rows of the tables without a vector: 0 of 120" in out
    assert "vectors that belong to no row: 0" in out
    np.testing.assert_array_equal(stored(Store("store"), "api"), X)
    command("fit", "--head", "linear", "--run", "r")
    metrics = json.loads(command("evaluate", "r", "--json").stdout)
    assert metrics["micro_f1"] > 0.8
    command("predict", "r", "--data", "table.csv", "-o", "labels.csv")
    assert len(pd.read_csv("labels.csv")) == N


def test_what_does_not_match_is_counted(command):
    np.savez("part.npz", ids=np.array([*IDS[:50], "other"]), x=X[:51])
    out = command("store", "import", "api", "part.npz", "--data", "table.csv").stdout
    assert "50 vectors stored" in out
    assert "without a vector: 70 of 120" in out
    assert "belong to no row: 1" in out
    assert "lacks 70 of the 120 rows" in command("fit", "--run", "r", status=1).stderr


def test_rows_can_be_appended_but_not_changed(command):
    np.savez("a.npz", ids=np.array(IDS[:50]), x=X[:50])
    np.savez("b.npz", ids=np.array(IDS[40:]), x=X[40:])
    np.savez("c.npz", ids=np.array(IDS), x=X + 1)
    command("store", "import", "api", "a.npz", "--data", "table.csv")
    key = Store("store").feature("api/imported").key
    assert "from other files: --append adds" in command("store", "import", "api", "b.npz", status=2).stderr
    out = command("store", "import", "api", "b.npz", "--append").stdout
    assert "70 vectors stored" in out
    assert "10 rows had theirs already" in out
    assert (
        "has other vectors for rows"
        in command("store", "import", "api", "c.npz", "--append", status=1).stderr
    )
    feature = Store("store").feature("api/imported")
    np.testing.assert_array_equal(stored(Store("store"), "api"), X)
    assert feature.key == key
    assert [text.split()[0] for text in feature.record.provenance.values()] == ["a.npz", "b.npz"]


def test_files_that_contradict_each_other_are_refused_and_nothing_is_stored(command):
    np.savez("a.npz", ids=np.array(IDS[:50]), x=X[:50])
    np.savez("b.npz", ids=np.array(IDS[49:]), x=X[49:] + 1)
    error = command("store", "import", "api", "a.npz", "b.npz", "--data", "table.csv", status=1).stderr
    assert "a.npz (row 49) and b.npz (row 0) have different vectors for one row of a table" in error
    assert Store("store").features() == []


def test_numbers_are_checked_in_the_type_that_is_stored(command):
    np.savez("half.npz", ids=np.array(IDS[:50]), x=X[:50].astype(np.float16))
    np.savez("large.npz", ids=np.array(IDS[50:]), x=X[50:] + 1e6)
    command("store", "import", "api", "half.npz", "--data", "table.csv")
    error = command("store", "import", "api", "large.npz", "--append", status=1).stderr
    assert "row 0 has a number that is NaN, infinite or too large for float16" in error
    assert len(Store("store").feature("api/imported")) == 50
    assert len(Store("store").feature("api/imported").record.provenance) == 1


def test_labels_of_a_file_are_reported(command):
    Path("x.svm").write_text("1,2 1:3\n3 1:4\n")
    assert "labels: 3 (1, 2, 3)" in command("store", "import", "x", "x.svm").stdout


def test_the_same_import_again_changes_nothing(command):
    command("store", "import", "api", "x.npz", "--data", "table.csv")
    before = sorted(path.name for path in Store("store").folder("api/imported").iterdir())
    assert "120 rows had theirs already" in command("store", "import", "api", "x.npz").stdout
    assert sorted(path.name for path in Store("store").folder("api/imported").iterdir()) == before


@pytest.mark.parametrize(
    ("dtype", "kept"), [("f2", "f2"), ("f4", "f4"), ("f8", "f4"), ("i8", "f4"), ("?", "f4")]
)
def test_numbers_are_stored_as_float16_only_if_they_are(dtype, kept, command):
    np.savez("t.npz", ids=np.array(IDS), x=(X * 10).astype(dtype))
    command("store", "import", "t", "t.npz", "--data", "table.csv")
    assert Store("store").feature("t/imported").dtype == np.dtype(kept)
    np.testing.assert_array_equal(stored(Store("store"), "t"), (X * 10).astype(dtype).astype(np.float32))


def test_numbers_that_are_not_finite_are_refused_with_their_row(command):
    for number in (np.nan, np.inf, 1e300):
        values = X.astype(np.float64)
        values[7, 3] = number
        np.savez("bad.npz", ids=np.array(IDS), x=values)
        assert (
            "row 7 has a number that is"
            in command("store", "import", "t", "bad.npz", "--data", "table.csv", status=1).stderr
        )
    assert "t/imported" not in Store("store").features()


def test_sparse_rows_stay_sparse(command, tmp_path):
    words = sparse.random(N, 30_000, density=5e-4, random_state=0, format="csr", dtype=np.float32)
    wide = sparse.hstack([Y.astype(np.float32), words, np.ones((N, 1), np.float32)], format="csr")
    dump_svmlight_file(wide, Y.astype(int), "words-train.svm", multilabel=True, zero_based=False)
    out = command("store", "import", "words", "words-train.svm").stdout
    assert "30005 columns, sparse" in out
    store = Store("store")
    feature = store.feature("words/imported")
    assert feature.nbytes < N * 30_000  # dense: 14 MB
    assert (feature.width, feature.has_sequences) == (wide.shape[1] + 1, False)
    np.testing.assert_array_equal(stored(store, "words")[:, 1:], wide.toarray())
    command("fit", "--head", "linear", "--run", "r")
    assert json.loads(command("evaluate", "r", "--json").stdout)["micro_f1"] > 0.8


def test_a_sparse_matrix_of_scipy_is_stored_sparse(command):
    words = sparse.random(N, 20_000, density=5e-4, random_state=0, format="csr", dtype=np.float64)
    sparse.save_npz("words.npz", words)
    Path("words.npz.ids.txt").write_text("\n".join(IDS) + "\n")
    assert (
        "20000 columns, sparse" in command("store", "import", "w", "words.npz", "--data", "table.csv").stdout
    )
    np.testing.assert_array_equal(stored(Store("store"), "w"), words.toarray().astype(np.float32))
    words.data[3] = 1e300
    sparse.save_npz("words.npz", words)
    error = command("store", "import", "huge", "words.npz", "--data", "table.csv", status=1).stderr
    assert "words.npz: some of its numbers are NaN, infinite or too large for float32" in error
    assert "huge/imported" not in Store("store").features()


def test_vectors_are_found_after_the_table_moved_if_its_rows_have_content(command):
    pd.read_csv("table.csv").assign(caption=IDS).to_csv("captioned.csv", index=False)
    command("store", "import", "api", "x.npz", "--data", "captioned.csv")
    pd.read_csv("captioned.csv").to_csv("moved.csv", index=False)
    encode("moved.csv", [], "store")
    tables = {table.source.rpartition("/")[2]: table for table in Store("store").tables()}
    np.testing.assert_array_equal(stored(Store("store"), "api", tables["moved.csv"]), X)


def test_rows_of_another_table_have_other_keys(command):
    pd.read_csv("table.csv").to_csv("other.csv", index=False)
    command("store", "import", "api", "x.npz", "--data", "table.csv")
    command("store", "import", "other", "x.npz", "--data", "other.csv")
    tables = {table.source.rpartition("/")[2]: table for table in Store("store").tables()}
    assert not Store("store").feature("api/imported").has(tables["other.csv"].keys("row")).any()


def test_gc_keeps_the_rows_of_tables_and_compact_orders_them(command):
    command("store", "import", "api", "x.npz", "--data", "table.csv")
    command("store", "gc", "--delete")
    command("store", "compact")
    np.testing.assert_array_equal(stored(Store("store"), "api"), X)
    command("store", "verify")


def test_sparse_files_are_as_wide_as_the_widest(command):
    for split, rows in (("train", slice(0, 80)), ("test", slice(80, N))):
        width = 500 if split == "train" else 400
        ends = sparse.csr_matrix((np.ones(len(X[rows])), (range(len(X[rows])), [width - 1] * len(X[rows]))))
        matrix = sparse.csr_matrix(X[rows] * (X[rows] > 1.5))
        matrix.resize(ends.shape)
        dump_svmlight_file(
            matrix + ends, Y[rows].astype(int), f"w-{split}.svm", multilabel=True, zero_based=False
        )
    command("store", "import", "w", "w-train.svm", "w-test.svm")
    assert Store("store").feature("w/imported").width == 501
    command("fit", "--head", "linear", "--split", "tables", "--run", "r")
    assert json.loads((command("evaluate", "r", "--json")).stdout)["n"] == 40


@pytest.mark.parametrize(
    ("status", "words", "message"),
    [
        (1, ("api", "x.npz"), "is not a store"),
        (2, ("api", "x.npz", "--data", "table.csv", "--table", "t"), "give one of them"),
        (2, ("api", "x.npz", "x.npz", "--ids", "ids", "--data", "table.csv"), "--ids is for one FILE"),
        (2, ("api", "x.npz", "--labels", "last:2", "--data", "table.csv"), "for ARFF files"),
        (1, ("a b", "x.npz", "--data", "table.csv"), "is not a feature name"),
        (2, ("api", "x.npz", "--data", "table.csv", "--append"), "api/imported"),
    ],
)
def test_mistakes_are_one_line(status, words, message, command):
    error = command("store", "import", *words, status=status).stderr.strip()
    assert message in error.splitlines()[-1]
