import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import average_precision_score, f1_score, hamming_loss

from encode_once.cache import Store, UsageError
from encode_once.classify import DecisionSpec, fit
from encode_once.classify.bench import heads, peers
from encode_once.classify.bench.heads import AVERAGES, COLUMNS, RULES, ContestSet, Results, contest
from encode_once.classify.bench.heads_tables import tables
from encode_once.classify.bench.peers import PEERS, Peer
from encode_once.classify.bench.race import Race
from encode_once.classify.runs import head_fitter
from encode_once.cli import main

LIMIT = 100.0


@pytest.fixture
def data(filled):
    return ContestSet("tiny", filled().path, "part", ("e/image",))


@pytest.fixture
def here(monkeypatch):
    """Fits run in this process, without a limit; returns the names of those that ran."""
    ran = []

    def call(work, data, system, seed, limit):
        ran.append((system, seed))
        return work(data, system, seed), 0

    monkeypatch.setattr(heads, "with_peak_memory", call)
    return ran


def run(data, systems, folder, seeds=1, limit=LIMIT):
    return list(contest([data], systems, seeds, folder, limit))


def assert_same_as_scikit_learn(row, labels, predictions, rule):
    for average in AVERAGES:
        reached = f1_score(labels, predictions, average=average, zero_division=0)
        assert row[f"{average} F1, {rule}"] == pytest.approx(reached)
    assert row[f"Hamming loss, {rule}"] == pytest.approx(hamming_loss(labels, predictions))


def test_a_head_is_fitted_as_fit_does_and_measured_as_scikit_learn_does(data, here, tmp_path):
    (row,) = run(data, ["knn"], tmp_path / "results", seeds=1)
    fitted, metrics = fit(data.store, "knn", features=data.features, split="part", run=tmp_path / "run")
    assert row["outcome"] == "done"
    for average in AVERAGES:
        assert row[f"{average} F1, own rule"] == pytest.approx(metrics[f"{average}_f1"])
    labels, validation = fitted.eval.labels, fitted.validation
    precision = average_precision_score(labels, fitted.eval.scores, average="macro")
    assert row["mAP"] == pytest.approx(precision)
    for rule, spec in RULES.items():
        predictions = spec.fit(validation.scores, validation.labels)(fitted.eval.scores)
        assert_same_as_scikit_learn(row, labels, predictions, rule)


@pytest.mark.parametrize("validation", ["tenth", "folds"])
def test_a_peer_labels_test_rows_after_a_fit_on_all_train_rows_and_is_tuned_on_rows_it_was_not_fitted_on(
    data, here, tmp_path, monkeypatch, validation
):
    monkeypatch.setattr(peers, "TREES", 10)
    if validation == "tenth":
        monkeypatch.setattr(head_fitter, "FOLDS_UP_TO", 0)
    (row,) = run(data, ["sklearn-forest"], tmp_path)
    race = Race.of(Store(data.store), data.features, "part", None, 0)
    X, Y = race.X[:], race.Y

    def forest(rows):
        return RandomForestClassifier(10, random_state=0).fit(X[rows], Y[rows])

    assert_same_as_scikit_learn(row, Y[race.eval], forest(race.rows).predict(X[race.eval]), "own rule")

    def scores(model, rows):
        return np.stack([of_class[:, 1] for of_class in model.predict_proba(X[rows])], 1).astype(np.float32)

    model, rows = forest(race.train), race.validation
    tuned_on = scores(model, rows)
    if validation == "folds":
        assert sorted(np.concatenate(race.folds)) == race.rows.tolist()
        tuned_on = [scores(forest(np.setdiff1d(race.rows, fold)), fold) for fold in race.folds]
        model, rows, tuned_on = forest(race.rows), np.concatenate(race.folds), np.concatenate(tuned_on)
    rule = DecisionSpec("micro").fit(tuned_on, Y[rows])
    predictions = rule(scores(model, race.eval))
    assert_same_as_scikit_learn(row, Y[race.eval], predictions, "micro thresholds")


def test_heads_and_peers_have_the_same_rows(data, here, tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "TREES", 10)
    run(data, ["knn", "sklearn-forest"], tmp_path)
    ours, theirs = (
        np.load(Results(tmp_path).scores_path("tiny", name, 0)) for name in ("knn", "sklearn-forest")
    )
    assert np.array_equal(ours["labels"], theirs["labels"])
    assert sorted(map(tuple, ours["validation_labels"])) == sorted(map(tuple, theirs["validation_labels"]))


@pytest.mark.filterwarnings("ignore:Label", "ignore:the matrix")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.skipif(not peer.installed, reason=f"no {peer.module}"))
        for name, peer in PEERS.items()
    ],
)
def test_every_installed_peer_learns(name, monkeypatch):
    monkeypatch.setattr(peers, "TREES", 50)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 6), np.float32)
    noisy = X[:, :3] + 0.3 * rng.standard_normal((300, 3))
    Y = np.column_stack([noisy > 0.3, np.zeros(300, np.bool_)])  # the last label has no row
    scores, labels = PEERS[name].fit(X[:200], Y[:200], 0)(X[200:])
    assert (scores.shape, scores.dtype, labels.dtype) == ((100, 4), np.float32, np.bool_)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert f1_score(Y[200:], labels, average="micro") > 0.6
    assert average_precision_score(Y[200:, :3], scores[:, :3]) > 0.7
    assert labels[:, 3].mean() < 0.05


@pytest.mark.usefixtures("fit_once")
def test_a_second_call_continues_where_the_first_stopped(data, here, tmp_path):
    assert len(run(data, ["knn"], tmp_path)) == 1
    rows = run(data, ["knn", "linear"], tmp_path, seeds=2)
    assert here == [("knn", 0), ("linear", 0), ("knn", 1), ("linear", 1)]
    assert [(row["system"], row["seed"]) for row in rows] == here[1:]
    with (tmp_path / "results.csv").open() as file:
        saved = list(csv.DictReader(file))
    assert [*saved[0]] == [*COLUMNS]
    assert len(saved) == 4
    assert saved[1] == {name: "" if rows[0][name] is None else str(rows[0][name]) for name in COLUMNS}
    assert run(data, ["knn", "linear"], tmp_path, seeds=2) == []


def test_what_was_killed_is_tried_again_with_a_higher_limit_only(data, monkeypatch, tmp_path):
    def killed(*_, limit):
        raise TimeoutError(f"killed after {limit:g} s")

    monkeypatch.setattr(heads, "with_peak_memory", killed)
    (row,) = run(data, ["knn"], tmp_path)
    assert (row["outcome"], row["mAP"]) == ("killed after 100 s", None)
    assert run(data, ["knn"], tmp_path) == []
    assert len(run(data, ["knn"], tmp_path, limit=200)) == 1
    assert [row["outcome"] for row in Results(tmp_path).rows] == ["killed after 200 s"]


@pytest.mark.slow
def test_a_fit_that_takes_too_long_is_killed(data, tmp_path):
    (row,) = run(data, ["knn"], tmp_path, limit=1)
    # by the clock, if the processor is so busy that it gives no second of its time until then
    assert row["outcome"] in ("killed after 1 processor seconds", "killed after 20 s by the clock")


def test_a_system_that_fails_is_reported_and_tried_again(data, here, monkeypatch, tmp_path):
    def fail(*_):
        raise ValueError("no such luck")

    monkeypatch.setitem(PEERS, "broken", Peer("sklearn", fail))
    outcomes = [[row["outcome"] for row in run(data, ["broken", "knn"], tmp_path)] for _ in range(2)]
    assert outcomes == [["failed: ValueError: no such luck", "done"], ["failed: ValueError: no such luck"]]
    assert len(Results(tmp_path).rows) == 2


def test_a_peer_that_is_not_installed_is_reported_and_not_saved(data, here, monkeypatch, tmp_path):
    monkeypatch.setitem(PEERS, "absent", Peer("no_such_library", lambda *_: None))
    absent, row = run(data, ["absent", "knn"], tmp_path)
    assert absent["outcome"] == "no_such_library is not installed: pip install 'encode-once[peers]'"
    assert row["outcome"] == "done"
    assert [row["system"] for row in Results(tmp_path).rows] == ["knn"]


def test_an_unknown_system_is_refused(data, tmp_path):
    with pytest.raises(UsageError, match="did you mean 'knn'"):
        run(data, ["knnn"], tmp_path)


@pytest.fixture
def measured(tmp_path):
    """Results of three systems on two sets: `good`, `poor`, and `slow`, which was killed on the second."""
    rng = np.random.default_rng(0)
    results = Results(tmp_path)
    for name in ("first", "second"):
        labels, validation_labels = rng.random((2, 200, 4)) < 0.4
        for system, noise in (("good", 0.3), ("poor", 1.0), ("slow", 0.6)):
            for seed in range(2):
                row = dict.fromkeys(COLUMNS) | {"set": name, "system": system, "seed": seed, "code": ""}
                if (name, system) == ("second", "slow"):
                    results.add(row | {"outcome": "killed after 1 s", "limit": 1.0}, {})
                    continue
                scores, validation_scores = (
                    np.clip(truth + noise * rng.standard_normal(truth.shape), 0, 1).astype(np.float32)
                    for truth in (labels, validation_labels)
                )
                arrays = {
                    "labels": labels, "own_scores": scores, "own_labels": scores >= 0.5, "scores": scores,
                    "validation_scores": validation_scores, "validation_labels": validation_labels,
                }  # fmt: skip
                row |= heads.figures(arrays) | {"outcome": "done", "seconds": 1.0 + seed}
                results.add(row, arrays)
    return tmp_path


def test_tables_have_means_of_seeds_ranks_and_paired_intervals(measured):
    ranks, _, first, second = tables(measured).values()
    assert [(row["system"], row["mAP"]) for row in ranks] == [("good", 1.0), ("poor", 2.5), ("slow", 2.5)]
    assert [row["system"] for row in first] == ["good", "slow", "poor"]
    assert [row["seconds"] for row in first] == [1.5] * 3
    own = [row["micro F1, own rule"] for row in Results(measured).rows[:2]]
    assert first[0]["micro, own"] == pytest.approx(np.mean(own))
    assert first[0]["micro, difference from the best"] == "best"
    difference, low, _, high = (
        first[2]["micro, difference from the best"].replace("(", "").replace(")", "").split()
    )
    assert float(low) < float(difference) < float(high) < 0
    assert float(difference) == pytest.approx(first[2]["micro, same"] - first[0]["micro, same"], abs=6e-4)
    assert second[2]["outcome"] == "killed after 1 s"
    assert second[2]["micro, difference from the best"] is None


def test_rules_are_compared_by_how_far_they_are_from_the_best(measured):
    rules = tables(measured)["Mean distance to the best decision rule"]
    rows = [row for row in Results(measured).rows if row["outcome"] == "done"]
    assert {row["rule"] for row in rules} == {*RULES}
    assert [row["worst"] for row in rules] == sorted(row["worst"] for row in rules)
    for row in rules:
        for average in AVERAGES:
            distances = []
            for result in rows:
                values = [result[f"{average} F1, {rule}"] for rule in RULES]
                distances.append(max(values) - result[f"{average} F1, {row['rule']}"])
            assert row[average] == pytest.approx(np.mean(distances))
        assert row["worst"] == max(row[average] for average in AVERAGES)


@pytest.mark.usefixtures("fit_once")
def test_the_command_measures_and_prints_tables(data, here, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["bench", "heads", "--store", data.store, "--split", "part", "--features", "e/image"]
    words += ["--heads", "knn,linear", "--peers", "", "--seeds", 1, "--folder", "results"]
    done = CliRunner().invoke(main, [*map(str, words), "--json"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert [(row["set"], row["system"], row["outcome"]) for row in rows] == [
        ("data", "knn", "done"),
        ("data", "linear", "done"),
    ]
    printed = CliRunner().invoke(main, ["bench", "heads", "--table", "--folder", "results"]).stdout
    assert "### Mean rank over the sets\n\n| system |" in printed
    assert "### data\n\n| system | seeds |" in printed


def test_no_set_and_no_results_are_errors(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words, message in (
        ([], "multilabel has no NAME-train.arff"),
        (["--table"], "results.csv has no results"),
    ):
        done = CliRunner().invoke(main, ["bench", "heads", *words])
        assert done.exit_code == 1
        assert message in done.stderr
