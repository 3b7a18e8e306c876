import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from encode_once.cache import Store
from encode_once.classify.bench.synthetic import CLASSES, FREQUENCIES, made_up
from encode_once.classify.data.features import choose, class_names, label_matrix, load


def arrays(rows, dim, seed=0):
    with made_up(rows, dim, seed) as path:
        store = Store(path)
        (table,) = store.tables()
        X = load(choose(store, []), table)[:]
        return X, label_matrix(table.labels, class_names(table.labels))


def test_classes_are_as_frequent_as_said_and_rows_are_as_asked_for():
    X, Y = arrays(5000, 40)  # several chunks
    assert X.shape == (5000, 40)
    assert Y.shape == (5000, CLASSES)
    assert Y.mean(axis=0) == pytest.approx(FREQUENCIES, abs=1e-3)
    variances = np.linalg.eigvalsh(np.cov(X.T))[::-1]
    assert variances * np.arange(1, 41) == pytest.approx(np.ones(40), rel=0.2)


def test_labels_can_be_learned_though_not_wholly_and_rare_ones_are_hard():
    X, Y = arrays(4000, 100)
    f1 = []
    for y in Y.T:
        predicted = LogisticRegression(max_iter=1000).fit(X[:3000], y[:3000]).predict(X[3000:])
        f1.append(f1_score(y[3000:], predicted))
    assert 0.8 < f1[0] < 0.99
    assert 0.3 < f1[1] < 0.9
    assert np.mean(f1[-5:]) < f1[1]


def test_the_same_seed_gives_the_same_rows_and_the_store_is_gone_afterwards():
    one, other = arrays(300, 20, seed=3), arrays(300, 20, seed=3)
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[1], other[1])
    assert (arrays(300, 20, seed=4)[0] != one[0]).any()
    with made_up(300, 20) as path:
        assert path.exists()
    assert not path.exists()
