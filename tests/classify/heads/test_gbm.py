from itertools import product

import lightgbm
import numpy as np
import pytest
from sklearn.metrics import log_loss

from encode_once.classify.data import splits
from encode_once.classify.heads import projection
from encode_once.classify.heads.gbm import GBM


def problem(n=600, d=20, c=3):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d)).astype(np.float32)
    return X, X @ rng.normal(size=(d, c)) + rng.normal(size=(n, c)) > 0


@pytest.mark.filterwarnings("ignore:The argument 'eval_set' is deprecated")
def test_each_class_has_a_booster_that_is_stopped_on_the_validation_rows():
    X, Y = problem()
    X, Y, X_val, Y_val = X[:400], Y[:400], X[400:], Y[400:]
    scores = GBM(jobs=1, seed=5, max_features=0.5).fit(X, Y, X_val, Y_val).predict_proba(X_val)
    center, axes, Z, _ = projection.learn(X, Y, 32, 5)
    Z_val = projection.project(X_val, center, axes)
    for c in range(3):
        booster = lightgbm.LGBMClassifier(
            n_estimators=300,
            learning_rate=0.05,
            num_leaves=15,
            min_child_samples=40,
            colsample_bytree=0.5,
            n_jobs=1,
            random_state=5,
            deterministic=True,
            force_row_wise=True,
            verbosity=-1,
        )
        stop = lightgbm.early_stopping(20, verbose=False)
        booster.fit(Z, Y[:, c], eval_set=[(Z_val, Y_val[:, c])], callbacks=[stop])
        np.testing.assert_allclose(scores[:, c], booster.predict_proba(Z_val)[:, 1], atol=1e-6)


def test_without_validation_rows_each_booster_has_the_rounds_of_cross_validation_and_all_rows():
    X, Y = problem()
    head = GBM(jobs=1, seed=5, patience=20).fit(X, Y)
    center, axes, columns, _ = projection.learn(X, Y, 32, 5)
    folds = splits.folds("kfold:3", Y, {}, splits.position_draws(len(Y), 5))
    for c in range(3):
        losses = []
        for fold in folds:
            others = np.setdiff1d(np.arange(len(Y)), fold)
            booster = of_all_rows(columns[others], Y[others, c], 90)
            stages = (booster.predict_proba(columns[fold], num_iteration=i)[:, 1] for i in range(1, 91))
            losses.append([log_loss(Y[fold, c], stage) for stage in stages])
        rounds, loss = head.boosters_[c].num_trees(), np.mean(losses, axis=0)
        assert loss[rounds - 1] < loss.min() + 0.003  # their bins are not those of all rows
        assert [epoch.epoch for epoch in head.history_ if epoch.model == c] == [*range(1, rounds + 1)]
        whole = of_all_rows(columns, Y[:, c], rounds)
        Z = projection.project(X, center, axes)
        np.testing.assert_allclose(head.predict_proba(X)[:, c], whole.predict_proba(Z)[:, 1], atol=1e-6)


def of_all_rows(columns, labels, rounds):
    """LightGBM's own booster, with as many rounds as are asked for."""
    booster = lightgbm.LGBMClassifier(
        n_estimators=rounds,
        learning_rate=0.05,
        num_leaves=15,
        min_child_samples=40,
        n_jobs=1,
        random_state=5,
        deterministic=True,
        force_row_wise=True,
        verbosity=-1,
    )
    return booster.fit(columns, labels)


def test_a_constant_class_has_that_constant_as_its_score():
    X, Y = problem()
    Y = np.column_stack([Y[:, 0], np.ones(len(Y), bool), np.zeros(len(Y), bool)])
    head = GBM(jobs=1).fit(X, Y)
    assert (head.predict_proba(X)[:, 1:] == [1, 0]).all()
    assert "booster.1" not in head.state()


def test_the_history_has_the_log_losses_of_each_class_round_by_round():
    X, Y = problem()
    head = GBM(jobs=1, patience=5).fit(X[:400], Y[:400], X[400:], Y[400:])
    scores = head.predict_proba(X[400:])
    _, _, columns, _ = projection.learn(X[:400], Y[:400], 32, 0)
    for c in range(3):
        rounds = [epoch for epoch in head.history_ if epoch.model == c]
        assert [epoch.epoch for epoch in rounds] == [*range(1, len(rounds) + 1)]
        best = min(rounds, key=lambda epoch: epoch.validation_loss)
        assert len(rounds) == best.epoch + 5
        assert best.validation_loss == pytest.approx(log_loss(Y[400:, c], scores[:, c]), rel=1e-5)
        train_scores = head.boosters_[c].predict(columns)
        assert best.loss == pytest.approx(log_loss(Y[:400, c], train_scores), rel=1e-5)


def test_a_fit_that_will_take_long_warns_at_once_and_goes_on(monkeypatch, capsys):
    monkeypatch.setattr("encode_once.classify.heads.gbm.SLOW", 0)
    X, Y = problem(c=12)
    head = GBM(jobs=1, rounds=3).fit(X, Y)
    assert len(head.boosters_) == 12
    (warning,) = head.warnings_
    assert warning.startswith("head gbm takes about 0 minutes for 12 classes")
    assert warning in capsys.readouterr().err
    assert GBM(jobs=1, rounds=3, progress=False).fit(X, Y).warnings_ == [warning]
    assert not capsys.readouterr().err
    assert not GBM(jobs=1, rounds=3).fit(X, Y[:, :9]).warnings_  # too few classes to estimate the time from …
    monkeypatch.setattr("encode_once.classify.heads.gbm.TIMED_SECONDS", 0)
    assert GBM(jobs=1, rounds=3).fit(X, Y[:, :2]).warnings_  # … unless they take long
    assert not GBM(jobs=1, rounds=3).fit(X, Y[:, :1]).warnings_


def test_the_time_of_a_fit_is_estimated_once(monkeypatch):
    estimates = []
    monkeypatch.setattr("encode_once.classify.heads.gbm.TIMED_SECONDS", 0)
    monkeypatch.setattr(GBM, "_warn_if_slow", lambda self, seconds, classes: estimates.append(classes))
    X, Y = problem(c=12)
    GBM(jobs=1, rounds=3).fit(X, Y)
    assert estimates == [12]


def test_scores_out_of_fold_are_those_of_boosters_of_the_other_folds():
    X, Y = problem(n=300)
    Y = np.column_stack([Y, np.zeros(len(Y), bool)])
    folds = np.array_split(np.random.default_rng(0).permutation(300), 3)
    head = GBM(jobs=1, seed=5, rounds=30)
    scores = head.fit_out_of_fold(X, Y, folds)
    _, _, columns, _ = projection.learn(X, Y, 32, 5)
    for c, fold in product(range(3), folds):
        others = np.setdiff1d(np.arange(300), fold)
        options = {"objective": "binary", "learning_rate": 0.05, "num_leaves": 15, "min_data_in_leaf": 40}
        options |= {"seed": 5, "deterministic": True, "force_row_wise": True, "verbosity": -1}
        table = lightgbm.Dataset(columns, Y[:, c].astype(float), params=options, free_raw_data=False)
        booster = lightgbm.train(options, table.subset(others), head.boosters_[c].num_trees())
        np.testing.assert_allclose(scores[fold, c], booster.predict(columns[fold]), atol=1e-6)
    assert not scores[:, 3].any()
    assert scores.shape == head.predict_proba(X).shape
