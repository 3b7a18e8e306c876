"""The command line, as scripts call it."""

import csv
import json
import re
import shutil

import click
import numpy as np
import pytest

from encode_once.cache import Store
from encode_once.cache.format.header import read_stamp
from encode_once.cache.format.part import KIND
from encode_once.classify import load_run
from encode_once.cli import main
from tests.cache.rows import flip
from tests.conftest import EXTRACT, WORDS, picture, vectors_file

GLOVE = ("extract", "--encoder", "glove-50")


@pytest.fixture
def extracted(state_after, fit_once):
    """`input` with 60 rows, extracted into `store`."""
    return state_after(EXTRACT)


def test_the_whole_path_with_the_defaults(state_after, run, tmp_path, monkeypatch):
    monkeypatch.setattr("encode_once.classify.heads.torch.training.MIN_BATCHES", 5)
    state_after(EXTRACT)
    result = run("extract", "--encoder", "glove-50", "--json")
    report = json.loads(result.stdout)
    assert report["samples"] == 60
    assert report["features"]["glove-50/mean"] == {"encoded": 0, "present": 60, "failed": 0}
    assert report["seconds"] > 0

    metrics = json.loads(run("fit", "--head", "mlp", "--json").stdout)
    assert metrics["n"] == 6
    assert metrics["split"] == "stratified:0.1"
    assert set(json.loads((tmp_path / "runs/mlp/run.json").read_text())["features"]) == {
        "efficientnet-lite0/pooled",
        "glove-50/mean",
    }
    tuned = json.loads(run("tune", "runs/mlp", "--objective", "micro", "--json").stdout)
    assert tuned["objective"] == "micro"
    tuned = json.loads(run("tune", "runs/mlp", "--at-least", 1, "--at-most", 2, "--json").stdout)
    assert (
        tuned["decided"] == "thresholds maximise micro, 1 or more labels per row, 2 or fewer labels per row"
    )
    shutil.copy("runs/mlp/thresholds.json", "chosen.json")
    by_hand = json.loads(run("tune", "runs/mlp", "--from", "chosen.json", "--json").stdout)
    assert (
        by_hand["decided"] == "thresholds chosen by hand, 1 or more labels per row, 2 or fewer labels per row"
    )
    run("tune", "runs/mlp", "--objective", "micro")
    tuned = json.loads(run("tune", "runs/mlp", "--at-least", 0, "--at-most", 0, "--json").stdout)
    assert tuned["decided"] == "thresholds maximise micro"
    evaluated = json.loads(run("evaluate", "runs/mlp", "--json").stdout)
    low, high = evaluated.pop("intervals")["micro_f1"]
    assert evaluated == tuned
    assert low <= tuned["micro_f1"] <= high

    run("predict", "runs/mlp", "-o", "out.csv")
    with open("out.csv") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["ImageID", "Labels"]
    assert [row[0] for row in rows[1:]] == [f"{n}.png" for n in range(60)]
    classes = {row["label"] for row in tuned["per_class"]}
    assert {label for row in rows[1:] for label in row[1].split()} <= classes
    (tmp_path / "runs" / "sweep").mkdir()
    result = run("report", "runs/mlp", "runs/sweep")
    assert "runs/mlp" in result.stdout
    assert "runs/sweep is not a run: left out" in result.stderr
    run("report", "runs/sweep", status=1)


def test_predict_encodes_only_what_is_missing(extracted, run):
    run("fit", "--head", "linear")
    (extracted / "new").mkdir()
    shutil.move(extracted / "data", extracted / "new" / "data")
    picture(500).save(extracted / "new" / "data" / "new.png")
    (extracted / "new" / "test.csv").write_text("ImageID,Caption\n3.png,a dog\nnew.png,a cat\n")
    result = run("predict", "runs/linear", "--data", extracted / "new")
    assert "2 rows" in result.stderr
    with open("predictions.csv") as file:
        assert [row[0] for row in csv.reader(file)] == ["ImageID", "3.png", "new.png"]


def test_evaluate_on_another_folder(extracted, folder, run):
    run("fit", "--head", "linear")
    other = folder(70, name="other")
    result = run("evaluate", "runs/linear", "--data", other, "--json")
    metrics = json.loads(result.stdout)
    assert metrics["n"] >= 10
    assert any("rows are left out" in line for line in metrics["warnings"])
    assert all(f"warning: {line}" in result.stderr for line in metrics["warnings"])


def test_runs_are_compared_on_the_eval_rows_of_all(extracted, folder, run):
    for name, split in (("a", "tail:20"), ("b", "tail:20"), ("c", "tail:12")):
        features = ("--features", "efficientnet-lite0/pooled") if name == "b" else ()
        run("fit", "--head", "linear", "--split", split, *features, "--run", f"runs/{name}")
    result = run("evaluate", "runs/a", "runs/b", "--differences", "out.csv")
    assert "minus runs/a" in result.stdout
    with open("out.csv") as file:
        header, *rows = csv.reader(file)
    assert header == ["ImageID", "Labels", "runs/a", "runs/b", "Closest"]
    comparison = json.loads(run("evaluate", "runs/a", "runs/b", "--json").stdout)
    assert len(rows) == comparison["differences"][0]["rows_differing"] > 0
    for compared in comparison["runs"]:
        alone = json.loads(run("evaluate", compared["run"], "--json").stdout)
        assert {name: compared[name] for name in alone} == alone

    refused = run("evaluate", "runs/a", "runs/c", status=1)
    assert "--anyway" in refused.stderr
    comparison = json.loads(run("evaluate", "runs/a", "runs/c", "--anyway", "--json").stdout)
    assert (comparison["n"], len(comparison["caveats"])) == (12, 1)

    other = folder(70, name="other")  # all of input, and 10 more: rows that a or c was fitted on are left out
    comparison = json.loads(run("evaluate", "runs/a", "runs/c", "--data", other, "--json").stdout)
    alone = json.loads(run("evaluate", "runs/c", "--data", other, "--json").stdout)
    assert comparison["n"] == alone["n"] >= 22
    assert {name: comparison["runs"][1][name] for name in alone} == alone


def test_bad_images_are_named_and_the_status_is_1(folder, run):
    root = folder(4)
    (root / "data" / "2.png").write_bytes(b"")
    result = run("extract", "--encoder", "efficientnet-lite0", "--json", status=1)
    assert json.loads(result.stdout)["features"]["efficientnet-lite0/pooled"]["failed"] == 1
    assert "2.png: empty" in result.stderr
    assert "encoded 3, already there 0, failed 1" in result.stderr


def test_random_weights_are_reported(folder, run):
    folder(4)
    result = run("extract", "--encoder", "open_clip:ViT-S-32-alt", "--weights", "random", "--json")
    assert "RANDOM" in result.stderr
    assert any("RANDOM" in warning for warning in json.loads(result.stdout)["warnings"])
    result = run("fit", "--head", "linear", "--split", "tail:1", status=1)  # four rows are too few to tune on
    assert result.stderr.count("\n") <= 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["extract"], "encoders lists them"),
        (["extract", "--encoder", "clip-vit-ll"], "did you mean 'clip-vit-l'?"),
        (["extrac"], "extract"),
        (["extract", "--encodr", "x"], "--encoder"),
        (["extract", "--encoder", "a", "--encoder", "b", "--weights", "x.pt"], "ENCODER=x.pt"),
        (["fit", "--head", "mpl"], "mlp"),
        (["fit", "--tune", "makro"], "macro"),
        (["fit", "--set", "dropout"], "NAME=VALUE"),
        (["fit", "--budget", "0"], "--budget"),
        (["fit", "--head", "linear", "--budget", "3"], "unknown option of head 'linear' 'budget'"),
        (["tune", "runs/x", "--decide", "f1"], "thresholds, expected-f1"),
        (["evaluate", "runs/x", "--anyway"], "two runs or more"),
        (["experiment", "run", "absent.toml"], "'absent.toml' does not exist"),
        (["recipe", "run", "./absent.toml"], "no such file: ./absent.toml"),
    ],
)
def test_wrong_usage_has_status_2_and_a_hint(folder, run, words, message):
    folder(3)
    result = run(*words, status=2)
    assert message in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["extract", "--encoder", "glove-50", "--data", "nowhere"], "nowhere"),
        (["extract", "--encoder", "glove-100"], "--weights glove.6B.100d.txt"),
        (["fit"], "run extract"),
        (["evaluate", "runs/none"], "is not a run"),
        (["predict", "runs/none"], "is not a run"),
    ],
)
def test_a_failure_is_one_line_with_status_1(folder, run, words, message):
    folder(3)
    result = run(*words, status=1)
    assert message in result.stderr
    assert result.stderr.strip().startswith("Error: ")
    assert result.stderr.strip().count("\n") == 0


def test_the_encoders_are_listed(run):
    names = [line.split()[0] for line in run("extract", "--list").stdout.splitlines()]
    assert {"clip-vit-l", "efficientnet-lite0", "frcnn", "glove-50"} <= set(names)


def test_no_summary_of_a_command_is_cut_on_a_narrow_terminal(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")

    def check(group, *words):
        text = " ".join(run(*words, "--help").stdout.split())
        for name, command in group.commands.items():
            if command.hidden:
                continue
            first = " ".join(command.help.partition("\n\n")[0].split()).partition(". ")[0]
            assert f" {name} {first.rstrip('.')}" in text, (words, name)
            if isinstance(command, click.Group):
                check(command, *words, name)

    check(main)


def test_every_command_explains_itself(run):
    for name in (
        "extract",
        "fit",
        "tune",
        "evaluate",
        "predict",
        "export",
        "report",
        "demo",
        "bench",
        "store",
    ):
        assert run(name, "--help").stdout.startswith("Usage")


def test_shards_filled_apart_and_merged_are_the_whole(folder, run):
    folder(12)
    for number in (1, 2, 3):
        run(*GLOVE, "--shard", f"{number}/3", "--store", f"node-{number}")
    run(*GLOVE, "--store", "at-once")
    result = run("store", "merge", "node-2", "node-3", "--store", "node-1")
    assert "rows added from node-3" in result.stderr
    run("store", "verify", "--store", "node-1")
    run("store", "compact", "--store", "node-1")
    for name in ("node-1", "at-once"):
        run("store", "export", "glove-50/mean", "--to", "npy", "-o", f"{name}.npy", "--store", name)
    merged, whole = np.load("node-1.npy"), np.load("at-once.npy")
    np.testing.assert_array_equal(merged, whole)
    assert json.loads(run(*GLOVE, "--store", "node-1", "--json").stdout)["features"]["glove-50/mean"] == {
        "encoded": 0,
        "present": 12,
        "failed": 0,
    }


def test_a_store_is_listed_and_described(folder, run):
    folder(3)
    run(*GLOVE)
    listed = run("store", "list").stdout
    assert "glove-50/mean" in listed
    assert "train.csv" in listed
    content = json.loads(run("store", "list", "--json").stdout)
    assert [feature["rows"] for feature in content["features"]] == [3, 3]
    assert json.loads(run("store", "info", "glove-50/tokens", "--json").stdout)["spec"]["pooling"] == "none"
    assert "pooling: mean" in run("store", "info", "glove-50/mean").stdout


def test_verify_reports_damage_repair_sets_it_aside_and_extract_encodes_again(folder, run, tmp_path):
    folder(3)
    run(*GLOVE)
    assert "encoded again differ by" in run("store", "verify", "--recompute", "2").stderr
    (part,) = tmp_path.glob("store/features/glove-50/mean/*.h5")
    flip(part, read_stamp(part, KIND)["places"]["values"])
    result = run("store", "verify", status=1)
    assert "1 of 3 rows damaged" in result.stdout
    result = run("store", "export", "glove-50/mean", "--to", "npy", status=1)
    assert "store verify --repair" in result.stderr
    assert "2 sound rows kept" in run("store", "verify", "--repair").stderr
    result = run(*GLOVE, "--json")
    assert json.loads(result.stdout)["features"]["glove-50/mean"]["encoded"] == 1


def test_gc_drops_the_rows_of_a_forgotten_table(folder, run, tmp_path):
    folder(4)
    run(*GLOVE)
    assert "0 rows are in no table" in run("store", "gc").stderr
    (table,) = tmp_path.glob("store/tables/*.h5")
    table.unlink()
    assert "4 rows are in no table" in run("store", "gc").stderr
    assert "4 rows dropped" in run("store", "gc", "--delete").stderr


def test_a_second_extract_on_one_store_is_refused_in_one_line(folder, run):
    folder(3)
    run(*GLOVE)
    folder(4, name="more")
    with Store("store").feature("glove-50/mean").writer(1):
        result = run(*GLOVE, "--data", "more", status=1)
    assert "another process is writing glove-50/mean" in result.stderr
    assert "--shard" in result.stderr


def test_too_many_failures_stop_early_and_all_failed_is_an_error(folder, run):
    root = folder(6)
    for row in (1, 2, 3):
        (root / "data" / f"{row}.png").write_bytes(b"bad %d" % row)
    lite = ("extract", "--encoder", "efficientnet-lite0", "--batch-size", "1")
    assert "2 inputs failed, more than --max-failures" in run(*lite, "--max-failures", "1", status=1).stderr
    report = json.loads(run(*lite, "--max-failures", "3", "--retry-failed", "--json").stdout)
    assert report["features"]["efficientnet-lite0/pooled"] == {"encoded": 2, "present": 1, "failed": 3}
    for row in range(6):
        (root / "data" / f"{row}.png").write_bytes(b"no picture %d" % row)
    result = run(*lite, status=1)
    assert "all 6 inputs failed, such as" in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("Error: ")


@pytest.mark.parametrize("shard", ["0/0", "3/2", "x", "1/", "-1/2", "1.5/2"])
def test_an_impossible_shard_is_wrong_usage(folder, run, shard):
    folder(3)
    assert "--shard" in run(*GLOVE, "--shard", shard, status=2).stderr


@pytest.mark.parametrize("verb", ["list", "info glove-50/mean", "verify", "compact", "gc", "merge other"])
def test_a_missing_store_is_reported(run, verb):
    assert "is not a store" in run("store", *verb.split(), status=1).stderr


@pytest.fixture
def recipe(tmp_path):
    """A recipe file: a variant with a replacement for a missing feature, and a variant that cannot run."""
    path = tmp_path / "own.toml"
    path.write_text("""
source = "report 1"
about = "An example"
head = "linear"
split = "tail:20"
objective = "at:0.4"
rows = 60
reported = { micro_f1 = 0.5 }

[variants.both]
features = ["no-such-encoder/pooled", "glove-50/mean"]
instead = { "no-such-encoder/pooled" = ["efficientnet-lite0/pooled"] }

[variants.none]
features = ["glove-100/mean"]
contaminated = true
""")
    return path


def test_recipe_run_encodes_what_is_missing_and_adds_rows(folder, recipe, run, tmp_path, fit_once):
    folder(60)
    result = run("recipe", "run", recipe, "--json")
    both, none = json.loads(result.stdout)
    assert both["recipe"] == "own-both"
    assert both["features"] == ["efficientnet-lite0/pooled", "glove-50/mean"]
    assert both["differs"] == ["efficientnet-lite0/pooled for no-such-encoder/pooled"]
    assert both["metrics"]["n"] == 20
    assert both["metrics"]["decided"] == "0.4 is the threshold of every class"
    assert (both["reported"], both["contaminated"]) == ({"micro_f1": 0.5}, False)
    assert both["seconds"] > 0
    assert (none["metrics"], none["contaminated"]) == (None, True)
    assert none["lacks"] == "glove-100: needs --weights glove.6B.100d.txt"
    assert json.loads((tmp_path / "runs/recipes/own-both/metrics.json").read_text()) == both["metrics"]

    lines = run("recipe", "run", recipe, "--md", "--split", "tail:10").stdout.splitlines()
    assert lines[0].startswith("| recipe | reported |")
    assert "split tail:10, not tail:20" in lines[2]
    assert "cannot run: glove-100: needs" in lines[3]


def test_recipe_run_takes_weights(extracted, recipe, run, tmp_path):
    vectors_file(tmp_path / "glove.txt")
    rows = json.loads(run("recipe", "run", recipe, "--weights", "glove-100=glove.txt", "--json").stdout)
    assert [row["lacks"] for row in rows] == [None, None]
    result = run("recipe", "run", recipe, "--weights", "glove-101=glove.txt", status=2)
    assert "glove-101" in result.stderr


def test_every_recipe_that_cannot_run_is_reported_in_one_error(extracted, recipe, run):
    result = run("recipe", "run", "vgg-bilstm", "cnn-linear-vgg16", "glove-bilstm-64", status=1)
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert errors[0].startswith("Error: recipe vgg-bilstm cannot run: vgg16: ")
    reported = [line for line in result.stderr.splitlines() if "cannot run: " in line]
    assert [line.partition(" cannot run")[0].rpartition(" ")[2] for line in reported] == [
        "vgg-bilstm", "cnn-linear-vgg16", "glove-bilstm-64"
    ]  # fmt: skip
    assert result.stdout.count("cannot run") == 3


def test_recipe_names_that_do_not_exist(run):
    for verb in ("run", "show"):
        assert "did you mean 'tfidf-linear'" in run("recipe", verb, "tfidf-linar", status=2).stderr


def test_recipe_list_and_show(extracted, run):
    listed = {row["recipe"]: row for row in json.loads(run("recipe", "list", "--json").stdout)}
    assert listed["tfidf-linear-500"]["runs"]
    assert listed["cnn-linear-resnet50"]["instead"] == {"resnet50/logits": "efficientnet-lite0/pooled"}
    assert listed["glove-bilstm-64"]["lacks"] == "glove-100: needs --weights glove.6B.100d.txt"
    assert listed["yolo-labels"]["contaminated"]
    assert "lacks glove-100: needs --weights" in run("recipe", "list").stdout
    assert "[variants.64]" in run("recipe", "show", "glove-bilstm-64").stdout
    (shown,) = json.loads(run("recipe", "show", "glove-bilstm-64", "--json").stdout)
    assert shown["options"]["hidden"] == 64


def test_recipe_list_before_anything_is_extracted(run):
    rows = json.loads(run("recipe", "list", "--json").stdout)
    assert {row["recipe"]: row["runs"] for row in rows}["tfidf-linear-100"]


def test_recipes_run_on_a_store_without_its_data(extracted, recipe, run, tmp_path):
    extracted.rename(tmp_path / "elsewhere")
    both, none = json.loads(run("recipe", "run", recipe, "--json").stdout)
    assert both["metrics"]["n"] == 20
    assert none["lacks"] == "glove-100/mean: not in store"
    assert "not in store" in run("recipe", "run", recipe, "--store", "store").stdout


@pytest.mark.slow
def test_bench_fit_draws_rows_and_passes_each_head_its_options(run):
    words = ("bench", "fit", "--rows", 300, "--dim", 8, "--split", "tail:60", "--head", "knn", "--plain")
    result = run(*words, "--set", "knn.ks=[7]", "--json")
    peers = ["scikit-learn logistic regression", "scikit-learn KNeighborsClassifier"]
    assert [row["model"] for row in json.loads(result.stdout)] == [*peers, "knn"]
    assert [line.split(":")[0] for line in result.stderr.splitlines() if line.endswith(" s")] == [
        *peers,
        "knn",
    ]
    assert "did you mean 'knn'" in run(*words, "--set", "kn.ks=[7]", status=2).stderr
    assert "did you mean 'ks'" in run(*words, "--set", "knn.k=7", status=2).stderr


def test_audit_writes_its_findings_as_a_table_and_prints_their_counts(extracted, run):
    shutil.copy(extracted / "data" / "3.png", extracted / "data" / "4.png")
    rows = (extracted / "train.csv").read_text().splitlines()
    labels = ["ImageID,Labels,Caption", "3.png,1,a dog", "4.png,2,a dog"]
    others = [line for line in rows[1:] if not line.startswith(("3.png", "4.png"))]
    (extracted / "train.csv").write_text("\n".join([*labels, *others]) + "\n")
    run("extract", "--encoder", "efficientnet-lite0")
    image = ("--features", "efficientnet-lite0/pooled")
    run("fit", "--head", "knn", "--split", "kfold:3", "--groups", "efficientnet-lite0/pooled:0.99", *image)
    result = run("audit", "runs/knn", "--near", 0.999, "--json")
    findings = json.loads(result.stdout)
    with open("audit.csv", newline="") as file:
        written = list(csv.DictReader(file))
    assert [row["why"] for row in written] == [finding["why"] for finding in findings]
    (double,) = (finding for finding in findings if finding["kind"] == "duplicate")
    assert (double["id"], double["other"]) in (("3.png", "4.png"), ("4.png", "3.png"))
    assert double["image"].endswith(double["id"])
    assert "audit.csv: 1 duplicate" in result.stderr


def test_an_unknown_name_of_groups_is_refused(extracted, run, tmp_path):
    run("fit", "--head", "linear", "--groups", "none", "--run", "runs/none")
    assert json.loads((tmp_path / "runs/none/run.json").read_text())["groups"] == "none"
    assert "did you mean 'content'" in run("fit", "--head", "linear", "--groups", "contnt", status=2).stderr
    assert "did you mean 'content'" in run("sweep", "--head", "linear", "--groups", "contnt", status=2).stderr


def test_bench_split_measures_tables_of_a_store_too(extracted, run):
    rows = json.loads(
        run("bench", "split", "--rows", 300, "--classes", 4, "--store", "store", "--json").stdout
    )
    assert [row["split"] for row in rows] == ["stratified:0.1", "kfold:5"] * 2
    assert rows[2]["labels"].startswith(str(extracted / "train.csv"))


def test_bench_tune_prints_a_table_per_size(run):
    words = ("bench", "tune", "--size", 60, 2, "--size", 50, 3, "--repeats", 1, "--json")
    first, second = json.loads(run(*words).stdout)
    assert {(row["rows"], row["classes"]) for row in first} == {(60, 2)}
    assert {(row["rows"], row["classes"]) for row in second} == {(50, 3)}


def test_bench_thresholds_compares_every_rule_on_saved_scores(folder, run):
    folder(40)
    run(*GLOVE)
    run("fit", "--head", "linear", "--split", "kfold:2", "--run", "runs/one")
    words = ("bench", "thresholds", "runs/one", "--repeats", 2, "--rows", 10)
    rows = json.loads(run(*words, "--json").stdout)
    rules = list(dict.fromkeys(row["rule"] for row in rows))
    assert [(row["tuned on"], row["rule"]) for row in rows] == [(n, rule) for n in (20, 10) for rule in rules]
    assert f"| {rules[0]} | {rows[0]['micro']['mean']:.4f} (" in run(*words, "--md").stdout


def test_predict_says_how_frequent_it_estimates_classes_to_be(extracted, run):
    run("fit", "--head", "linear", "--features", "efficientnet-lite0/pooled")
    result = run("predict", "runs/linear", "--prevalence", "em", "--json")
    assert "prevalence: " in result.stderr
    shifts = json.loads(result.stdout)["prevalence"]
    assert {*shifts} == {*load_run("runs/linear").record.classes}
    words = ("predict", "runs/linear", "input/data/3.png", "--prevalence", "em")
    assert "1 rows do not say how frequent classes are" in run(*words, status=1).stderr
    run("tune", "runs/linear", "--objective", "macro")
    assert "tune runs/linear --decide expected-mean" in run(*words, status=2).stderr


def test_labels_of_images_are_those_of_the_same_rows_in_a_table(extracted, run):
    run("fit", "--head", "linear", "--features", "efficientnet-lite0/pooled")
    run("predict", "runs/linear", "--scores", "scores.jsonl")
    with open("scores.jsonl") as file:
        by_id = {row.pop("ImageID"): row for row in map(json.loads, file)}
    with open("predictions.csv") as file:
        labels = {row["ImageID"]: row["Labels"].split() for row in csv.DictReader(file)}
    names = [f"input/data/{n}.png" for n in (3, 7)]
    shown = json.loads(run("predict", "runs/linear", *names, "--json").stdout)["predictions"]
    assert [row["id"] for row in shown] == names
    for row in shown:
        expected = labels[row["id"].rpartition("/")[2]]
        assert sorted(row["labels"]) == sorted(expected)
        scores = by_id[row["id"].rpartition("/")[2]]
        assert row["scores"] == pytest.approx({name: scores[name] for name in expected})
    top = run("predict", "runs/linear", "input/data", "--top", 2).stdout.splitlines()
    assert len(top) == 60
    assert all(line.count(",") == 1 for line in top)
    run("predict", "runs/linear", "input/data/*.png", "-o", "of-images.csv")
    with open("of-images.csv") as file:
        assert {
            row["Image"].rpartition("/")[2]: row["Labels"].split() for row in csv.DictReader(file)
        } == labels
    assert "--top is for images" in run("predict", "runs/linear", "--top", 2, status=2).stderr


def test_a_caption_alone_is_labelled_and_a_feature_that_it_lacks_is_replaced(extracted, run):
    run("fit", "--head", "linear")
    result = run("predict", "runs/linear", "--caption", "a dog and a cat", "--json")
    (row,) = json.loads(result.stdout)["predictions"]
    assert row["id"] == "caption"
    assert {"dog", "cat"} & {*row["labels"]}
    assert "efficientnet-lite0" in result.stderr


def test_the_model_card_has_licences_and_findings_and_is_of_the_current_rule(extracted, run, tmp_path):
    run("fit", "--head", "linear", "--run", "runs/a", "--ignore", "EO013")
    card = tmp_path / "runs/a/README.md"
    text = card.read_text()
    for words in ("Apache-2.0", "PDDL", "trained on Wikipedia 2014", "- EO002: ", "EO013 was not checked"):
        assert words in text
    assert str(tmp_path) not in text
    run("tune", "runs/a", "--objective", "micro")
    assert "thresholds maximise micro" in card.read_text()
    assert "- EO013: " in card.read_text()
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    exec(code.replace('"RUN"', '"runs/a"').replace("photo.jpg", "input/data/0.png"), names := {})
    assert set(names["predictions"][0].scores) == set(WORDS)
