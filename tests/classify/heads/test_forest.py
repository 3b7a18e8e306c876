import numpy as np
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from encode_once.classify.heads import projection
from encode_once.classify.heads.forest import Forest


def problem(seed=0, n=400, d=30, c=3):
    rng = np.random.default_rng(seed)
    X = (rng.normal(size=(n, d)) @ rng.normal(size=(d, d))).astype(np.float32)
    return X, X @ rng.normal(size=(d, c)) + rng.normal(size=(n, c)) > 0


def test_scores_are_those_of_scikit_learns_forest_on_the_projection():
    X, Y = problem()
    X, Y, X_val, Y_val = X[:300], Y[:300], X[300:], Y[300:]
    head = Forest(trees=20, components=8, seed=3).fit(X, Y, X_val, Y_val)
    learned = projection.learn(X, Y, X_val, Y_val, 8)
    forest = RandomForestRegressor(20, max_features=0.33, min_samples_leaf=5, random_state=3)
    forest.fit(projection.project(X, *learned), Y)
    expected = forest.predict(projection.project(X_val, *learned))
    np.testing.assert_allclose(head.predict_proba(X_val), expected, atol=2e-3)


def test_a_tree_splits_like_a_classifier_by_gini_impurity():
    X, Y = problem(1)
    head = Forest(trees=1, components=30, max_features=1.0, min_samples_leaf=20)
    head.fit(X, Y[:, :1], X, Y[:, :1])
    Z = projection.project(X, head.state()["center"], head.state()["axes"])
    whole = RandomForestClassifier(1, max_features=1.0, min_samples_leaf=20, random_state=0)
    expected = whole.fit(Z, Y[:, 0]).predict_proba(Z)[:, 1]
    np.testing.assert_allclose(head.predict_proba(X)[:, 0], expected, atol=2e-3)
