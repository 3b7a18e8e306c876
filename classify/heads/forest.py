"""A random forest of all classes at once, on a projection of the features."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestRegressor

from encode_once.classify.arrays import LabelMatrix, Scores, State
from encode_once.classify.data.matrix import MatrixLike
from encode_once.classify.heads import projection
from encode_once.classify.heads.base import Head
from encode_once.classify.heads.search_space import Range, Space
from encode_once.classify.heads.validation import with_validation


@dataclass(eq=False, repr=False)
class Forest(Head, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """scikit-learn's forest, whose trees predict all classes: each leaf holds the share of every label.

    On thousands of columns a tree takes seconds, and each column says little. So trees are grown on
    `components` principal components and a ridge regression of each class (`classify.heads.projection`),
    whose strength is chosen on the validation rows. For labels of 0 and 1 the squared error is the Gini
    impurity.
    """

    SPACE: ClassVar[Space] = {
        "components": Range(8, 128, log=True),
        "max_features": Range(0.1, 1.0),
        "min_samples_leaf": Range(1, 20, log=True),
    }

    trees: int = 100
    components: int = 32
    max_features: float = 0.33
    min_samples_leaf: int = 5
    jobs: int = -1
    seed: int = 0

    def fit(
        self, X: MatrixLike, Y: LabelMatrix, X_val: MatrixLike | None = None, Y_val: LabelMatrix | None = None
    ) -> "Forest":
        """Learn the labels Y (n, c) of the rows X (n, d)."""
        X, Y, X_val, Y_val = with_validation(X, Y, X_val, Y_val, self.seed)
        center, axes = projection.learn(X, Y, X_val, Y_val, self.components)
        forest = RandomForestRegressor(
            self.trees,
            max_features=self.max_features,
            min_samples_leaf=self.min_samples_leaf,
            n_jobs=self.jobs,
            random_state=self.seed,
        ).fit(projection.project(X, center, axes), Y if Y.shape[1] > 1 else Y[:, 0])
        trees = [estimator.tree_ for estimator in forest.estimators_]
        starts = np.cumsum([0, *(tree.node_count for tree in trees)])
        children = [
            np.where(side < 0, -1, side + start)  # as indices among the nodes of all trees
            for tree, start in zip(trees, starts, strict=False)
            for side in (tree.children_left, tree.children_right)
        ]
        self.state_ = {
            "center": center,
            "axes": axes,
            "roots": starts[:-1].astype(np.int32),
            "left": np.concatenate(children[::2]).astype(np.int32),
            "right": np.concatenate(children[1::2]).astype(np.int32),
            "feature": np.concatenate([tree.feature for tree in trees]).astype(np.int32),
            "threshold": np.concatenate([tree.threshold for tree in trees]),
            "shares": np.concatenate([tree.value[:, :, 0] for tree in trees]).astype(np.float16),
        }
        return self

    def predict_proba(self, X: MatrixLike) -> Scores:
        """Probabilities (n, c) of the classes for the rows X (n, d): the mean of the trees' leaves."""
        tree = self.state_
        Z = projection.project(X, tree["center"], tree["axes"])
        scores = np.zeros((len(Z), tree["shares"].shape[1]), np.float32)
        for root in tree["roots"].tolist():
            node = np.full(len(Z), root)
            inner = np.flatnonzero(tree["left"][node] >= 0)
            while len(inner):
                at = node[inner]
                left = Z[inner, tree["feature"][at]] <= tree["threshold"][at]
                node[inner] = np.where(left, tree["left"][at], tree["right"][at])
                inner = inner[tree["left"][node[inner]] >= 0]
            scores += tree["shares"][node]
        scores /= len(tree["roots"])
        return scores

    def state(self) -> State:
        """The projection, and the nodes of all trees: their children, splits, and shares (nodes, c)."""
        return self.state_

    def load_state(self, state: State) -> None:
        """Restore what a forest learned.

        Raises:
            ValueError: the nodes form no trees, or split by columns that are not there.
        """
        left, right, feature = state["left"], state["right"], state["feature"]
        nodes, inner = np.arange(len(left)), left >= 0
        for children in (left, right):
            below = (children > nodes) & (children < len(nodes))  # so that every path ends
            if not np.array_equal(inner, children >= 0) or not below[inner].all():
                raise ValueError("the nodes of the forest are no trees")
        roots, columns = state["roots"], feature[inner]
        if not ((roots >= 0) & (roots < len(nodes))).all() or not len(roots):
            raise ValueError("the forest has no roots")
        if not ((columns >= 0) & (columns < len(state["axes"]))).all():
            raise ValueError("the forest splits by columns that are not there")
        if len(state["threshold"]) != len(nodes) or len(state["shares"]) != len(nodes):
            raise ValueError("the forest lacks thresholds or shares")
        self.state_ = dict(state)
