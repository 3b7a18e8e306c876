"""Labels that are probably wrong, by the scores of models that have not seen their rows."""

import warnings
from importlib import import_module

import numpy as np

from encode_once.cache import MissingDataError
from encode_once.classify.arrays import LabelMatrix
from encode_once.classify.evaluation.evaluation import ScoredRows


def doubtful(rows: ScoredRows) -> LabelMatrix:
    """The labels (n, c), present or absent, that confident learning doubts, class by class.

    The method is that of Northcutt, Jiang and Chuang (JAIR 2021), by cleanlab. Classes that no row has, or
    every row, are left out.

    Raises:
        MissingDataError: cleanlab is not installed.
    """
    try:
        cleanlab = import_module("cleanlab.multilabel_classification.filter")
    except ImportError as error:
        raise MissingDataError(
            "label errors are not looked for: that needs pip install 'encode-once[audit]'"
        ) from error
    doubted = np.zeros_like(rows.labels)
    varying = np.flatnonzero(rows.labels.any(axis=0) & ~rows.labels.all(axis=0))
    if len(varying):
        label_sets = [np.flatnonzero(row).tolist() for row in rows.labels[:, varying]]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about rare classes, which are findings of their own
            issues = cleanlab.find_multilabel_issues_per_class(label_sets, rows.scores[:, varying], n_jobs=1)
        doubted[:, varying] = issues
    return doubted
