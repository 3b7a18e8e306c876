"""Tuned thresholds and decision rules for any multi-label classifier of scikit-learn."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.model_selection import check_cv
from sklearn.utils import _safe_indexing, check_random_state, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted, indexable

from encode_once.cache.errors import DataError, unknown_name
from encode_once.classify.arrays import FloatArray, LabelMatrix, Probabilities, RowIndex
from encode_once.classify.data import splits
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.heads.estimator import label_table

PREFIT = "prefit"
RESPONSES = ("predict_proba", "decision_function")
FOLDS = 5
STEEPEST = 12.0  # the largest logit that calibration does not clip


class ThresholdedClassifier(MetaEstimatorMixin, ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier whose labels follow from its scores by tuned thresholds, or another decision rule.

    It is scikit-learn's `TunedThresholdClassifierCV` for several labels: the estimator scores each row in
    cross-validation, the rule is fitted on these scores, and the estimator on all rows.

    Args:
        estimator: a multi-label classifier with `predict_proba`, as (n, c) or c arrays (n, 2), or
            `decision_function`; or a binary one.
        objective, shrink, decide, calibrate, at_least, at_most: see `DecisionSpec`.
        response_method: "predict_proba", "decision_function", or "auto", the first that the estimator has.
        cv: the number of folds, by default 5, stratified by all labels; a splitter or splits of
            scikit-learn; or "prefit": the estimator is fitted, and all rows tune the rule.
        n_jobs: folds that are fitted at the same time.
        random_state: of the folds, if `cv` is their number.

    Attributes: `estimator_`, the fitted estimator; `decision_`, the `DecisionRule`; `thresholds_` (c,), of
    what the estimator returns, or of probabilities if these are calibrated; `classes_`.

    Examples:
        >>> ThresholdedClassifier(RandomForestClassifier(), objective="macro").fit(X, Y).predict(X_new)
    """

    def __init__(
        self,
        estimator: Any,
        *,
        objective: str = "macro",
        shrink: bool = True,
        decide: str = "auto",
        calibrate: str = "auto",
        at_least: int = 0,
        at_most: int | None = None,
        response_method: str = "auto",
        cv: Any = None,
        n_jobs: int | None = None,
        random_state: Any = 0,
    ) -> None:
        self.estimator = estimator
        self.objective = objective
        self.shrink = shrink
        self.decide = decide
        self.calibrate = calibrate
        self.at_least = at_least
        self.at_most = at_most
        self.response_method = response_method
        self.cv = cv
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X: Any, y: Any, *, groups: Any = None, **params: Any) -> "ThresholdedClassifier":
        """Score the rows X (n, d) in cross-validation, fit the rule, and the estimator on all rows.

        Args:
            y: labels (n, c) of 0 and 1, or of two classes, (n,).
            groups: a name or number for each row; rows of a group are in the same fold.
            params: of the estimator's `fit`.

        Raises:
            DataError: labels that are neither, or scores that are not those of their classes.
            UsageError: an option is unknown.
        """
        spec = self._spec
        X, y, groups = indexable(X, y, groups)
        rows = X.shape[0] if hasattr(X, "shape") else len(X)
        labels, self.classes_, self.outputs_2d_ = label_table(y, rows)
        if self.outputs_2d_:  # a single column is a binary problem to most estimators
            y = labels.astype(np.int64) if labels.shape[1] > 1 else labels[:, 0].astype(np.int64)
        self.response_ = self._response()
        if isinstance(self.cv, str) and self.cv == PREFIT:
            check_is_fitted(self.estimator)
            self.estimator_, scored = self.estimator, labels
            responses = self._responses(self.estimator, X, labels.shape[1])
        else:
            responses, tested = self._cross_fitted(X, np.asarray(y), labels, groups, params)
            self.estimator_, scored = clone(self.estimator).fit(X, y, **params), labels[tested]
        if responses.shape != scored.shape:
            raise DataError(
                f"{self.response_} of {type(self.estimator).__name__} gives scores of the shape "
                f"{responses.shape} for labels of the shape {scored.shape}"
            )
        # Decisions of any size become scores in [0, 1] of the same order.
        self._scale = max(1.0, float(np.abs(responses).max()) / STEEPEST)
        self.decision_ = spec.fit(self._as_scores(responses), scored)
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Labels of the rows X (n, d), as those of `fit`: 0 or 1, (n, c), or one of two classes, (n,)."""
        check_is_fitted(self)
        chosen = self.decision_(self._scores(X))
        return chosen.astype(np.int64) if self.outputs_2d_ else self.classes_[chosen[:, 0].astype(np.int64)]

    @available_if(lambda self: self._gives_probabilities)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> Probabilities:
        """Probabilities of the rows X, (n, c), or (n, 2) for two classes; calibrated if `calibrate` says so.

        They are those of the estimator otherwise: `predict` compares them with `thresholds_`, not with 0.5.
        """
        check_is_fitted(self)
        probabilities = self.decision_.probabilities(self._scores(X))
        return probabilities if self.outputs_2d_ else np.hstack([1 - probabilities, probabilities])

    @property
    def thresholds_(self) -> FloatArray:
        """The threshold of each class, (c,); rules of label sets do not use them."""
        thresholds = self.decision_.thresholds
        if self.response_ == "predict_proba" or not self.decision_.has_plain_thresholds:
            return thresholds
        return np.asarray(logit(thresholds.clip(0, 1)) * self._scale)

    @property
    def n_features_in_(self) -> int:
        """The number of columns d, as the estimator knows it."""
        return int(self.estimator_.n_features_in_)

    @property
    def feature_names_in_(self) -> NDArray[np.object_]:
        """The names of the columns, (d,), if the estimator knows them."""
        return np.asarray(self.estimator_.feature_names_in_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        own = get_tags(self.estimator)
        tags.input_tags, tags.target_tags = own.input_tags, own.target_tags
        tags.classifier_tags.multi_label = own.classifier_tags.multi_label
        tags.classifier_tags.multi_class = False
        return tags

    @property
    def _spec(self) -> DecisionSpec:
        return DecisionSpec(
            self.objective, self.shrink, self.decide, self.calibrate, self.at_least, self.at_most
        )

    @property
    def _gives_probabilities(self) -> bool:
        return self._response() == "predict_proba" or self._spec.calibration != "none"

    def _response(self) -> str:
        """The method of the estimator that scores rows."""
        if self.response_method == "auto":
            return next((name for name in RESPONSES if hasattr(self.estimator, name)), RESPONSES[0])
        if self.response_method not in RESPONSES:
            raise unknown_name("response_method", self.response_method, RESPONSES)
        return self.response_method

    def _cross_fitted(
        self, X: Any, y: NDArray[Any], labels: LabelMatrix, groups: Any, params: Mapping[str, Any]
    ) -> tuple[FloatArray, RowIndex]:
        """What clones of the estimator say of the rows that they were not fitted on, and these rows."""

        def tested(train: RowIndex, test: RowIndex) -> FloatArray:
            own = {name: _rows_of(value, train, len(y)) for name, value in params.items()}
            fitted = clone(self.estimator).fit(_safe_indexing(X, train), y[train], **own)
            return self._responses(fitted, _safe_indexing(X, test), labels.shape[1])

        own_folds = self.cv is None or isinstance(self.cv, int)
        cv = self._splits(labels, groups) if own_folds else check_cv(self.cv).split(X, y, groups)
        pairs = [(np.asarray(train), np.asarray(test)) for train, test in cv]
        parts = Parallel(self.n_jobs)(delayed(tested)(*pair) for pair in pairs)
        return np.concatenate(parts), np.concatenate([test for _, test in pairs])

    def _splits(self, labels: LabelMatrix, groups: Any) -> list[tuple[RowIndex, RowIndex]]:
        """Train and test rows of each fold."""
        seed = int(check_random_state(self.random_state).randint(2**31))
        draws = splits.position_draws(len(labels), seed)
        numbers = None if groups is None else np.unique(groups, return_inverse=True)[1]
        folds = splits.folds(f"kfold:{FOLDS if self.cv is None else self.cv}", labels, {}, draws, numbers)
        return [(np.setdiff1d(np.arange(len(labels)), fold), fold) for fold in folds]

    def _responses(self, fitted: Any, X: Any, c: int) -> FloatArray:
        """What a fitted estimator says of the rows X, (n, c), in any of scikit-learn's forms."""
        responses = getattr(fitted, self.response_)(X)
        if isinstance(responses, list):  # for each class an array (n, 2), or (n, 1) if it was constant
            columns = [
                values[:, np.flatnonzero(np.equal(seen, 1))].sum(axis=1)
                for values, seen in zip(responses, fitted.classes_, strict=True)
            ]
            return np.stack(columns, axis=1)
        table: FloatArray = np.asarray(responses)
        if table.ndim == 1:
            return table[:, None]
        seen = np.ravel(getattr(fitted, "classes_", ()))
        is_binary = c == 1 and self.response_ == "predict_proba"
        if is_binary and len(seen) == 1 and np.ndim(fitted.predict(X)) == 1:  # it was fitted on one class
            positive = 1 if self.outputs_2d_ else self.classes_[1]
            return np.full((len(table), 1), float(seen[0] == positive))
        return table[:, 1:] if c == 1 and table.shape[1] == 2 else table

    def _scores(self, X: Any) -> Any:
        return self._as_scores(self._responses(self.estimator_, X, len(self.decision_.thresholds)))

    def _as_scores(self, responses: FloatArray) -> Any:
        return responses if self.response_ == "predict_proba" else expit(responses / self._scale)


def _rows_of(value: Any, rows: RowIndex, n: int) -> Any:
    """The part for some of n rows of an argument of `fit`; one that is not for n rows stays as it is."""
    is_list = hasattr(value, "__len__") and not isinstance(value, str)
    return _safe_indexing(value, rows) if is_list and len(value) == n else value
