from itertools import pairwise

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from encode_once.cache import Store
from encode_once.classify.bench.synthetic import CLASSES, FREQUENCIES, synthetic_scores, synthetic_store
from encode_once.classify.data.features import choose, load
from encode_once.classify.data.labels import class_names, label_matrix


def arrays(rows, dim, seed=0):
    with synthetic_store(rows, dim, seed) as path:
        store = Store(path)
        (table,) = store.tables()
        X = load(choose(store, []), table)[:]
        return X, label_matrix(table.labels, class_names(table.labels))


def test_rows_and_classes_have_the_documented_distribution():
    X, Y = arrays(5000, 40)  # several chunks
    assert X.shape == (5000, 40)
    assert Y.shape == (5000, CLASSES)
    assert Y.mean(axis=0) == pytest.approx(FREQUENCIES, abs=1e-3)
    variances = np.linalg.eigvalsh(np.cov(X.T))[::-1]
    assert variances * np.arange(1, 41) == pytest.approx(np.ones(40), rel=0.2)


def test_labels_can_be_learned_in_part_and_rare_ones_are_hard():
    X, Y = arrays(4000, 100)
    f1 = []
    for y in Y.T:
        predicted = LogisticRegression(max_iter=1000).fit(X[:3000], y[:3000]).predict(X[3000:])
        f1.append(f1_score(y[3000:], predicted))
    assert 0.8 < f1[0] < 0.99
    assert 0.3 < f1[1] < 0.9
    assert np.mean(f1[-5:]) < f1[1]


def test_equal_seeds_give_equal_rows_and_the_store_is_deleted_afterwards():
    X, Y = arrays(300, 20, seed=3)
    same_X, same_Y = arrays(300, 20, seed=3)
    np.testing.assert_array_equal(same_X, X)
    np.testing.assert_array_equal(same_Y, Y)
    assert (arrays(300, 20, seed=4)[0] != X).any()
    with synthetic_store(300, 20) as path:
        assert path.exists()
    assert not path.exists()


def test_synthetic_scores_are_calibrated():
    scores, labels = synthetic_scores(50_000, 5)
    np.testing.assert_allclose(labels.mean(axis=0), np.geomspace(0.5, 0.005, 5), rtol=0.2)
    for low, high in pairwise(np.linspace(0, 1, 6)):
        within = (scores >= low) & (scores < high)
        assert labels[within].mean() == pytest.approx(scores[within].mean(), abs=0.02)
