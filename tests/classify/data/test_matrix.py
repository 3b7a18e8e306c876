import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from encode_once.cache import Feature, Store, content_key
from encode_once.cache.keys import pack
from encode_once.classify import evaluate, fit, predict
from encode_once.classify.data.blocks import Matrix, StoredBlock
from encode_once.classify.data.matrix import ColumnView, RowView, chunks
from encode_once.classify.data.standardise import Standardised, standardisation
from encode_once.classify.heads import make

OPTIONS = {"linear": {}, "mlp": {"hidden": (16,), "epochs": 2, "progress": False}}


KEYS = pack(content_key(bytes([row])) for row in range(12))


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """Three features in several parts, each with the vectors (12, d) of some contents; NaN for the others."""
    rng = np.random.default_rng(0)
    store = Store(tmp_path_factory.mktemp("store"))
    made = []
    for d, parts in ((3, [[4, 1, 9], [0, 2, 3, 5, 6]]), (1, [list(range(12))]), (2, [[7], [8], [11, 10]])):
        feature = store.declare(f"e{d}/x", {"modality": "image"})
        values = np.full((12, d), np.nan, np.float32)
        for part in parts:
            new = rng.normal(size=(len(part), d)).astype(np.float16)
            with feature.writer(len(part)) as writer:
                writer.append(KEYS[part], new)
            values[part] = new
        made.append((feature, values))
    return made


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_matrix_read_from_a_store_is_the_one_made_by_hand(features, data):
    chosen = data.draw(st.permutations(range(3)))[: data.draw(st.integers(1, 3))]
    samples = np.array(
        data.draw(st.lists(st.integers(0, 11), max_size=12)), np.intp
    )  # which content each has
    matrix = Matrix(
        [StoredBlock(str(i), features[i][0], features[i][0].find(KEYS[samples])[None], 1) for i in chosen]
    )
    X = np.concatenate([features[i][1][samples] for i in chosen], axis=1)
    n, d = X.shape
    assert matrix.shapes == {str(i): (1, features[i][1].shape[1]) for i in chosen}
    np.testing.assert_array_equal(
        matrix.missing(), np.stack([np.isnan(features[i][1][samples, 0]) for i in chosen], 1)
    )
    some = np.array(data.draw(st.lists(st.integers(0, n - 1), max_size=20) if n else st.just([])), np.intp)
    rows = data.draw(st.one_of(st.slices(n), st.just(np.arange(n)[::-1]), st.just(some)))
    of_columns = np.array(data.draw(st.lists(st.integers(0, d - 1))), np.intp)
    of_some = data.draw(st.slices(len(some)))
    mean, scale = np.arange(d, dtype=np.float32), np.arange(1, d + 1, dtype=np.float32)
    for lazy, array in (
        (matrix, X),
        (Standardised(matrix, mean, scale), np.nan_to_num((X - mean) / scale)),
    ):
        assert lazy.shape == array.shape
        assert len(lazy) == n
        assert lazy[rows].dtype == np.float32
        np.testing.assert_array_equal(lazy[rows], array[rows])
        selected = RowView(lazy, some)
        assert selected.shape == array[some].shape
        assert len(selected) == len(some)
        columns = ColumnView(selected, of_columns)
        assert columns.shape == (len(columns), len(of_columns)) == (len(some), len(of_columns))
        np.testing.assert_array_equal(columns[of_some], array[some][of_some][:, of_columns])
        np.testing.assert_array_equal(selected[of_some], array[some][of_some])


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 300])
def test_chunks_part_the_rows_and_there_is_always_one(monkeypatch, n):
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


def test_the_standardisation_is_scikit_learns_with_the_variance_shared_by_feature(monkeypatch):
    monkeypatch.setattr("encode_once.classify.data.matrix.CHUNK", 16)
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(100, 6)) * rng.lognormal(size=6) + 100 * rng.normal(size=6)).astype(np.float32)
    X[:, 1] = 7.7  # constant
    X[16:32, :2] = np.nan  # a whole chunk has no vector of the first feature
    X[96:, 2:] = np.nan  # nor the last chunk any of the second
    mean, scale = standardisation(X, [(1, 2), (1, 4)])
    scaler = StandardScaler().fit(X.astype(np.float64))
    share = np.array([6 / (2 * 2)] * 2 + [6 / (2 * 4)] * 4)  # of the variance, 1 a column on average
    assert mean == pytest.approx(scaler.mean_, rel=1e-6)
    assert scale == pytest.approx(scaler.scale_ / np.sqrt(share), rel=1e-6)


def test_a_feature_that_no_row_has_counts_for_nothing():
    X = np.array([[1, np.nan], [3, np.nan]], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mean, scale = standardisation(X, [(1, 1), (1, 1)])
        rows = Standardised(np.array([[1, np.nan], [3, 5]], np.float32), mean, scale)[:]
    assert rows.tolist() == [[-1, 0], [1, 0]]


@pytest.mark.parametrize("head", OPTIONS)
@pytest.mark.parametrize("validated", [True, False])
def test_heads_learn_the_same_from_rows_read_as_needed_as_from_an_array(monkeypatch, head, validated):
    monkeypatch.setattr("encode_once.classify.data.matrix.CHUNK", 32)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 8)).astype(np.float32)
    Y = X[:, :3] + rng.normal(size=(300, 3)) > 0
    lazy = Standardised(X, np.zeros(8, np.float32), np.ones(8, np.float32))
    rows, held = np.arange(200), np.arange(200, 300)
    of_array = [X[rows], Y[rows], *([X[held], Y[held]] if validated else [])]
    of_lazy = [RowView(lazy, rows), Y[rows], *([RowView(lazy, held), Y[held]] if validated else [])]
    expected = make(head, **OPTIONS[head]).fit(*of_array).predict_proba(X)
    np.testing.assert_array_equal(make(head, **OPTIONS[head]).fit(*of_lazy).predict_proba(lazy), expected)


@pytest.mark.parametrize("head", OPTIONS)
@pytest.mark.parametrize("split", ["stratified:0.1", "kfold:2"])
def test_more_rows_are_not_read_at_a_time_where_there_are_more(filled, tmp_path, monkeypatch, head, split):
    monkeypatch.setattr("encode_once.classify.data.matrix.CHUNK", 64)
    most = []
    take = Feature.take

    def counted(self, rows):
        most[-1] = max(most[-1], len(rows))
        return take(self, rows)

    monkeypatch.setattr(Feature, "take", counted)
    for n in (400, 3200):
        most.append(0)
        store = filled(n, name=f"store-{n}")
        (table,) = store.tables()
        run, _ = fit(store, head, split=split, options=OPTIONS[head], run=tmp_path / f"run-{n}")
        predict(run, store, table)
        if split != "kfold:2":  # of those, the run has seen all rows
            evaluate(run, store, table)
    assert most == [64, 64]
