"""The CSV file of results: figures are those of the runs, and only rows of the same table are replaced."""

import csv
import json
from statistics import fmean, stdev

import pytest
from click.testing import CliRunner

from encode_once import cli
from encode_once.cache import DataError, Store
from encode_once.classify import fit
from encode_once.classify.systems.results import COLUMNS, recipe_rows, save

pytestmark = pytest.mark.usefixtures("fit_once")


def rows_of(path):
    with path.open(newline="") as file:
        return [*csv.DictReader(file)]


def test_each_system_has_a_row(filled, tmp_path):
    store = filled()
    settings = {"split": "tail:100", "validation": "tenth", "decision": "macro"}
    for seed in (0, 3):
        options = {"trees": 4, "jobs": 1, "seed": seed}
        fit(store, "forest", options=options, run=tmp_path / f"runs/f{seed}", **settings)
    fit(store, "linear", features=["e/text"], run=tmp_path / "runs/l", **settings)
    path = tmp_path / "results.csv"
    about = {"table": "runs", "data": "data/train.csv", "split": "tail:100"}
    others = [about | {"data": "other.csv"}, about | {"split": "tail:50"}, about | {"table": "other"}]
    save(path, [about | {"head": "old"}, *others])

    result = CliRunner().invoke(
        cli.main, ["compare", str(tmp_path / "runs"), "--json", "--results", str(path)]
    )
    assert result.exit_code == 0, result.output
    kept, rows = rows_of(path)[:3], rows_of(path)[3:]
    assert [{name: row[name] for name in about} for row in kept] == others
    by_head = {row["head"]: row for row in rows}
    assert {*by_head} == {"forest", "linear"}
    metrics = {
        name: json.loads((tmp_path / "runs" / name / "metrics.json").read_text())
        for name in ("f0", "f3", "l")
    }
    for metric in ("macro_f1", "micro_f1", "samples_f1", "mAP"):
        values = [metrics[name][metric] for name in ("f0", "f3")]
        row = by_head["forest"]
        assert float(row[metric]) == pytest.approx(fmean(values), rel=1e-5)
        assert float(row[f"{metric}_sd"]) == pytest.approx(stdev(values), rel=1e-4)
        row = by_head["linear"]
        assert float(row[metric]) == pytest.approx(metrics["l"][metric], rel=1e-5)
        assert row[f"{metric}_sd"] == ""
        assert float(row[f"{metric}_low"]) < float(row[metric]) < float(row[f"{metric}_high"])
        (best,) = (row["head"] for row in rows if not row[f"{metric}_p"])
        assert float(by_head[best][metric]) == max(float(row[metric]) for row in rows)
    row = by_head["forest"]
    assert (row["encoder"], row["view"], row["settings"]) == ("e/image + e/text", "", "trees=4")
    assert (row["seed"], by_head["linear"]["seed"]) == ("0, 3", "0")
    assert (row["table"], row["data"], row["split"], row["rule"]) == (
        "runs",
        "data/train.csv",
        "tail:100",
        "macro",
    )
    assert row["command"]
    assert " cores" in row["machine"]


def test_views_have_a_column(filled, tmp_path):
    store = filled()
    keys = store.table().image_keys
    name = "e@whole-320/image"
    with store.declare(name, {"modality": "image", "view": "whole-320"}).writer(len(keys)) as writer:
        writer.append(keys, store.feature("e/image").read(keys))
    run, _ = fit(
        Store(store.path), "linear", features=[name, "e/text"], run=tmp_path / "run", split="tail:100"
    )
    recipe = {
        "recipe": "own", "run": str(run.path), "metrics": None, "reported": {"micro_f1": 0.5}, "compared": {},
        "contaminated": True, "differs": ["e for f"], "seconds": 1.0, "lacks": None,
    }  # fmt: skip
    (row,) = recipe_rows("recipes", [recipe, {**recipe, "run": None}])
    assert (row["encoder"], row["view"]) == ("e/image + e/text", "whole-320 + own")
    assert (row["recipe"], row["reported"], row["note"]) == ("own", "micro 0.500", "contaminated; e for f")
    assert row["rule"] == "expected-mean"
    alone, _ = fit(Store(store.path), "linear", features=[name], run=tmp_path / "alone", split="tail:100")
    (of_view,) = recipe_rows("recipes", [{**recipe, "run": str(alone.path)}])
    assert (of_view["encoder"], of_view["view"]) == ("e/image", "whole-320")
    path = tmp_path / "results.csv"
    for entry in (row, row | {"recipe": "another"}, row | {"note": "newer"}):
        save(path, [entry])
    assert [(row["recipe"], row["note"]) for row in rows_of(path)] == [
        ("another", "contaminated; e for f"),
        ("own", "newer"),
    ]


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"\xff\xd8\0\n", b"x" * 140_000])
def test_another_file_is_not_overwritten(tmp_path, content, monkeypatch):
    path = tmp_path / "mine.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match="is not a file of --results"):
        save(path, [dict.fromkeys(COLUMNS, "")])
    monkeypatch.chdir(tmp_path)  # without a store: it is noticed before anything is read
    for words in (["compare", "."], ["recipe", "run", "tfidf-linear"]):
        result = CliRunner().invoke(cli.main, [*words, "--results", str(path)])
        assert "is not a file of --results" in result.stderr
    assert path.read_bytes() == content


def test_the_table_has_a_name_of_the_option(filled, tmp_path):
    path = tmp_path / "results.csv"
    fit(filled(60), "linear", features=["e/text"], run=tmp_path / "run", split="tail:20")
    words = ["compare", str(tmp_path / "run"), "--results-table", "mine"]
    assert "without --results FILE" in CliRunner().invoke(cli.main, words).stderr
    assert CliRunner().invoke(cli.main, [*words, "--results", str(path)]).exit_code == 0
    assert [row["table"] for row in rows_of(path)] == ["mine"]
