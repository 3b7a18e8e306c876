"""scikit-learn's contract for classifiers, around the `fit` and `predict_proba` of a head."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from encode_once.cache.errors import DataError
from encode_once.classify.arrays import UNKNOWN, LabelMatrix, Scores, Vectors, as_labels, as_partial_labels
from encode_once.classify.data.labels import MULTI, SINGLE
from encode_once.classify.data.matrix import LazyMatrix, MatrixLike
from encode_once.classify.partial import is_partial

THRESHOLD = 0.5  # of `predict`, as of the objective "none"


class Estimator(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """A head as a multi-label classifier of scikit-learn.

    Inside this program X is read from a store as rows are asked for, and passed on as it is. Arrays, lists
    and DataFrames are checked and converted before `fit` and `predict_proba` of a subclass see them.

    Labels are 0 and 1 for each of c classes, (n, c), and `classes_` numbers them; -1 or NaN is an unknown
    entry, which a head with `PARTIAL` leaves out. Labels (n,) of two classes of any type are one column:
    `classes_` has both, and `predict_proba` gives (n, 2).

    Attributes: `classes_`; `n_features_in_`, and `feature_names_in_` of a DataFrame; and `outputs_2d_`,
    whether labels are (n, c).
    """

    outputs_2d_ = True
    PARTIAL: ClassVar[bool] = False  # see `Head`

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, checked in (("fit", _checked_fit), ("predict_proba", _checked_scores)):
            if name in vars(cls):
                setattr(cls, name, checked(vars(cls)[name]))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = tags.target_tags.multi_output = True
        tags.classifier_tags.multi_class = False
        return tags

    def predict(self, X: MatrixLike) -> NDArray[Any]:
        """Labels of the rows X (n, d), as those of `fit`: 0 or 1, (n, c), or one of two classes, (n,).

        A class is predicted from a probability of `THRESHOLD` on; of the task "single", the likeliest one.
        `ThresholdedClassifier` tunes thresholds.
        """
        scores = self.predict_proba(X)
        if getattr(self, "task", MULTI) == SINGLE:
            return np.equal(np.arange(scores.shape[1]), scores.argmax(axis=1)[:, None]).astype(np.int64)
        chosen = scores >= THRESHOLD
        return chosen.astype(np.int64) if self.outputs_2d_ else self.classes_[chosen[:, 1].astype(np.int64)]


def is_lazy(X: Any) -> bool:
    """Whether X reads its rows when they are asked for."""
    return isinstance(X, LazyMatrix)


def checked_rows(estimator: Any, X: Any, *, fitted: bool = True) -> Vectors:
    """X as rows (n, d) float32, of the same columns as in `fit` if the estimator is fitted.

    Raises:
        DataError: X is not a table of finite numbers, or has other columns.
    """
    try:
        return validate_data(
            estimator,
            X,
            reset=not fitted,
            dtype=np.float32,
            order="C",  # sums of rows are rounded alike
            ensure_min_samples=0 if fitted else 1,
        )
    except ValueError as error:
        advice = f"\n{type(estimator).__name__} does not accept missing values"  # to take another estimator
        raise DataError(" ".join(str(error).partition(advice)[0].split())) from error


def _checked_fit(fit: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(fit)
    def checked(self: Estimator, X: Any, Y: Any, X_val: Any = None, Y_val: Any = None) -> Any:
        if is_lazy(X):
            self.n_features_in_, self.classes_ = X.shape[1], np.arange(np.shape(Y)[1])
            self.outputs_2d_ = True
            return fit(self, X, Y, X_val, Y_val)
        X = checked_rows(self, X, fitted=False)
        Y, self.classes_, self.outputs_2d_ = label_table(Y, len(X), partial=self.PARTIAL)
        if is_partial(Y) and not (Y == 0).any():
            raise DataError(
                f"labels must be 0 or 1: no entry is 0, and {int((Y == UNKNOWN).sum())} are -1 or NaN, which "
                "means unknown: pass 0 where a row lacks a label"
            )
        if X_val is not None and Y_val is not None:
            X_val = X_val if is_lazy(X_val) else checked_rows(self, X_val)
            Y_val = Y_val if self.outputs_2d_ else _of_two_classes(Y_val, self.classes_)
        return fit(self, X, Y, X_val, Y_val)

    return checked


def _checked_scores(predict_proba: Callable[[Any, Any], Scores]) -> Callable[[Any, Any], Scores]:
    @wraps(predict_proba)
    def checked(self: Estimator, X: Any) -> Scores:
        check_is_fitted(self)
        scores = predict_proba(self, X if is_lazy(X) else checked_rows(self, X))
        return scores if self.outputs_2d_ else np.hstack([1 - scores, scores])

    return checked


def label_table(Y: Any, rows: int, *, partial: bool = False) -> tuple[Any, NDArray[Any], bool]:
    """Labels as bool (n, c), their classes, and whether they were such a table.

    partial: whether entries of a table may be unknown, -1 or NaN; it is int8 then, see `as_partial_labels`.

    Raises:
        DataError: labels other than 0 and 1 in a table, or of another number of classes than two in a column.
    """
    if Y is None:
        raise DataError("a classifier requires y to be passed, but the target y is None")
    convert = as_partial_labels if partial else as_labels
    if hasattr(Y, "tocsr"):
        table = convert(Y, rows)
        return table, np.arange(table.shape[1]), True
    try:
        Y = check_array(
            Y,
            ensure_2d=False,
            ensure_min_samples=0,
            dtype=None,
            ensure_all_finite="allow-nan" if partial else True,
            input_name="Y",
        )
        if Y.ndim != 2 or not partial:
            check_classification_targets(Y)
    except ValueError as error:
        raise DataError(" ".join(str(error).split())) from error
    if Y.ndim == 2:
        return convert(Y, rows), np.arange(Y.shape[1]), True
    classes = np.unique(Y)
    if len(classes) != 2:
        raise DataError(
            f"Only binary classification is supported. The type of the target is {type_of_target(Y)}, of "
            f"{len(classes)} class{'es' * (len(classes) != 1)}: several labels are a table (rows, classes) "
            "of 0 and 1, as MultiLabelBinarizer and LabelBinarizer make it"
        )
    return as_labels(_of_two_classes(Y, classes), rows), classes, False


def _of_two_classes(Y: Any, classes: NDArray[Any]) -> LabelMatrix:
    """Labels (n,) as a column (n, 1): whether each is the second class."""
    Y, (first, second) = np.asarray(Y), classes.tolist()
    unknown = np.setdiff1d(Y, classes).tolist()
    if unknown:
        raise DataError(f"label {unknown[0]!r} is none of the classes {first!r} and {second!r}")
    column: LabelMatrix = np.equal(Y, second)[:, None]
    return column
