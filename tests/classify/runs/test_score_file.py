"""Scores in a file: the same in each format, and those that thresholds are compared with."""

import csv
import json

import numpy as np
import pandas as pd
import pytest

from encode_once.cache import DataError, UsageError
from encode_once.classify import fit
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.runs.predict import predict
from encode_once.classify.runs.score_file import check_score_file, write_scores
from tests.classify.runs.labelling import label_file

pytestmark = pytest.mark.usefixtures("fit_once")
READERS = {
    "csv": lambda path: pd.read_csv(path, dtype={"ImageID": str}),
    "jsonl": lambda path: pd.read_json(path, lines=True, dtype={"ImageID": str}, precise_float=True),
    "parquet": pd.read_parquet,
}


@pytest.mark.parametrize("suffix", READERS)
@pytest.mark.parametrize("calibrate", ["none", "sigmoid"])
def test_labels_follow_from_the_scores_and_the_thresholds(filled, tmp_path, suffix, calibrate):
    store = filled()
    run, _ = fit(store, "linear", run=tmp_path / "run", decision=DecisionSpec("macro", calibrate=calibrate))
    (table,) = store.tables()
    path = tmp_path / f"scores.{suffix}"
    label_file(run, store, table, tmp_path / "out.csv", scores=path)
    frame = READERS[suffix](path)
    assert frame.columns.tolist() == ["ImageID", *run.record.classes]
    assert frame["ImageID"].tolist() == table.ids
    scores, _ = predict(run, store, table)
    expected = run.decision.calibration(scores) if calibrate == "sigmoid" else scores
    np.testing.assert_allclose(frame[run.record.classes], expected, rtol=1e-8)
    thresholds = json.loads((run.path / "thresholds.json").read_text())["thresholds"]
    with (tmp_path / "out.csv").open() as file:
        for row, (_, scored) in zip(csv.DictReader(file), frame.iterrows(), strict=True):
            near = [c for c, at in thresholds.items() if at is not None and abs(scored[c] - at) < 1e-8]
            above = {c for c, at in thresholds.items() if scored[c] >= at and c not in near}
            assert above == {*filter(None, row["Labels"].split(";"))} - {*near}


@pytest.mark.parametrize("name", ["scores", "scores.txt", "scores.CSV.gz"])
def test_an_unknown_suffix_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match=r"the name must end in \.csv or \.jsonl or \.parquet"):
        check_score_file(tmp_path / name)


def test_names_that_a_format_cannot_hold_are_an_error(tmp_path):
    scores = np.ones((1, 1))
    with pytest.raises(DataError, match="one name, 'id'"):
        write_scores(tmp_path / "x.csv", "id", ["a"], ["id"], scores)
    with pytest.raises(DataError, match="is not UTF-8: write"):
        write_scores(tmp_path / "x.parquet", "id", ["\udcff"], ["dog"], scores)
    write_scores(tmp_path / "x.jsonl", "id", ["\udcff"], ["dog"], scores)
    assert json.loads((tmp_path / "x.jsonl").read_text()) == {"id": "\udcff", "dog": 1}


def test_formulas_are_harmless_on_request(tmp_path):
    write_scores(tmp_path / "x.csv", "id", ["=1"], ["@dog"], np.ones((1, 1)), excel_safe=True)
    assert (tmp_path / "x.csv").read_text() == "id,'@dog\n'=1,1\n"
