"""Other libraries for multi-label data, with their usual settings, as peers of the heads."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from scipy.sparse import csc_matrix, csr_matrix
from scipy.special import expit
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from encode_once.classify.arrays import LabelMatrix, Scores, Vectors
from encode_once.classify.bench.baselines import probabilities
from encode_once.classify.data.standardise import choose_scales

Predictor = Callable[[Vectors], tuple[Scores, LabelMatrix]]  # rows (m, d) → their scores and labels, (m, c)

TREES = 500  # scikit-learn's default is 100, but more rank better
FOLDS = 5  # of the search for C
LIBLINEAR = "-s 0 -B 1 -q"  # L2-regularised logistic regression with a bias, C = 1, silent
INSTALL = "pip install 'encode-once[peers]'"


@dataclass(frozen=True)
class Peer:
    """A way to learn labels (n, c) from vectors (n, d) with a seed."""

    module: str  # that has to be installed
    fit: Callable[[Vectors, LabelMatrix, int], Predictor]

    @property
    def installed(self) -> bool:
        """Whether its library is installed."""
        return find_spec(self.module) is not None


def _scaler(X: Vectors) -> Any:
    """Standardises the columns where `fit` does: not where most values are 0."""
    return StandardScaler() if choose_scales(X, [(1, X.shape[1])]) == ["column"] else FunctionTransformer()


def _probabilistic(make: Callable[[int], Any], scaled: bool = False) -> Callable[..., Predictor]:
    """The fit of an estimator with `predict_proba`; scaled: on standardised columns, unless sparse."""

    def fit(X: Vectors, Y: LabelMatrix, seed: int) -> Predictor:
        model = make_pipeline(_scaler(X), make(seed)) if scaled else make(seed)
        model.fit(X, Y)
        return lambda rows: (probabilities(model, rows), np.asarray(model.predict(rows), np.bool_))

    return fit


def _searched(estimator: Any, strengths: tuple[float, ...], seed: int) -> Any:
    """One-vs-rest with the C, the same for all labels, of the best micro F1 in cross-validation."""
    folds = KFold(FOLDS, shuffle=True, random_state=seed)
    grid = {"estimator__C": strengths}
    return GridSearchCV(OneVsRestClassifier(estimator), grid, scoring="f1_micro", cv=folds)


def _logistic_regression(seed: int) -> Any:
    return _searched(LogisticRegression(max_iter=1000), (0.01, 0.1, 1.0, 10.0, 100.0), seed)


def _fit_svm(X: Vectors, Y: LabelMatrix, seed: int) -> Predictor:
    model = make_pipeline(_scaler(X), _searched(SVC(), (1.0, 10.0, 100.0), seed)).fit(X, Y)
    return lambda rows: _decided(model.decision_function(rows), Y)


def _decided(decisions: Any, Y: LabelMatrix) -> tuple[Scores, LabelMatrix]:
    """Scores and labels of decision values (m, c), positive for labels; 0 for labels that Y never has."""
    decisions = np.where(Y.any(axis=0), decisions, -np.inf)
    return expit(decisions).astype(np.float32), decisions > 0


def _boomer(**options: Any) -> Callable[..., Predictor]:
    def fit(X: Vectors, Y: LabelMatrix, seed: int) -> Predictor:
        model = import_module("mlrl.boosting").BoomerClassifier(random_state=seed + 1, **options)
        model.fit(X, Y.astype(np.uint8))
        return lambda rows: (
            np.asarray(model.predict_proba(rows), np.float32),
            np.asarray(model.predict(rows), np.bool_),
        )

    return fit


def _liblinear(training: str) -> Callable[..., Predictor]:
    """The fit of a linear model by this function of libmultilabel."""

    def fit(X: Vectors, Y: LabelMatrix, seed: int) -> Predictor:
        library = import_module("libmultilabel.linear")
        scaler = _scaler(X).fit(X)

        def columns(rows: Vectors) -> csr_matrix:
            return csr_matrix(scaler.transform(rows).astype(np.float64))

        train = getattr(library, training)
        model = train(_LabelColumns(Y.astype(int)), columns(X), options=LIBLINEAR, verbose=False)
        return lambda rows: _decided(library.predict_values(model, columns(rows)), Y)

    return fit


class _LabelColumns(csc_matrix):  # type: ignore[misc]  # SciPy is untyped
    """Labels (n, c) for libmultilabel 0.10, which adds them along an axis 2 that SciPy refuses."""

    def sum(self, axis: int | None = None, *args: Any, **options: Any) -> Any:
        return super().sum(0 if axis == 2 else axis, *args, **options)


PEERS = {
    "sklearn-forest": Peer(
        "sklearn", _probabilistic(lambda seed: RandomForestClassifier(TREES, random_state=seed))
    ),
    "sklearn-extra-trees": Peer(
        "sklearn", _probabilistic(lambda seed: ExtraTreesClassifier(TREES, random_state=seed))
    ),
    "sklearn-logistic": Peer("sklearn", _probabilistic(_logistic_regression, scaled=True)),
    "sklearn-svm": Peer("sklearn", _fit_svm),
    "sklearn-mlp": Peer(
        "sklearn",
        _probabilistic(lambda seed: MLPClassifier(random_state=seed), scaled=True),
    ),
    "lightgbm": Peer(
        "lightgbm",
        _probabilistic(
            lambda seed: OneVsRestClassifier(
                import_module("lightgbm").LGBMClassifier(random_state=seed, n_jobs=1, verbosity=-1)
            )
        ),
    ),
    "libmultilabel": Peer("libmultilabel", _liblinear("train_1vsrest")),
    "libmultilabel-cost": Peer("libmultilabel", _liblinear("train_cost_sensitive")),
    "libmultilabel-cost-micro": Peer("libmultilabel", _liblinear("train_cost_sensitive_micro")),
    "libmultilabel-threshold": Peer("libmultilabel", _liblinear("train_thresholding")),
    "boomer": Peer("mlrl", _boomer()),
    "boomer-gfm": Peer("mlrl", _boomer(binary_predictor="gfm")),
}
