import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap, norm
from sklearn import metrics as sklearn

from encode_once.classify.bench.intervals import World, coverage
from encode_once.classify.evaluation import intervals
from encode_once.classify.evaluation.intervals import ALL, CLASS_F1, METRICS, differences, interval, resampled
from encode_once.classify.evaluation.metrics import average_precision, measure, row_f1
from tests.conftest import examples


@pytest.fixture
def eval_rows():
    """A function that makes labels, predictions and scores; scores are rounded, so that there are ties."""

    def make(n=120, c=6, seed=0):
        rng = np.random.default_rng(seed)
        labels = rng.random((n, c)) < np.linspace(0.02, 0.6, c)
        scores = (0.4 * labels + 0.6 * rng.random((n, c))).round(2).astype(np.float32)
        return labels, scores >= 0.5, scores

    return make


def weights(n, draws, seed=0, groups=None):
    """The weights of the rows in each draw, (draws, n)."""
    group = np.arange(n) if groups is None else groups
    return np.concatenate([*intervals._weights(group, draws, seed)], axis=1).T.astype(float)


@pytest.mark.parametrize("grouped", [False, True])
def test_every_draw_equals_scikit_learn_on_weighted_rows(eval_rows, monkeypatch, grouped):
    """Corrected metrics are shifted and scaled by the same amounts in all draws."""
    monkeypatch.setattr(intervals, "CHUNK", 16)
    labels, predictions, scores = eval_rows()
    groups = np.arange(120) // 3 if grouped else None
    drawn = resampled(labels, predictions, scores, groups, draws=40)
    expected = {name: [] for name in (*ALL, CLASS_F1)}
    for weight in weights(120, 40, groups=groups):
        assert weight.sum() == pytest.approx(120, rel=1e-5)
        options = {"sample_weight": weight, "zero_division": 0}
        for average in ("micro", "macro", "weighted", "samples"):
            expected[f"{average}_f1"].append(
                sklearn.f1_score(labels, predictions, average=average, **options)
            )
        expected[CLASS_F1].append(sklearn.f1_score(labels, predictions, average=None, **options))
        for name in ("precision", "recall"):
            measured = getattr(sklearn, f"{name}_score")(labels, predictions, average="micro", **options)
            expected[name].append(measured)
        weighted = {"sample_weight": weight}
        expected["subset_accuracy"].append(sklearn.accuracy_score(labels, predictions, **weighted))
        expected["hamming_loss"].append(sklearn.hamming_loss(labels, predictions, **weighted))
        expected["coverage_error"].append(sklearn.coverage_error(labels, scores, **weighted))
        expected["ranking_loss"].append(sklearn.label_ranking_loss(labels, scores, **weighted))
        expected["accuracy"].append(expected["subset_accuracy"][-1])
        expected["balanced_accuracy"].append(
            sklearn.recall_score(labels, predictions, average="macro", **options)
        )
        expected["mAP"].append(sklearn.average_precision_score(labels, scores, **weighted))
    assert labels.any(axis=0).all()
    for name, values in expected.items():
        if name in ("macro_f1", "weighted_f1", "mAP"):
            assert np.corrcoef(drawn[name], values)[0, 1] > 1 - 1e-5, name
            assert drawn[name].std() >= np.std(values)
        else:
            np.testing.assert_allclose(drawn[name], values, rtol=1e-4, atol=1e-5, err_msg=name)


def test_balanced_accuracy_of_one_class_counts_its_absence_on_every_draw(eval_rows):
    labels, predictions, scores = (table[:, 3:4] for table in eval_rows())
    drawn = resampled(labels, predictions, scores, draws=20)["balanced_accuracy"]
    for weight, value in zip(weights(120, 20), drawn, strict=True):
        expected = sklearn.balanced_accuracy_score(labels[:, 0], predictions[:, 0], sample_weight=weight)
        assert value == pytest.approx(expected, abs=1e-5)


def test_rows_of_a_group_share_a_weight():
    drawn = weights(12, 30, groups=np.arange(12) // 4)
    assert (drawn[:, ::4] == drawn[:, 1::4]).all()
    assert len(np.unique(drawn[0])) == 3


def test_groups_widen_intervals(eval_rows):
    """Four copies of each row carry no more information than one: the intervals are the same."""
    once = eval_rows(200)
    fourfold = [np.repeat(table, 4, axis=0) for table in once]
    alone = resampled(*fourfold)
    grouped = resampled(*fourfold, groups=np.repeat(np.arange(200), 4))
    single = resampled(*once)
    for name in set(ALL) - {"coverage_error"}:
        narrow, wide, expected = (
            np.diff(np.quantile(drawn[name], [0.025, 0.975]))[0] for drawn in (alone, grouped, single)
        )
        assert wide > 1.5 * narrow, name
        assert wide == pytest.approx(expected, rel=0.1), name


@pytest.mark.parametrize("name", ["micro_f1", "samples_f1", "recall"])
def test_without_rare_classes_an_interval_equals_scipys_bca(eval_rows, name):
    labels, predictions, scores = eval_rows(400)

    def figure(rows):
        truth, predicted = labels[rows], predictions[rows]
        hits = truth & predicted
        if name == "samples_f1":
            return row_f1(truth, predicted).mean()
        return (
            2 * hits.sum() / (truth.sum() + predicted.sum())
            if name == "micro_f1"
            else hits.sum() / truth.sum()
        )

    options = {"method": "BCa", "n_resamples": 1000, "vectorized": False, "random_state": 0}
    expected = bootstrap((np.arange(400),), figure, **options).confidence_interval
    low, high = interval(resampled(labels, predictions, scores)[name], figure(np.arange(400)))
    assert (low, high) == pytest.approx(expected, abs=0.1 * (expected.high - expected.low))


@examples(50)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 30),
    c=st.integers(1, 6),
    steps=st.integers(1, 20),
    frequency=st.floats(0, 1),
    together=st.integers(1, 30),
)
def test_every_interval_contains_its_figure(seed, n, c, steps, frequency, together):
    """Including rare, empty and full classes, ties, and a single row or group."""
    rng = np.random.default_rng(seed)
    labels, scores = rng.random((n, c)) < frequency, (rng.integers(0, steps + 1, (n, c)) / steps)
    predictions = scores >= 0.5
    figures = measure(labels, predictions, scores, [*map(str, range(c))])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = resampled(labels, predictions, scores, np.arange(n) // together, draws=20)
    for name in ALL:
        if name not in figures:
            continue
        ends = interval(drawn[name], figures[name])
        if figures[name] is None:
            assert ends is None
        else:
            assert ends[0] <= figures[name] <= ends[1]
            assert ends[0] >= 0
            assert ends[1] <= 1 or name == "coverage_error"


def test_the_bias_of_average_precision_equals_a_simulation_of_the_model():
    rng = np.random.default_rng(0)
    n, d = 200, 2.0
    for p in (1, 3, 20):
        truth = np.arange(n) < p
        scores = rng.standard_normal((4000, n)) + d * truth
        order = np.argsort(-scores, axis=1)
        ranked = zip(truth[order], np.take_along_axis(scores, order, axis=1), strict=True)
        sampled = [average_precision(*row) for row in ranked]
        x = rng.standard_normal(200_000) + d
        T, F = norm.sf(x - d), norm.sf(x)
        expected = np.mean(sampled) - np.mean(p * T / (p * T + (n - p) * F))
        bias = intervals._binormal_bias(np.array([d]), np.array([p]), np.array([n]))[0]
        assert bias == pytest.approx(expected, abs=0.012)
        assert bias > 0.01


def test_the_variance_of_a_class_is_shrunk_only_if_it_has_few_rows():
    variances = intervals._class_variances(np.array([0.01, 0.02, 0.0, 0.0]), np.array([10_000, 3, 1, 0]))
    assert variances[0] == pytest.approx(0.01, rel=0.01)
    assert variances[2] > variances[1] > 0.02
    assert variances[3] == 0


def test_equal_rows_and_seeds_give_equal_draws(eval_rows):
    first, again, other = (resampled(*eval_rows(), draws=50, seed=seed) for seed in (0, 0, 1))
    assert {*METRICS} < {*ALL}
    for name in first:
        assert np.array_equal(first[name], again[name])
        assert not np.array_equal(first[name], other[name])


def test_without_any_positive_there_is_no_average_precision():
    nothing = np.zeros((20, 3), bool)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = resampled(nothing, nothing, np.zeros((20, 3), np.float32), draws=10)
        assert interval(drawn["mAP"], None) is None
    assert interval(drawn["micro_f1"], 0.0) == [0, 0]


def test_an_interval_is_the_middle_95_percent_and_the_figure():
    values = np.arange(1001.0)
    low, high = 24.05, 975.95  # 2.5 % of the 1002 gaps between draws lie outside each end
    assert interval(values, 500.0) == pytest.approx([low, high])
    assert interval(values, 1.0) == pytest.approx([1, high])
    assert interval(values, 999.0) == pytest.approx([low, 999])
    assert interval(values, None) is None


def test_95_percent_of_intervals_contain_the_populations_figure_even_with_rare_classes():
    """Percentile intervals of rows drawn with replacement contained macro F1 in 66 %, and mAP in 51 %."""
    rows = [*coverage(World(20), 300, 80)]
    assert [row["metric"] for row in rows] == [*METRICS]
    for row in rows:
        assert row["covered"] >= 0.87, row  # 95 minus three standard errors of 2.4
        assert row["width"] < 0.2
    assert abs(rows[-1]["figure's bias"]) > 0.01, "no class is rare enough to matter"


def test_a_paired_difference_is_narrower_than_its_parts(eval_rows):
    labels, predictions, scores = eval_rows(300)
    worse = predictions.copy()
    worse[:10] = False
    ours, theirs = resampled(labels, predictions, scores), resampled(labels, worse, scores)
    low, high = interval(differences(ours, theirs)["micro_f1"], 0.01)
    assert 0 < low < high
    assert high - low < np.ptp(interval(ours["micro_f1"], 0.7)) / 2
    for values in differences(ours, ours).values():
        assert not values.any()


def test_an_improved_class_changes_only_its_own_differences(eval_rows):
    labels, predictions, scores = eval_rows(300)
    better = predictions.copy()
    better[:, 4] = labels[:, 4]
    ours, theirs = resampled(labels, better, scores), resampled(labels, predictions, scores)
    changes = differences(ours, theirs)[CLASS_F1]
    assert changes.shape == (1000, 6)
    assert interval(changes[:, 4], 1.0)[0] > 0
    assert not np.delete(changes, 4, axis=1).any()
