"""Classifiers of scikit-learn as heads.

A classifier that takes one label a row is fitted for each class. A class that all train rows or none have is
given its frequency. What was learned is kept without pickle: as coefficients, if these give the classifier's
scores, or else in the format of skops, which restores only types that are allowed: those that skops knows to
be harmless, and scikit-learn's own. Among these are trees and neighbour searches in C, which false numbers
lead out of bounds, so that a run with such a state is used only with --trust (see `runs.own_files`).
"""

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, ClassVar, get_type_hints

import numpy as np
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags

from encode_once.cache.errors import DataError, UsageError, brief
from encode_once.cache.terminal import short_list
from encode_once.classify.arrays import UNKNOWN, PartialLabels, Scores, State, Vectors, as_partial_labels
from encode_once.classify.data.matrix import MatrixLike, chunks
from encode_once.classify.heads.base import Head
from encode_once.classify.heads.checks import class_frequencies, require_finite
from encode_once.classify.heads.estimator import Estimator
from encode_once.classify.heads.state import SKOPS
from encode_once.classify.partial import always, count, is_partial, positives

CLOSE = 1e-5  # of scores by coefficients to the classifier's own
COMPARED = 256  # rows on which they are compared
MANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Wrapped(Head, Estimator):
    """A classifier of scikit-learn; its parameters are the options.

    One that takes a label a row is fitted on the rows whose label is known; others take no unknown labels.

    Its `random_state` is `seed`, if it has one that is not set. All train rows are in memory. Validation rows
    are not used. A score is its probability or, if it has decisions only, their sigmoid.
    """

    PARTIAL: ClassVar[bool] = True
    made_by: ClassVar[Callable[..., Any]]  # the class of the classifier, or a function that returns one
    parameters: ClassVar[Sequence[str]]  # of it
    seed: int
    coef_: Vectors | None
    intercept_: Vectors | None

    def fit(
        self,
        X: MatrixLike,
        Y: PartialLabels,
        X_val: MatrixLike | None = None,
        Y_val: PartialLabels | None = None,
    ) -> "Wrapped":
        """Fit the classifier, or one for each class, on all rows X (n, d) at once."""
        Y = as_partial_labels(Y, len(X))
        self.frequencies_ = class_frequencies(Y).astype(np.float32)
        self.learned_ = np.flatnonzero(positives(Y).any(axis=0) & ~always(Y))
        self.coef_ = self.intercept_ = None
        self.classifiers_: list[Any] = []
        rows = np.asarray(X[np.arange(len(X))])
        require_finite(rows, "the features")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                self.classifiers_ = self._fitted(rows, Y[:, self.learned_])
            except ValueError as error:
                raise DataError(f"{self._name}: {brief(error)}") from error
        lines = [brief(line.message) for line in caught if issubclass(line.category, UserWarning)]
        self.warnings_ = [f"{self._name}: {line}" for line in dict.fromkeys(lines)]
        self._take_coefficients(rows[:COMPARED])
        if self.coef_ is None and len(self.learned_):
            _dumped(self.classifiers_, self._name)  # fails now, rather than after all else
        return self

    def predict_proba(self, X: MatrixLike) -> Scores:
        scores = np.tile(self.frequencies_, (len(X), 1))
        for part in chunks(*X.shape) if len(X) and len(self.learned_) else ():
            scores[part, self.learned_] = self._scores(np.asarray(X[part])).clip(0, 1)
        return scores

    def state(self) -> State:
        """The classes that are learned, the frequencies of all, and coefficients or the skops file."""
        state: dict[str, Any] = {"learned": self.learned_, "frequencies": self.frequencies_}
        if self.coef_ is not None:
            state |= {"coef": self.coef_, "intercept": self.intercept_}
        elif len(self.learned_):
            state[SKOPS] = np.frombuffer(_dumped(self.classifiers_, self._name), np.uint8)
        return state

    def load_state(self, state: State) -> None:
        """Restore the classifiers. A skops file can make scikit-learn read out of bounds: trust its maker.

        Raises:
            ValueError: the arrays do not fit one another.
        """
        self.learned_, self.frequencies_ = state["learned"], state["frequencies"]
        self.coef_, self.intercept_ = state.get("coef"), state.get("intercept")
        self.classifiers_ = _loaded(state[SKOPS].tobytes(), self._name) if SKOPS in state else []
        if not np.isin(self.learned_, np.arange(len(self.frequencies_))).all():
            raise ValueError("the classes of the classifiers are not those of the run")

    @property
    def _name(self) -> str:
        return getattr(self.made_by, "__name__", type(self).__name__)

    def _fitted(self, rows: Vectors, Y: PartialLabels) -> list[Any]:
        """One fitted classifier of all classes, or one of each, of the rows whose label is known.

        Raises:
            DataError: labels are unknown, and a classifier takes all classes at once.
        """
        classifier = self.classifier()
        multi_label = get_tags(classifier).classifier_tags.multi_label
        together = _takes_matrices(classifier) or (multi_label and Y.shape[1] > 1)
        if is_partial(Y):
            if together:
                raise DataError(
                    f"{self._name} takes all labels of a row at once, and {count(Y)} of {Y.size} are "
                    "unknown: choose --head linear, mlp, forest or another that leaves these out"
                )
            known_rows = [np.flatnonzero(column != UNKNOWN) for column in Y.T]
            return [
                clone(classifier).fit(rows[of_class], column[of_class].astype(np.int64))
                for of_class, column in zip(known_rows, Y.T, strict=True)
            ]
        targets: list[Any] = [Y.astype(np.int64)] if together else [*Y.T.astype(np.int64)]
        return [clone(classifier).fit(rows, target) for target in targets]

    def classifier(self) -> Any:
        """A new classifier with the options.

        Raises:
            UsageError: it is no classifier that gives scores, or an option is wrong.
        """
        options = {name: getattr(self, name) for name in self.parameters}
        try:
            classifier = self.made_by(**options)
            if not (isinstance(classifier, BaseEstimator) and is_classifier(classifier)):
                raise UsageError(f"{self._name} is neither a Head nor a classifier of scikit-learn")
            names = classifier.get_params()
            seeds = [name for name in names if name == "random_state" or name.endswith("__random_state")]
            classifier.set_params(**{name: self.seed for name in seeds if names[name] is None})
            classifier._validate_params()
        except (TypeError, ValueError) as error:
            raise (
                error if isinstance(error, UsageError) else UsageError(f"{self._name}: {brief(error)}")
            ) from error
        if not (hasattr(classifier, "predict_proba") or hasattr(classifier, "decision_function")):
            raise UsageError(f"{self._name} gives neither probabilities nor decisions, only labels")
        return classifier

    def check(self) -> None:
        self.classifier()

    @property
    def linear(self) -> tuple[Vectors, Vectors] | None:
        """Coefficients (c, d) and intercepts (c,) that give the logits of all classes, if there are such."""
        if self.coef_ is None or self.intercept_ is None:
            return None
        coef = np.zeros((len(self.frequencies_), self.coef_.shape[1]), np.float32)
        intercept = logit(self.frequencies_)
        coef[self.learned_], intercept[self.learned_] = self.coef_, self.intercept_
        return coef, intercept

    def _scores(self, rows: Vectors) -> Scores:
        """Scores (n, k) of the learned classes."""
        if self.coef_ is not None and self.intercept_ is not None:
            return expit(rows @ self.coef_.T + self.intercept_)
        k = len(self.learned_) // len(self.classifiers_)
        columns = [_probabilities(classifier, rows, k) for classifier in self.classifiers_]
        return np.concatenate(columns, axis=1).astype(np.float32)

    def _take_coefficients(self, rows: Vectors) -> None:
        """Replace the classifiers by their coefficients, if these give the same scores."""
        linear = [hasattr(classifier, "coef_") for classifier in self.classifiers_]
        if not (linear and all(linear)):
            return
        scores = self._scores(rows)
        coef = np.vstack([np.asarray(classifier.coef_) for classifier in self.classifiers_])
        intercept = np.hstack(
            [np.broadcast_to(each.intercept_, len(each.coef_)) for each in self.classifiers_]
        )
        if coef.shape != (len(self.learned_), rows.shape[1]):
            return
        self.coef_, self.intercept_ = coef.astype(np.float32), intercept.astype(np.float32)
        if np.abs(self._scores(rows) - scores).max(initial=0) > CLOSE:
            self.coef_ = self.intercept_ = None
        else:
            self.classifiers_ = []


def head_of(name: str, made_by: Callable[..., Any]) -> type[Head]:
    """The class of a head whose classifier `made_by` makes; the options are its parameters, and `seed`.

    Raises:
        UsageError: a parameter has no default.
    """
    parameters = [p for p in inspect.signature(made_by).parameters.values() if p.kind not in MANY]
    lacking = [p.name for p in parameters if p.default is inspect.Parameter.empty]
    if lacking:
        raise UsageError(
            f"{name} needs {short_list(lacking)}: write a function that returns such a classifier in a file "
            "of your own, and name it as FILE.py:FUNCTION"
        )
    seed = inspect.Parameter("seed", inspect.Parameter.KEYWORD_ONLY, default=0, annotation=int)
    options = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters if p.name != "seed"]
    defaults = {p.name: p.default for p in [*options, seed]}

    own_self = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    signature = inspect.Signature([own_self, *options, seed])

    def store(self: Any, **given: Any) -> None:
        signature.bind(self, **given)  # raises for an unknown option
        vars(self).update(defaults | given)

    vars(store)["__signature__"] = signature
    store.__annotations__ = {**_hints(made_by), "seed": int}
    members: Mapping[str, Any] = {
        "__init__": store,
        "__doc__": inspect.getdoc(made_by),
        "__module__": __name__,
        "made_by": staticmethod(made_by),
        "parameters": [p.name for p in parameters],
        "SEEDED": any(p.name == "random_state" for p in parameters) or not inspect.isclass(made_by),
    }
    return type(name.rpartition(":")[2], (Wrapped,), dict(members))


def _hints(made_by: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of the parameters; scikit-learn's classes have none."""
    try:
        return get_type_hints(made_by.__init__ if inspect.isclass(made_by) else made_by)
    except (NameError, TypeError):
        return {}


def _takes_matrices(classifier: Any) -> bool:
    """Whether it takes labels (n, k) only, also of one class, which no tag says."""
    while isinstance(classifier, Pipeline):
        classifier = classifier[-1]
    return isinstance(classifier, ClassifierChain | MultiOutputClassifier)


def _probabilities(classifier: Any, rows: Vectors, k: int) -> Scores:
    """Scores (n, k) of a classifier that was fitted for k classes."""
    if not hasattr(classifier, "predict_proba"):
        return expit(np.asarray(classifier.decision_function(rows)).reshape(len(rows), -1))
    scores = classifier.predict_proba(rows)
    if isinstance(scores, list):  # (n, 2) for each class
        return np.stack([of_class[:, 1] for of_class in scores], axis=1)
    return scores if scores.shape[1] == k else scores[:, 1:]


def _dumped(classifiers: list[Any], name: str) -> bytes:
    """Classifiers as a skops file that `_loaded` reads.

    Raises:
        DataError: skops is missing, or would not restore one of their types.
    """
    if not find_spec("skops"):
        raise DataError(
            f"{name} is not linear, and to save it without pickle takes skops: "
            "pip install 'encode-once[skops]'"
        )
    import skops.io

    content = skops.io.dumps(classifiers)
    if unknown := _not_of_sklearn(skops.io.get_untrusted_types(data=content)):
        raise DataError(
            f"{name} cannot be saved without pickle: {short_list(unknown)} is not of scikit-learn; a Head of "
            "your own with state() can keep it as arrays"
        )
    return content


def _loaded(content: bytes, name: str) -> list[Any]:
    if not find_spec("skops"):
        raise DataError(f"{name} was saved by skops, which is missing: pip install 'encode-once[skops]'")
    import skops.io

    unknown = skops.io.get_untrusted_types(data=content)
    if others := _not_of_sklearn(unknown):
        raise ValueError(f"it holds {short_list(others)}, which is not of scikit-learn")
    return skops.io.loads(content, trusted=unknown)


def _not_of_sklearn(types: Sequence[str]) -> list[str]:
    return [name for name in types if not name.startswith("sklearn.")]
