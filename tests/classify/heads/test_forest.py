import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesRegressor, RandomForestClassifier, RandomForestRegressor
from sklearn.metrics import average_precision_score

from encode_once.classify.heads import projection
from encode_once.classify.heads.forest import Forest


def problem(seed=0, n=400, d=30, c=3):
    rng = np.random.default_rng(seed)
    X = (rng.normal(size=(n, d)) @ rng.normal(size=(d, d))).astype(np.float32)
    return X, X @ rng.normal(size=(d, c)) + rng.normal(size=(n, c)) > 0


@pytest.mark.parametrize(("extra", "trees"), [(True, ExtraTreesRegressor), (False, RandomForestRegressor)])
@pytest.mark.parametrize("c", [1, 3])
def test_scores_are_those_of_scikit_learns_trees_on_the_projection(extra, trees, c):
    X, Y = problem(c=c)
    X, Y, X_val = X[:300], Y[:300], X[300:]
    head = Forest(trees=20, components=8, extra=extra, seed=3).fit(X, Y)
    center, axes, columns, _ = projection.learn(X, Y, 8, 3)
    forest = trees(20, max_features=0.33, min_samples_leaf=3, random_state=3)
    forest.fit(columns, Y if c > 1 else Y[:, 0])
    expected = forest.predict(projection.project(X_val, center, axes)).reshape(100, c)
    np.testing.assert_allclose(head.predict_proba(X_val), expected, atol=2e-3)


def test_a_tree_splits_like_a_classifier_by_gini_impurity():
    X, Y = problem(1)
    head = Forest(trees=1, components=30, max_features=1.0, min_samples_leaf=20, extra=False)
    head.fit(X, Y[:, :1])
    center, axes, columns, _ = projection.learn(X, Y[:, :1], 30, 0)
    whole = RandomForestClassifier(1, max_features=1.0, min_samples_leaf=20, random_state=0)
    expected = whole.fit(columns, Y[:, 0]).predict_proba(projection.project(X, center, axes))[:, 1]
    np.testing.assert_allclose(head.predict_proba(X)[:, 0], expected, atol=2e-3)


@pytest.mark.parametrize("extra", [True, False])
def test_of_more_labels_than_targets_leaves_hold_the_shares_of_all(extra):
    X, Y = problem(2, n=900, c=80)
    head = Forest(trees=30, extra=extra).fit(X[:600], Y[:600])
    scores = head.predict_proba(X[650:])
    assert average_precision_score(Y[650:], scores, average="macro") > 0.8
    np.testing.assert_allclose(scores.mean(axis=0), Y[:600].mean(axis=0), atol=0.1)
    state = head.state()
    assert len(state["starts"]) == (state["left"] < 0).sum() + 1
    assert len(state["shares"]) < 0.8 * 80 * (len(state["starts"]) - 1)  # shares of 0 are not stored
    if extra:  # all rows grow each tree, so that a tree of one leaf has the labels' frequencies
        whole = Forest(trees=1, min_samples_leaf=600).fit(X[:600], Y[:600])
        np.testing.assert_allclose(whole.predict_proba(X[:1])[0], Y[:600].mean(axis=0), atol=1e-3)


def test_the_order_of_many_labels_does_not_matter():
    X, Y = problem(4, n=300, c=80)
    order = np.random.default_rng(0).permutation(80)
    scores, permuted = (Forest(trees=5).fit(X, labels).predict_proba(X) for labels in (Y, Y[:, order]))
    np.testing.assert_allclose(permuted, scores[:, order], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("labels", lambda labels: labels + 3, "indices"),
        ("starts", lambda starts: starts[:-1], "pointer|lacks"),
        ("starts", lambda starts: starts[::-1], "pointer"),
        ("starts", lambda starts: starts + 1, "pointer"),
        ("shares", lambda shares: shares[:-1], "indices and data|pointer"),
        ("classes", lambda classes: classes - 2, "indices"),
        ("threshold", lambda thresholds: thresholds[:-1], "lacks"),
        ("left", lambda left: np.where(left >= 0, 0, left), "do not form trees"),
        ("roots", lambda roots: roots - 10**6, "no roots"),
        ("feature", lambda columns: columns + 10**6, "columns"),
    ],
)
def test_a_damaged_state_is_an_error(name, damage, message):
    state = Forest(trees=5).fit(*problem(3)).state()
    with pytest.raises(ValueError, match=message):
        Forest().load_state({**state, name: damage(state[name])})
