"""Validation rows: a tenth that the head does not learn from, or all train rows with scores out of fold."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from encode_once.cache import DataError, UsageError
from encode_once.classify import fit
from encode_once.classify.data.matrix import RowView
from encode_once.classify.data.rows import content_keys
from encode_once.classify.data.samples import load_samples
from encode_once.classify.heads import HEADS
from encode_once.classify.runs import head_fitter
from encode_once.classify.runs.head_fitter import HeadFitter


@pytest.fixture
def fitter(filled):
    """A function from a head's name and options to its fitter on 400 rows, whose labels may be replaced."""
    store = filled()
    (table,) = store.tables()
    samples = load_samples(store, (), table)

    def make(name, validation, labels=samples.Y, groups=None, **options):
        keys = content_keys(table)
        return HeadFitter(name, options, samples.X, labels, table.ids, keys, 0, groups, validation=validation)

    return make


ROWS = np.arange(10, 330)


@pytest.mark.parametrize(("validation", "stored", "validated"), [("tenth", 288, 32), ("folds", 320, 320)])
def test_by_folds_a_head_learns_from_all_rows_and_all_are_validation_rows(
    fitter, validation, stored, validated
):
    fitted = fitter("knn", validation).fit(ROWS)
    assert len(fitted.model.head.rows_) == stored
    rows = [int(name.split("-")[1].split(".")[0]) for name in fitted.validation.ids]
    assert len(rows) == len(set(rows) & set(ROWS.tolist())) == validated
    assert fitted.validation.folds is None


def test_scores_out_of_fold_know_nothing_of_their_own_labels(fitter):
    """Labels are noise, which trees learn by heart: they know all rows they learn from, and no other."""
    noise = np.random.default_rng(0).random((400, 2)) < 0.5
    options = {"trees": 30, "min_samples_leaf": 1, "jobs": 1}
    fitted = fitter("forest", "folds", noise, **options).fit(ROWS)
    validation = fitted.validation
    learned = fitted.model.scores(RowView(fitted.X, ROWS))
    assert roc_auc_score(noise[ROWS], learned) > 0.9
    assert 0.4 < roc_auc_score(validation.labels, validation.scores) < 0.6


class Infinite:
    """A matrix whose numbers are those of another, with an infinite one."""

    def __init__(self, X):
        self.X = X

    def __getattr__(self, name):
        return getattr(self.X, name)

    def __len__(self):
        return len(self.X)

    def __getitem__(self, rows):
        values = self.X[rows]
        values[np.arange(len(self.X))[rows] == 20, 3] = np.inf
        return values

    def fitted(self, rows):
        return Infinite(self.X.fitted(rows))


@pytest.mark.parametrize("name", HEADS)
def test_infinite_numbers_are_an_error_that_names_the_feature(fitter, name):
    """They made all numbers of their column missing."""
    fitter = replace(fitter(name, "tenth"), X=Infinite(fitter(name, "tenth").X))
    with pytest.raises(DataError, match="e/image has infinite numbers in 1 of 8 columns"):
        fitter.fit(ROWS)


@pytest.mark.parametrize("name", HEADS)
def test_so_are_infinite_numbers_in_validation_rows(fitter, name):
    """Trees scored such rows with no warning, and `mlp` advised a lower learning rate."""
    fitter = replace(fitter(name, "tenth"), X=Infinite(fitter(name, "tenth").X))
    with pytest.raises(DataError, match="e/image has infinite numbers in 1 of 8 columns"):
        fitter.fit(ROWS, validation=np.arange(15, 40))


def test_rows_of_a_group_are_in_one_fold(fitter, monkeypatch):
    groups = np.arange(400) // 4
    seen = []
    model = HeadFitter._model

    def recorded(self, train, validation=None):
        seen.append((set(groups[train]), set(groups[validation] if validation is not None else [])))
        return model(self, train, validation)

    monkeypatch.setattr(HeadFitter, "_model", recorded)
    fitter("knn", "folds", groups=groups).fit(ROWS)
    *folds, (all_groups, _) = seen
    assert all_groups == set(groups[ROWS])
    assert all(not train & validation for train, validation in folds)
    unseen = [all_groups - train - validation for train, validation in folds]
    assert set.union(*unseen) == all_groups
    assert sum(map(len, unseen)) == len(all_groups)  # each group is in one fold


def test_the_metrics_say_which_rows_thresholds_were_tuned_on(filled, tmp_path):
    store = filled(n=100)
    for validation, n, words in (
        ("folds", 90, "out-of-fold scores of the 90 train rows"),
        ("tenth", 9, "9 validation rows"),
    ):
        run, metrics = fit(store, "linear", validation=validation, run=tmp_path / validation)
        assert (run.spec.validation, len(run.validation.ids)) == (validation, n)
        assert metrics["tuned_on"] == words
    with pytest.raises(UsageError, match="tenth"):
        fit(store, "linear", validation="tenths")


@pytest.mark.parametrize(("size", "validated"), [(160, 320), (200, 32)])
def test_rows_of_which_most_are_one_group_are_not_divided_into_folds(fitter, size, validated):
    groups = np.where(np.arange(400) < 10 + size, 0, np.arange(400))
    fitted = fitter("knn", "auto", groups=groups).fit(ROWS)
    assert len(fitted.validation.ids) == validated


def test_warnings_of_folds_are_one_line_of_each_kind():
    def line(classes, loss):
        return f"head x is worse than the class frequencies for {classes}: its log loss is {loss}"

    folds = [
        [line("2 of 3 classes", 0.5), "took 3 s"],
        ["took 12 s", "odd"],
        [line("a", 0.6)],
        ["plain"],
        ["plain"],
    ]
    assert head_fitter._of_folds(folds) == [
        f"2 of 5 folds, such as fold 1: {line('2 of 3 classes', 0.5)}",
        "2 of 5 folds, such as fold 1: took 3 s",
        "fold 2 of 5: odd",
        "2 of 5 folds: plain",
    ]
