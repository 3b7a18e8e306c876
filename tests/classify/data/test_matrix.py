import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encode_once.cache import Feature, Store, content_key
from encode_once.cache.keys import pack
from encode_once.classify import fit
from encode_once.classify.data.blocks import Matrix, StoredBlock
from encode_once.classify.data.matrix import ColumnView, LazyMatrix, MatrixLike, RowView, chunks
from encode_once.classify.data.standardise import Standardised
from encode_once.classify.heads import make
from encode_once.classify.runs.predict import evaluate, predict
from tests.conftest import examples

OPTIONS = {"linear": {}, "mlp": {"hidden": (16,), "epochs": 2, "progress": False}}


KEYS = pack(content_key(bytes([row])) for row in range(12))


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """Three features in several parts, each with its vectors (12, d), NaN for absent contents."""
    rng = np.random.default_rng(0)
    store = Store(tmp_path_factory.mktemp("store"))
    features = []
    for d, parts in ((3, [[4, 1, 9], [0, 2, 3, 5, 6]]), (1, [list(range(12))]), (2, [[7], [8], [11, 10]])):
        feature = store.declare(f"e{d}/x", {"modality": "image"})
        values = np.full((12, d), np.nan, np.float32)
        for part in parts:
            new = rng.normal(size=(len(part), d)).astype(np.float16)
            with feature.writer(len(part)) as writer:
                writer.append(KEYS[part], new)
            values[part] = new
        features.append((feature, values))
    return features


@examples(200)
@given(data=st.data())
def test_a_matrix_and_its_views_read_like_the_array_of_all_vectors(features, data):
    chosen = data.draw(st.permutations(range(3)))[: data.draw(st.integers(1, 3))]
    contents = np.array(data.draw(st.lists(st.integers(0, 11), max_size=12)), np.intp)  # of the samples
    matrix = Matrix(
        [StoredBlock(str(i), features[i][0], features[i][0].find(KEYS[contents])[None], 1) for i in chosen]
    )
    X = np.concatenate([features[i][1][contents] for i in chosen], axis=1)
    n, d = X.shape
    assert matrix.shapes == {str(i): (1, features[i][1].shape[1]) for i in chosen}
    np.testing.assert_array_equal(
        matrix.missing(), np.stack([np.isnan(features[i][1][contents, 0]) for i in chosen], 1)
    )
    indices = np.array(data.draw(st.lists(st.integers(0, n - 1), max_size=20) if n else st.just([])), np.intp)
    rows = data.draw(st.one_of(st.slices(n), st.just(np.arange(n)[::-1]), st.just(indices)))
    columns = np.array(data.draw(st.lists(st.integers(0, d - 1))), np.intp)
    part = data.draw(st.slices(len(indices)))
    mean, scale = np.arange(d, dtype=np.float32), np.arange(1, d + 1, dtype=np.float32)
    for lazy, array in (
        (matrix, X),
        (Standardised(matrix, mean, scale), np.nan_to_num((X - mean) / scale)),
    ):
        assert lazy.shape == array.shape
        assert len(lazy) == n
        assert lazy[rows].dtype == np.float32
        as_array = np.asarray(lazy)
        assert (as_array.dtype, as_array.shape) == (np.float32, array.shape)
        np.testing.assert_array_equal(as_array, array)
        np.testing.assert_array_equal(np.asarray(lazy, np.float64), array)
        np.testing.assert_array_equal(lazy[rows], array[rows])
        row_view = RowView(lazy, indices)
        assert row_view.shape == array[indices].shape
        assert len(row_view) == len(indices)
        column_view = ColumnView(row_view, columns)
        assert column_view.shape == (len(column_view), len(columns)) == (len(indices), len(columns))
        np.testing.assert_array_equal(column_view[part], array[indices][part][:, columns])
        np.testing.assert_array_equal(row_view[part], array[indices][part])
        np.testing.assert_array_equal(np.asarray(row_view), array[indices])
        np.testing.assert_array_equal(np.asarray(column_view), array[indices][:, columns])


def test_a_matrix_is_indexed_like_an_array(features):
    (first, values), (second, more), _ = features
    matrix = Matrix([StoredBlock(f.name, f, f.find(KEYS)[None], 1) for f in (first, second)])
    X, mask = np.concatenate([values, more], axis=1), np.arange(12) % 5 == 1
    for index in (3, -1, mask, [2, 2, 0], (4, 1), (mask, ...), (slice(2, 9), [0, 3]), slice(None, None, -2)):
        np.testing.assert_array_equal(matrix[index], X[index])
    with pytest.raises(IndexError):
        matrix[12]
    with pytest.raises(ValueError, match="always a copy"):
        np.array(matrix, copy=False)


def test_numpy_reads_every_matrix_of_the_program():
    """Without `__array__`, NumPy takes an object with `__getitem__` and `__len__` for an empty sequence."""
    lazy = {
        value
        for name, module in sys.modules.items()
        if name.startswith("encode_once.")
        for value in vars(module).values()
        if isinstance(value, type) and {"__getitem__", "shape"} <= vars(value).keys()
    }
    assert lazy >= {Matrix, RowView, ColumnView, Standardised}
    assert {kind for kind in lazy - {MatrixLike} if not issubclass(kind, LazyMatrix)} == set()


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 300])
def test_chunks_divide_the_rows_and_there_is_at_least_one(monkeypatch, n):
    monkeypatch.setattr("encode_once.classify.data.matrix.CHUNK", 3)
    parts = [np.arange(n)[part] for part in chunks(n)]
    assert parts
    assert max(map(len, parts)) <= 3
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(n))


@pytest.mark.parametrize(("d", "size"), [(1, 3), (4, 3), (5, 2), (12, 1), (100, 1), (0, 3)])
def test_chunks_of_long_rows_are_smaller(monkeypatch, d, size):
    monkeypatch.setattr("encode_once.classify.data.matrix.CHUNK", 3)
    monkeypatch.setattr("encode_once.classify.data.matrix.CHUNK_NUMBERS", 12)
    parts = [np.arange(7)[part] for part in chunks(7, d)]
    assert len(parts[0]) == size
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(7))


@pytest.mark.parametrize("head", OPTIONS)
@pytest.mark.parametrize("validated", [True, False])
def test_heads_learn_the_same_from_lazy_rows_as_from_an_array(monkeypatch, head, validated):
    monkeypatch.setattr("encode_once.classify.data.matrix.CHUNK", 32)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 8)).astype(np.float32)
    Y = X[:, :3] + rng.normal(size=(300, 3)) > 0
    lazy = Standardised(X, np.zeros(8, np.float32), np.ones(8, np.float32))
    train, val = np.arange(200), np.arange(200, 300)
    of_array = [X[train], Y[train], *([X[val], Y[val]] if validated else [])]
    of_lazy = [RowView(lazy, train), Y[train], *([RowView(lazy, val), Y[val]] if validated else [])]
    expected = make(head, **OPTIONS[head]).fit(*of_array).predict_proba(X)
    np.testing.assert_array_equal(make(head, **OPTIONS[head]).fit(*of_lazy).predict_proba(lazy), expected)


@pytest.mark.parametrize("head", OPTIONS)
@pytest.mark.parametrize("split", ["stratified:0.1", "kfold:2"])
def test_no_more_rows_are_read_at_a_time_from_a_larger_store(filled, tmp_path, monkeypatch, head, split):
    monkeypatch.setattr("encode_once.classify.data.matrix.CHUNK", 16)
    monkeypatch.setattr("encode_once.classify.runs.head_fitter.FOLDS_UP_TO", 200)
    most = []
    take = Feature.take

    def counted(self, rows):
        most[-1] = max(most[-1], len(rows))
        return take(self, rows)

    monkeypatch.setattr(Feature, "take", counted)
    for n in (100, 800):
        most.append(0)
        store = filled(n, name=f"store-{n}")
        (table,) = store.tables()
        run, _ = fit(store, head, split=split, options=OPTIONS[head], run=tmp_path / f"run-{n}")
        predict(run, store, table)
        if split != "kfold:2":  # cross-validation has fitted on all rows
            evaluate(run, store, table)
    assert most == [16, 16]
