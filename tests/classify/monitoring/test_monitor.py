"""Monitoring: alarms on shifted rows, and without a shift not more of them than stated."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from encode_once.cache import DataError, Failure, Store
from encode_once.classify import fit
from encode_once.classify.evaluation.evaluation import ScoredRows
from encode_once.classify.monitoring.monitor import (
    NewRows,
    alarm_line,
    monitor,
    rows_of_score_file,
    rows_of_table,
)
from encode_once.classify.monitoring.tables import page, text
from encode_once.classify.runs.score_file import write_scores
from tests.classify.conftest import CLASSES

pytestmark = pytest.mark.usefixtures("fit_once")
FEATURES = ["e/image", "e/text"]


@pytest.fixture
def fitted(filled, tmp_path):
    """A run on 600 rows, of which 300 are eval rows."""
    run, _ = fit(filled(600), "linear", split="random:0.5", run=tmp_path / "run", options={"Cs": [0.1]})
    return run


def new_rows(run, store):
    return rows_of_table(run, store, store.table())


def alarms(monitored):
    return {alarm["test"]: alarm["subjects"] for alarm in monitored["alarms"]}


def changed(store, tmp_path, change):
    """A copy of a filled store in which the vectors of images are changed."""
    other, table = Store(tmp_path / f"{store.path.name}-changed"), store.table()
    for name in FEATURES:
        feature = store.feature(name)
        values = feature.read(table.keys("image"))
        with other.declare(name, feature.spec).writer(len(table)) as writer:
            writer.append(table.keys("image"), change(values.copy()) if name == "e/image" else values)
    other.save(table)
    return other


def test_no_alarm_on_rows_of_the_same_distribution(fitted, filled):
    for seed in range(1, 21):
        result = monitor(fitted, new_rows(fitted, filled(120, seed=seed, name=f"new-{seed}")))
        assert result["alarms"] == []
        assert alarm_line(result) == ""
    assert result["rows"], result["eval_rows"] == (120, 300)


def test_an_alarm_on_changed_images_names_their_feature(fitted, filled, tmp_path):
    store = changed(filled(120, seed=1, name="new"), tmp_path, lambda values: values * np.float16(0.5))
    result = monitor(fitted, new_rows(fitted, store))
    assert alarms(result)["features"] == ["e/image"]
    assert alarm_line(result).startswith("alarm: ")
    assert "features e/image" in alarm_line(result)
    (row,) = (row for row in result["features"] if row["feature"] == "e/image")
    assert row["adjusted_p"] <= 0.01 < min(r["adjusted_p"] for r in result["features"] if r is not row)


def test_an_alarm_on_rows_of_other_classes_names_the_class(fitted, filled):
    store = filled(500, seed=1, name="new")
    table = store.table()
    rows = [row for row in range(500) if "cat" not in table.labels[row]]
    new = new_rows(fitted, store)
    new = replace(
        new,
        ids=[new.ids[row] for row in rows],
        **{name: getattr(new, name)[rows] for name in
           ("probabilities", "labels", "truth", "missing", "keys", "kept")},
    )  # fmt: skip
    result = monitor(fitted, new)
    assert "cat" in alarms(result)["class scores"]
    assert alarms(result)["shares of the labels"] == ["cat"]
    (cat,) = (row for row in result["per_class"] if row["label"] == "cat")
    assert cat["prevalence"] == 0
    assert cat["psi"] == max(row["psi"] for row in result["per_class"]) > 0.25
    assert cat["expected"] < cat["prevalence_before"]


def test_rows_without_images_alarm(fitted, filled):
    store = filled(100, seed=1, name="new", missing=range(20))
    keys = store.table().keys("image")[:20]
    store.feature("e/image").record_failures([Failure(key.tobytes().hex(), "broken", "", "") for key in keys])
    result = monitor(fitted, new_rows(fitted, store))
    assert alarms(result)["rows without a vector of"] == ["e/image"]
    (row,) = (row for row in result["features"] if row["feature"] == "e/image")
    assert (row["missing"], row["missing_before"]) == (0.2, 0)


@pytest.mark.parametrize("alpha", [0.1, 0.5])
def test_the_false_alarm_rate_is_at_most_the_stated_one(fitted, filled, alpha):
    """Eval rows and new rows are drawn from one pool, for each of 100 trials."""
    pool = new_rows(fitted, filled(3000, seed=1, name="pool"))
    assert pool.truth is not None
    scores, rng, count = pool.probabilities.astype(np.float32), np.random.default_rng(0), 0
    fitted.decision = replace(fitted.decision, calibration=None)
    for _ in range(100):
        before, now = np.split(rng.permutation(3000)[:220], [120])
        ids = [pool.ids[row] for row in before]
        rows = ScoredRows(ids, scores[before], pool.truth[before], keys=pool.keys[before])
        new = NewRows(
            "new", [pool.ids[row] for row in now], pool.probabilities[now], pool.labels[now], pool.truth[now],
            pool.missing[now],
        )  # fmt: skip
        count += bool(monitor(replace(fitted, eval=rows), new, alpha)["alarms"])
    assert count <= binom.ppf(0.999, 100, alpha)
    assert count > 0


def test_rows_that_the_run_was_fitted_on_are_left_out(fitted, filled):
    store = Store(fitted.record.store)
    new = new_rows(fitted, store)
    assert {*new.ids} == {*fitted.eval.ids}
    assert any("300 of 600 rows are left out" in line for line in new.warnings)
    result = monitor(fitted, new)
    assert result["alarms"] == []
    assert max(row["psi"] for row in result["per_class"]) == pytest.approx(0)
    with pytest.raises(DataError, match="none that"):
        rows_of_table(fitted, store, chosen(store.table(), {*store.table().ids} - {*new.ids}))


def chosen(table, ids):
    rows = [row for row, row_id in enumerate(table.ids) if row_id in ids]
    return replace(
        table,
        ids=[table.ids[row] for row in rows],
        images=[table.images[row] for row in rows],
        captions=[table.captions[row] for row in rows],
        labels=[table.labels[row] for row in rows],
        columns={},
        image_keys=table.image_keys[rows],
        caption_keys=table.caption_keys[rows],
    )


def test_a_rate_that_permutations_cannot_reach_is_reported(fitted, filled, monkeypatch):
    monkeypatch.setattr("encode_once.classify.monitoring.monitor.MAX_PERMUTATIONS", 500)
    new = new_rows(fitted, filled(60, seed=1, name="new"))
    result = monitor(fitted, new, 1e-60)
    assert "no shift of a feature can alarm: that needs --alpha 0.02 or more" in result["warnings"]
    assert not any("can alarm" in line for line in monitor(fitted, new, 0.02)["warnings"])


def test_labels_the_run_does_not_know_are_counted(fitted, filled):
    store = filled(100, seed=1, name="new")
    table = store.table()
    table.labels = [("zebra", *names) if row < 3 else names for row, names in enumerate(table.labels)]
    result = monitor(fitted, rows_of_table(fitted, store, table))
    assert result["unknown_labels"] == {"zebra": 3}
    assert any("zebra (3)" in line for line in result["warnings"])
    assert "shares of the labels" not in alarms(result)
    run = replace(fitted, spec=replace(fitted.spec, hierarchy=(("zebra", "cat"),)))
    assert rows_of_table(run, store, table).unknown == {}
    run = replace(fitted, spec=replace(fitted.spec, only_classes=tuple(fitted.record.classes)))
    new = rows_of_table(run, store, table)  # whose other labels the user does not want
    assert new.unknown == {"zebra": 3}
    assert not any("does not know" in line for line in new.warnings)


def test_a_class_of_which_no_label_is_known_has_no_prevalence(fitted, filled):
    new = new_rows(fitted, filled(100, seed=1, name="new"))
    truth = new.truth.astype(np.int8)
    truth[:, 0] = -1
    rows = monitor(fitted, replace(new, truth=truth))["per_class"]
    assert [row["prevalence"] is None for row in rows] == [True, *[False] * (len(rows) - 1)]


def test_without_the_store_of_the_run_all_but_features_is_compared(fitted, filled, tmp_path):
    new = new_rows(fitted, filled(100, seed=1, name="new"))
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    result = monitor(fitted, new)
    assert [row["energy_distance"] for row in result["features"]] == [None, None]
    assert any("features are not compared" in line for line in result["warnings"])


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_file_of_scores_gives_the_same_comparison_of_scores(fitted, filled, tmp_path, suffix):
    new, path = new_rows(fitted, filled(100, seed=1, name="new")), tmp_path / f"scores{suffix}"
    write_scores(path, "ImageID", new.ids, fitted.record.classes, new.probabilities)
    result, whole = monitor(fitted, rows_of_score_file(fitted, path)), monitor(fitted, new)
    for row, expected in zip(result["per_class"], whole["per_class"], strict=True):
        assert row["p"] == pytest.approx(expected["p"])
        assert row["psi"] == pytest.approx(expected["psi"])
        assert row["expected"] == pytest.approx(expected["expected"])
        assert row["labelled"] == expected["labelled"]
    assert result["features"] == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("ImageID,cat\n1,0.5\n", "no scores of 9, 10, dog"),
        ("ImageID,9,10,cat,dog,traffic light\n1,0,0,0,x,0\n", "no number|not a number"),
        ("ImageID,9,10,cat,dog,traffic light\n1,0,0,0,2,0\n", "not between 0 and 1"),
        ("ImageID,9,10,cat,dog,traffic light\n", "no rows"),
        ("ImageID,9,10,cat,dog,traffic light\n1,0\n", "no scores of|not a file of"),
        ("", "not a file of"),
        ("ImageID,9,10,cat,dog,traffic light\n1,0,0,0,nan,0\n", "not between 0 and 1"),
    ],
)
def test_other_files_are_refused_in_a_line(fitted, tmp_path, content, message):
    path = tmp_path / "scores.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        rows_of_score_file(fitted, path)
    assert str(path) in str(caught.value)


def test_the_table_and_the_page_show_every_class_and_feature(fitted, filled, tmp_path):
    result = monitor(fitted, new_rows(fitted, filled(60, seed=1, name="new")))
    html = page(result)
    for name in (*CLASSES, *FEATURES):
        assert name in text(result)
        assert f'<th scope="row">{name}</th>' in html
    assert "no alarm" in text(result)
