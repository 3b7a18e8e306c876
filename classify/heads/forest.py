"""A forest of all classes at once, on the features and a projection of them."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.sparse import csr_array, vstack
from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor

from encode_once.classify.arrays import (
    FloatArray,
    LabelMatrix,
    PartialLabels,
    RowIndex,
    Scores,
    State,
    Vectors,
    as_partial_labels,
)
from encode_once.classify.data.matrix import MatrixLike, chunks, column_order
from encode_once.classify.heads import projection
from encode_once.classify.heads.base import Head
from encode_once.classify.heads.checks import require_memory
from encode_once.classify.heads.estimator import Estimator
from encode_once.classify.heads.search_space import Range, Space
from encode_once.classify.partial import frequencies, is_partial, positives, unknown_entries, with_frequencies

MAX_TARGETS = 64  # labels that trees are grown on; more are projected at random onto so many targets
TINY = 1e-12  # the least divisor
NODES_PER_LEAF = 1.65  # nodes for each smallest possible leaf, measured for leaves of 3 rows or more
NODE = 104  # bytes of a node, in scikit-learn's trees and in the arrays that are kept
NODES = ("center", "axes", "roots", "left", "right", "feature", "threshold")  # of the state


@dataclass(eq=False, repr=False)
class Forest(Head, Estimator):
    """Extremely randomised trees (Geurts et al., 2006), whose leaves store the share of every class.

    A tree splits by one column at a time, and each says little. So trees are grown on the features, if they
    are few, on `components` principal components, and on a ridge regression of each class
    (`classify.heads.projection`). For labels of 0 and 1 the squared error is the Gini impurity. With more
    than `MAX_TARGETS` classes, splits minimise the squared error of random projections of the labels instead
    (Joly et al., 2014), because hundreds of targets take hours; leaves still store the classes' shares.

    Of a class, leaves store the share among their rows whose label is known, or the class's frequency if
    there are none; where trees are grown, an unknown label counts as that frequency.

    extra: draw a column's threshold at random, and grow every tree on all rows. If false, a random forest:
        the best threshold, and bootstrapped rows. It took up to seven times as long, and ranked no better on
        these columns (cross-validation on emotions, scene, medical, and COCO's captions).
    """

    PARTIAL: ClassVar[bool] = True
    SPACE: ClassVar[Space] = {
        "components": Range(8, 128, log=True),
        "max_features": Range(0.1, 1.0),
        "min_samples_leaf": Range(1, 20, log=True),
    }

    trees: int = 100
    components: int = 32
    max_features: float = 0.33
    min_samples_leaf: int = 3
    extra: bool = True
    jobs: int = -1
    seed: int = 0

    def fit(
        self,
        X: MatrixLike,
        Y: PartialLabels,
        X_val: MatrixLike | None = None,
        Y_val: PartialLabels | None = None,
    ) -> "Forest":
        """Learn the labels Y (n, c) of the rows X (n, d); validation rows are not needed."""
        Y = as_partial_labels(Y, len(X))
        if X_val is not None and Y_val is not None:
            as_partial_labels(Y_val, len(X_val), Y.shape[1])  # raises for labels that are not 0 or 1
        remedy = "--set trees=20 or min_samples_leaf=50 needs less, --head linear or gbm a fraction"
        require_memory("forest", self._memory(X.shape[1], Y), remedy)
        center, axes, learned, self.notes_ = projection.learn(X, Y, self.components, self.seed)
        columns = np.asarray(learned)
        classes = column_order(Y)
        forest = (ExtraTreesRegressor if self.extra else RandomForestRegressor)(
            self.trees,
            max_features=self.max_features,
            min_samples_leaf=self.min_samples_leaf,
            n_jobs=self.jobs,
            random_state=self.seed,
        ).fit(columns, self._targets(with_frequencies(Y)[:, classes]))
        trees = [estimator.tree_ for estimator in forest.estimators_]
        starts = np.cumsum([0, *(tree.node_count for tree in trees)])
        children = [
            np.where(side < 0, -1, side + start)  # as indices among the nodes of all trees
            for tree, start in zip(trees, starts, strict=False)
            for side in (tree.children_left, tree.children_right)
        ]
        labels = csr_array(positives(Y).astype(np.float32))
        counted = csr_array((~unknown_entries(Y)).astype(np.float32)) if is_partial(Y) else None
        usual = frequencies(Y)
        drawn = zip(trees, forest.estimators_samples_, strict=True)
        self.leaves_ = vstack(
            [_shares(tree, columns, labels, counted, usual, rows) for tree, rows in drawn], format="csr"
        )
        self.nodes_ = {
            "center": center,
            "axes": axes,
            "roots": starts[:-1].astype(np.int32),
            "left": np.concatenate(children[::2]).astype(np.int32),
            "right": np.concatenate(children[1::2]).astype(np.int32),
            "feature": np.concatenate([tree.feature for tree in trees]).astype(np.int32),
            "threshold": np.concatenate([tree.threshold for tree in trees]),
        }
        return self

    def _memory(self, d: int, Y: PartialLabels) -> float:
        """About how many bytes a forest of d columns and labels Y (n, c) holds while it is fitted.

        They are the columns; the targets; nodes, of which there are `NODES_PER_LEAF` n / min_samples_leaf in
        a tree, with the share of each target; and the labels of the rows in leaves, once for each tree.
        """
        n, targets = len(Y), min(Y.shape[1], MAX_TARGETS)
        columns = (d if d <= projection.MAX_PLAIN else 0) + self.components + Y.shape[1]
        nodes = NODES_PER_LEAF / self.min_samples_leaf * (NODE + 8 * targets)
        labels = positives(Y).sum() / n
        return n * float(4 * columns + 8 * targets + self.trees * (nodes + 8 * labels))

    def _targets(self, Y: LabelMatrix | Vectors) -> Vectors:
        """What trees are grown on: the labels (n, c), or `MAX_TARGETS` random projections of them."""
        c = Y.shape[1]
        if c == 1:
            return Y[:, 0].astype(np.float32)
        if c <= MAX_TARGETS:
            return Y.astype(np.float32)
        directions = np.random.default_rng(self.seed).normal(size=(c, MAX_TARGETS)).astype(np.float32)
        return (Y - Y.mean(axis=0, dtype=np.float32)) @ directions

    def predict_proba(self, X: MatrixLike) -> Scores:
        """Probabilities (n, c) of the classes for the rows X (n, d): the mean of the trees' leaves."""
        tree = self.nodes_
        scores = np.empty((len(X), self.leaves_.shape[1]), np.float32)
        leaf_of, trees = np.cumsum(tree["left"] < 0) - 1, len(tree["roots"])
        for part in chunks(*X.shape):
            Z = projection.project(X[part], tree["center"], tree["axes"])
            node = np.tile(tree["roots"], (len(Z), 1))
            row, root = np.nonzero(tree["left"][node] >= 0)
            while len(row):
                at = node[row, root]
                left = Z[row, tree["feature"][at]] <= tree["threshold"][at]
                node[row, root] = np.where(left, tree["left"][at], tree["right"][at])
                inner = tree["left"][node[row, root]] >= 0
                row, root = row[inner], root[inner]
            starts = np.arange(len(Z) + 1) * trees
            reached = csr_array(
                (np.full(node.size, 1 / trees, np.float32), leaf_of[node].ravel(), starts),
                shape=(len(Z), self.leaves_.shape[0]),
            )
            scores[part] = (reached @ self.leaves_).toarray().clip(max=1)  # a mean of ones may exceed 1
        return scores

    def state(self) -> State:
        """The projection; the children and splits of all trees' nodes; and the leaves' shares above 0.

        Shares and their labels are listed leaf by leaf: a leaf of a few rows has few of hundreds of labels.
        """
        leaves = self.leaves_
        return {
            **self.nodes_,
            "shares": leaves.data.astype(np.float16),
            "labels": leaves.indices.astype(np.min_scalar_type(leaves.shape[1])),
            "starts": leaves.indptr.astype(np.int64),
            "classes": np.array([leaves.shape[1]]),
        }

    def load_state(self, state: State) -> None:
        """Restore what a forest learned.

        Raises:
            ValueError: the nodes do not form trees, or split by columns that do not exist.
        """
        left, right, feature = state["left"], state["right"], state["feature"]
        nodes, inner = np.arange(len(left)), left >= 0
        for children in (left, right):
            below = (children > nodes) & (children < len(nodes))  # so that every path ends
            if not np.array_equal(inner, children >= 0) or not below[inner].all():
                raise ValueError("the nodes of the forest do not form trees")
        roots, columns = state["roots"], feature[inner]
        if not ((roots >= 0) & (roots < len(nodes))).all() or not len(roots):
            raise ValueError("the forest has no roots")
        if not ((columns >= 0) & (columns < len(state["axes"]))).all():
            raise ValueError("the forest splits by columns that do not exist")
        shares = csr_array(
            (state["shares"].astype(np.float32), state["labels"].astype(np.int32), state["starts"]),
            shape=(len(state["starts"]) - 1, int(state["classes"][0])),
        )
        shares.check_format()  # raises for labels out of range
        if len(state["threshold"]) != len(nodes) or shares.shape[0] != (~inner).sum():
            raise ValueError("the forest lacks thresholds or shares")
        self.nodes_ = {name: state[name] for name in NODES}
        self.leaves_ = shares


def _shares(
    tree: Any,
    columns: Vectors,
    labels: csr_array,
    counted: csr_array | None,
    usual: FloatArray,
    rows: RowIndex,
) -> csr_array:
    """The labels' shares (leaves, c) of the rows, repeats allowed, in each leaf of a tree.

    counted (n, c): which labels are known, None if all are. usual (c,): the share where none in a leaf is.
    """
    leaf_of = np.cumsum(tree.children_left < 0) - 1
    leaves = leaf_of[tree.apply(columns)[rows]]
    sizes = np.bincount(leaves)
    membership = csr_array(((1 / sizes)[leaves], (leaves, rows)), shape=(len(sizes), len(columns)))
    shares = membership @ labels
    if counted is not None:
        whole, part = (membership @ counted).toarray(), shares.toarray()
        shares = csr_array(np.where(whole > 0, part / np.maximum(whole, TINY), usual))
    shares.data = shares.data.astype(np.float16).astype(np.float32)  # as they are stored
    return shares
