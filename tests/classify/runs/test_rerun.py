"""Fit runs again: equal to the bit, or what differs and what has changed since."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.metrics import f1_score

from encode_once.cache import DataError, EncodeOnceError, MissingDataError, Store
from encode_once.cache.own_code import UntrustedError, trust_code
from encode_once.classify import fit, heads, load_run, sweep
from encode_once.classify.decisions.rule import DecisionRule, DecisionSpec
from encode_once.classify.runs import rerun as repeating
from encode_once.classify.runs.changes import changed_defaults
from encode_once.classify.runs.model_card import model_card
from encode_once.classify.runs.rerun import rerun
from encode_once.classify.runs.retune import measure_kept, retune
from encode_once.cli import main
from tests.classify.runs.reseal import reseal

pytestmark = pytest.mark.usefixtures("fit_once")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Runs without a name of their own are written here."""
    monkeypatch.chdir(tmp_path)


def repeated(run, **options):
    return rerun(load_run(run.path), run.path.with_name("again"), **options)


def change_record(path, **values):
    """Change entries of run.json, as another program or machine would have written them."""
    content = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps(content | values))
    reseal(path)


def replace_table(store, **values):
    """Save another table of the same source."""
    (table,) = store.tables()
    store.save(replace(table, **{name: change(table) for name, change in values.items()}))


@pytest.mark.parametrize(
    ("head", "fields"),
    [
        ("linear", {"decision": DecisionSpec("macro", calibrate="sigmoid")}),
        ("linear", {"split": "kfold:3", "features": ["e/text"]}),
        ("mlp", {"epochs": 2, "seed": 5, "split": "tail:40", "groups": "none"}),
        ("knn", {"features": ["column:part", "e/image"], "tune_on": "eval"}),
        (
            "linear",
            {
                "split": "part",
                "scale": "feature",
                "only_classes": ["9", "cat", "dog"],
                "hierarchy": [("cat", "9")],
            },
        ),
    ],
)
def test_a_run_of_any_kind_is_repeated_to_the_bit(filled, tmp_path, head, fields):
    run, _ = fit(filled(150), head, run=tmp_path / "run", **fields)
    result = repeated(run)
    assert result["equal"]
    assert result["eval"] == {
        "rows": len(run.eval.ids), "only_then": 0, "only_now": 0, "largest": 0.0, "scores": 0, "labels": 0,
    }  # fmt: skip
    assert result["changes"] == []
    assert {pair["difference"] for pair in result["metrics"].values()} == {0.0}
    again = load_run(tmp_path / "again")
    assert again.eval.scores.tobytes() == run.eval.scores.tobytes()


def test_thresholds_that_were_tuned_since_or_chosen_by_hand_are_kept(filled, tmp_path):
    run, _ = fit(filled(150), "linear", run=tmp_path / "run")
    run.save_decision(*retune(run, DecisionSpec("macro")))
    assert repeated(run)["equal"]
    run.decision = DecisionRule.by_hand(np.array([0.1, 0.2, 0.3, 0.4, 0.5]), 1, 2)
    run.save_decision(*measure_kept(run), model_card(run))
    assert repeated(run, overwrite=True)["equal"]
    np.testing.assert_array_equal(load_run(tmp_path / "again").decision.thresholds, run.decision.thresholds)


def test_own_code_is_used_as_the_run_has_it_and_only_if_trusted(filled, tmp_path):
    Path("mine.py").write_text(
        "from sklearn.linear_model import LogisticRegression\n\n"
        "def head():\n    return LogisticRegression(C=0.5)\n"
    )
    trust_code("mine.py")
    run, _ = fit(filled(150), "mine.py:head", run=tmp_path / "run")
    Path("mine.py").unlink()
    assert repeated(run)["equal"]


def test_own_code_of_others_takes_trust(filled, tmp_path, monkeypatch):
    Path("other.py").write_text(
        "from sklearn.linear_model import LogisticRegression\n\n"
        "def head():\n    return LogisticRegression(C=0.25)\n"
    )
    trust_code("other.py")
    run, _ = fit(filled(150), "other.py:head", run=tmp_path / "run")
    for name in ("_trusted", "_meant", "_modules"):
        monkeypatch.setattr(f"encode_once.cache.own_code.{name}", {})
    with pytest.raises(UntrustedError, match="--trust"):
        repeated(run)
    assert not (tmp_path / "again").exists()
    result = rerun(load_run(run.path, trust=True, log=lambda line: None), tmp_path / "again", trust=True)
    assert result["equal"]


def test_files_that_a_run_names_are_opened_only_if_trusted(filled, tmp_path):
    store = filled(150)
    (table,) = store.tables()
    for name, rows in (("train.txt", table.ids[:100]), ("test.txt", table.ids[100:])):
        Path(name).write_text("\n".join(rows))
    run, _ = fit(store, "linear", split="lists:train.txt,test.txt", run=tmp_path / "run")
    with pytest.raises(DataError, match=r"names files to open: .*train.txt"):
        repeated(run)
    assert repeated(run, trust=True)["equal"]


def test_a_run_of_a_sweep_is_repeated_outside_of_its_folder(filled, tmp_path):
    (row,) = sweep(filled(150), ["linear"], folder=tmp_path / "runs" / "sweep")
    result = rerun(load_run(row["run"]))
    assert result["equal"]
    assert result["rerun"] == str(Path("runs") / f"{Path(row['run']).name}-rerun")
    assert rerun(load_run(row["run"]))["rerun"].endswith("-rerun-2")


def test_a_default_that_changed_is_reported_and_the_old_one_is_used(filled, tmp_path, monkeypatch):
    run, _ = fit(filled(150), "mlp", run=tmp_path / "run", epochs=2)
    now = heads.unset_defaults

    def other(name, options):
        return now(name, options) | {"dropout": 0.125, "brand_new": 1}

    for module in ("changes", "fit.heads"):
        monkeypatch.setattr(f"encode_once.classify.runs.{module}.unset_defaults", other)
    assert changed_defaults(load_run(run.path)) == {"brand_new": ("–", 1), "dropout": (0.5, 0.125)}
    result = repeated(run)
    assert result["equal"]
    assert load_run(tmp_path / "again").spec.options["dropout"] == 0.5
    assert {"what": "default of the option dropout", "then": "0.5", "now": "0.125"} in result["changes"]


def test_what_changed_of_program_libraries_and_machine_is_listed(filled, tmp_path):
    run, _ = fit(filled(150), "linear", run=tmp_path / "run")
    origin = json.loads((run.path / "run.json").read_text())["origin"]
    libraries = origin["libraries"] | {"numpy": "1.0", "not-imported": "3"}
    change_record(
        run.path,
        origin=origin | {"libraries": libraries, "processor": "another", "program": "0.0.9", "threads": 77},
        code="0" * 32,
    )
    result = repeated(run)
    assert result["equal"]
    assert {change["what"]: change["then"] for change in result["changes"]} == {
        "numpy": "1.0",
        "processor": "another",
        "program": load_run(run.path).record.origin.shown_program,
        "threads": "77",
        "code of classify": "0" * 8,
    }
    assert "changed since, without an effect:\n" in repeating.text(result)


def test_a_run_that_records_no_origin_says_so(filled, tmp_path):
    run, _ = fit(filled(150), "linear", run=tmp_path / "run")
    change_record(run.path, origin={}, defaults={}, table_keys={})
    result = repeated(run)
    assert result["equal"]
    assert [(change["what"], change["then"]) for change in result["changes"]] == [
        ("versions, defaults and machine", "not recorded")
    ]


def test_vectors_that_changed_under_the_same_key_are_found_by_their_means(filled, tmp_path):
    store = filled(150)
    run, _ = fit(store, "linear", run=tmp_path / "run")
    shutil.rmtree(store.path)
    other = filled(150, seed=0)  # draws all vectors again, as they were
    feature = other.feature("e/text")
    (table,) = other.tables()
    vectors = feature.read(table.keys("caption")).astype(np.float32)
    shutil.rmtree(other.path / "features" / "e" / "text")
    shutil.rmtree(other.path / "inventory", ignore_errors=True)
    other = Store(other.path)
    with other.declare("e/text", {"modality": "caption"}).writer(len(table)) as writer:
        writer.append(table.keys("caption"), (vectors + 0.25).astype(np.float16))
    result = repeated(run)
    assert not result["equal"]
    assert [change["what"] for change in result["changes"]] == ["vectors of e/text"]
    assert result["changes"][0]["now"].startswith("differs by up to 2.")
    assert "changed since:\n  vectors of e/text" in repeating.text(result)


def test_labels_and_rows_of_the_table_that_changed_are_counted(filled, tmp_path):
    store = filled(150)
    run, before = fit(store, "linear", run=tmp_path / "run")
    eval_ids = set(run.eval.ids[:3])
    replace_table(
        store,
        labels=lambda table: [
            ("dog",) if row_id in eval_ids else names
            for row_id, names in zip(table.ids, table.labels, strict=True)
        ],
    )
    result = repeated(run)
    again = load_run(tmp_path / "again")
    assert not result["equal"]
    assert [change["what"] for change in result["changes"]] == ["labels of the table"]
    lost = set(run.eval.ids) - set(again.eval.ids)
    assert result["eval"]["only_then"] == len(lost)
    labels = dict(zip(run.eval.ids, map(tuple, run.eval.labels), strict=True))
    differing = [
        row_id
        for row_id, row in zip(again.eval.ids, map(tuple, again.eval.labels), strict=True)
        if row_id in labels and labels[row_id] != row
    ]
    assert result["eval"]["labels"] == len(differing) > 0
    scores = dict(zip(run.eval.ids, run.eval.scores, strict=True))
    gaps = [
        np.abs(scores[row_id] - row).max()
        for row_id, row in zip(again.eval.ids, again.eval.scores, strict=True)
        if row_id in scores
    ]
    assert result["eval"]["largest"] == pytest.approx(max(gaps))
    after = json.loads((tmp_path / "again" / "metrics.json").read_text())
    pair = result["metrics"]["micro_f1"]
    assert (pair["then"], pair["now"]) == (before["micro_f1"], after["micro_f1"])
    assert pair["difference"] == pytest.approx(after["micro_f1"] - before["micro_f1"])


def test_a_run_of_one_label_per_row_is_equal_though_it_has_no_thresholds(filled, tmp_path):
    store = filled(150)
    replace_table(store, labels=lambda table: [(names or ("none",))[:1] for names in table.labels])
    fit(store, "linear", task="single", run=tmp_path / "run")
    result = CliRunner().invoke(main, ["rerun", "run", "--run", "again", "--json"])
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout, parse_constant=pytest.fail)
    assert (content["equal"], content["thresholds"]) == (True, 0)


def test_imported_vectors_are_read_again_and_a_feature_that_is_gone_is_one_line(filled, tmp_path):
    store = filled(150)
    (table,) = store.tables()
    Path("x.csv").write_text(
        "\n".join(["id,a", *(f"{row_id},{k % 7}" for k, row_id in enumerate(table.ids))])
    )
    words = ["store", "import", "mine", "x.csv", "--store", str(store.path), "--table", "train"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    run, _ = fit(Store(store.path), "linear", features=["mine/imported"], run=tmp_path / "run")
    assert repeated(run)["equal"]
    shutil.rmtree(store.path / "features" / "mine")
    with pytest.raises(EncodeOnceError, match=r"^[^\n]*mine/imported[^\n]*$"):
        repeated(run, overwrite=True)


def test_a_class_that_is_gone_is_named(filled, tmp_path):
    store = filled(150)
    run, _ = fit(store, "linear", run=tmp_path / "run")
    replace_table(
        store, labels=lambda table: [tuple(n for n in names if n != "cat") for names in table.labels]
    )
    result = repeated(run)
    assert (result["classes_only_then"], result["classes_only_now"]) == (["cat"], [])
    assert (result["equal"], result["thresholds"]) == (False, None)
    assert "classes only in" in repeating.text(result)


def test_a_source_that_changed_or_is_gone_is_no_hindrance(filled, tmp_path):
    store, lines = filled(150), []
    run, _ = fit(store, "linear", run=tmp_path / "run")
    source = Path(run.record.table)
    source.write_text("something else")
    assert repeated(run, log=lines.append)["equal"]
    assert lines == [f"{source} changed since it was extracted: the rows in {store.path} are used"]
    source.unlink()
    assert repeated(run, log=lines.append, overwrite=True)["equal"]


def test_the_table_is_found_by_its_content_in_another_store(filled, tmp_path):
    run, _ = fit(filled(150), "linear", run=tmp_path / "run")
    shutil.rmtree(tmp_path / "store")
    filled(150, name="other", source="data2/train.csv")
    filled(150, name="other", source="data3/train.csv", seed=1)
    with pytest.raises(MissingDataError, match=r"store of .* is not there, .* --store"):
        repeated(run)
    result = repeated(run, store=tmp_path / "other")
    assert result["equal"]
    assert [change["what"] for change in result["changes"]] == ["table"]


def test_a_store_without_the_table_is_one_line(filled, tmp_path):
    store = filled(150)
    run, _ = fit(store, "linear", run=tmp_path / "run")
    for path in store.table_files():
        path.unlink()
    with pytest.raises(DataError, match=r"cannot be fitted again: .* knows no table with labels"):
        repeated(run)


def test_the_command_line_says_by_its_status_whether_runs_are_equal(filled, tmp_path):
    store = filled(150)
    run, _ = fit(store, "linear", run=tmp_path / "run")
    words = ["rerun", "run", "--run", "again", "--overwrite"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    rows = f"{len(run.eval.ids)} eval and {len(run.validation.ids)} validation rows"
    assert result.stdout == f"again is equal to run to the bit: {rows}\n"
    assert CliRunner().invoke(main, ["rerun", "run", "--run", "run", "--overwrite"]).exit_code == 1
    replace_table(store, labels=lambda table: [("dog",), *table.labels[1:]])
    result = CliRunner().invoke(main, [*words, "--json"])
    assert result.exit_code == 6
    content = json.loads(result.stdout)
    assert content["equal"] is False
    again = load_run("again")
    labelled = json.loads(Path("again/metrics.json").read_text())["micro_f1"]
    assert content["metrics"]["micro_f1"]["now"] == labelled
    predictions = again.decision.choose(again.decision.probabilities(again.eval.scores))
    assert labelled == pytest.approx(f1_score(again.eval.labels, predictions, average="micro"))
