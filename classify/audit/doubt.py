"""Labels that are probably wrong, by the scores of models that have not seen their rows."""

import warnings
from importlib import import_module

import numpy as np

from encode_once.cache import MissingDataError
from encode_once.classify.arrays import LabelMatrix
from encode_once.classify.evaluation.evaluation import ScoredRows
from encode_once.classify.partial import always, positives, unknown_entries


def doubtful(rows: ScoredRows) -> LabelMatrix:
    """The labels (n, c), present or absent, that confident learning doubts, class by class.

    The method is that of Northcutt, Jiang and Chuang (JAIR 2021), by cleanlab. Classes that no row has, or
    every row, are left out; so are the rows of a class whose label is unknown.

    Raises:
        MissingDataError: cleanlab is not installed.
    """
    try:
        cleanlab = import_module("cleanlab.multilabel_classification.filter")
    except ImportError as error:
        raise MissingDataError(
            "label errors are not looked for: that needs pip install 'encode-once[audit]'"
        ) from error
    truth, counted = positives(rows.labels), ~unknown_entries(rows.labels)
    doubted = np.zeros(truth.shape, np.bool_)
    varying = np.flatnonzero(truth.any(axis=0) & ~always(rows.labels))
    # Classes are judged one by one: together only because that is faster.
    blocks = [varying] if counted.all() else [*varying[:, None]]
    for classes in blocks if len(varying) else ():
        block = np.ix_(counted[:, classes[0]], classes)
        label_sets = [np.flatnonzero(row).tolist() for row in truth[block]]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about rare classes, which are findings of their own
            issues = cleanlab.find_multilabel_issues_per_class(label_sets, rows.scores[block], n_jobs=1)
        doubted[block] = issues
    return doubted
