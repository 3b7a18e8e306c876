import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.metrics import f1_score

from encode_once.cache import DataError
from encode_once.classify.bench.validation import AVERAGES, KINDS, RULES, draws_of, few_rows, text_rows
from encode_once.classify.data.samples import load_samples
from encode_once.classify.heads.linear import Linear
from encode_once.cli import main

OPTIONS = {"linear": {"Cs": [0.01]}}


def test_the_figures_are_those_of_rows_that_no_head_was_fitted_on(filled, monkeypatch):
    store, fitted_on = filled(), []
    fit = Linear.fit

    def recorded(head, X, Y, *validation):
        fitted_on.append(len(Y) + (len(validation[1]) if validation else 0))
        return fit(head, X, Y, *validation)

    monkeypatch.setattr(Linear, "fit", recorded)
    rows = list(few_rows(draws_of(store, ["linear"], [100], repeats=2, options=OPTIONS)))
    assert fitted_on == [100, *[80] * 5, 100] * 2  # by a tenth; by five folds, and then on all
    assert [(row["validation"], row["rule"]) for row in rows] == [(k, rule) for k in KINDS for rule in RULES]
    for tenth, folds in zip(rows[: len(RULES)], rows[len(RULES) :], strict=True):
        less = [folds[average] - tenth[average] for average in AVERAGES]
        assert folds["less tenth"] == pytest.approx(less)


def test_half_is_measured_by_scikit_learn_alike(filled, monkeypatch):
    """The rule 0.5 depends on no validation row: its figures follow from the scores of the fitted head."""
    store, scores = filled(), []
    predict = Linear.predict_proba

    def recorded(head, X):
        scores.append(predict(head, X))
        return scores[-1]

    monkeypatch.setattr(Linear, "predict_proba", recorded)
    rows = list(few_rows(draws_of(store, ["linear"], [100], repeats=2, options=OPTIONS, seed=3)))
    (table,) = store.tables()
    labels = load_samples(store, (), table).Y
    of_unseen = [values for values in scores if len(values) == 300]
    reached = []
    for draw in range(2):
        unseen = np.random.default_rng([3, draw]).permutation(400)[100:]
        predictions = of_unseen[2 * draw] >= 0.5
        reached.append(f1_score(labels[unseen], predictions, average="macro", zero_division=0))
    (row,) = [row for row in rows if (row["validation"], row["rule"]) == ("tenth", "0.5")]
    assert row["macro"] == pytest.approx(np.mean(reached))


def test_the_table_shows_differences_and_a_small_table_is_refused(filled):
    store = filled()
    words = ["bench", "validation", "--head", "knn", "--repeats", "2", "--store", str(store.path)]
    result = CliRunner().invoke(main, [*words, "--rows", "60"])
    assert result.exit_code == 0, result.output
    header, *lines = result.stdout.splitlines()
    assert header.split()[:2] == ["head", "train"]
    assert len(lines) == len(KINDS) * len(RULES)
    assert all((" ± " in line) == ("folds" in line) for line in lines)
    with pytest.raises(DataError, match="400 rows: with 380 to fit on"):
        list(few_rows(draws_of(store, ["knn"], [380], 2)))
    assert text_rows([]) == []
