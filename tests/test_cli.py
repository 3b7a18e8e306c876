"""The command line as other people's scripts rely on it."""

import csv
import json
import shutil

import pytest
from click.testing import CliRunner

from cli import main
from tests.conftest import picture


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A function that runs a command in an empty working directory."""
    monkeypatch.chdir(tmp_path)

    def command(*words, status=0):
        result = CliRunner().invoke(main, [str(word) for word in words])
        assert result.exit_code == status, result.output
        return result

    return command


@pytest.fixture
def extracted(folder, run):
    """`input` with 60 rows, extracted into `store`."""
    root = folder(60)
    run("extract", "--encoder", "efficientnet-lite0", "--encoder", "glove-50", "--json")
    return root


def test_the_whole_path_with_the_defaults(extracted, run, tmp_path):
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
    assert json.loads(run("evaluate", "runs/mlp", "--json").stdout) == tuned

    run("predict", "runs/mlp", "-o", "out.csv")
    with open("out.csv") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["ImageID", "Labels"]
    assert [row[0] for row in rows[1:]] == [f"{n}.png" for n in range(60)]
    known = {row["label"] for row in tuned["per_class"]}
    assert {label for row in rows[1:] for label in row[1].split()} <= known
    assert "runs/mlp" in run("report", "runs/mlp").stdout


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
    metrics = json.loads(run("evaluate", "runs/linear", "--data", other, "--json").stdout)
    assert metrics["n"] >= 10


def test_bad_images_are_named_and_the_status_tells(folder, run):
    root = folder(4)
    (root / "data" / "2.png").write_bytes(b"")
    result = run("extract", "--encoder", "efficientnet-lite0", "--json", status=1)
    assert json.loads(result.stdout)["features"]["efficientnet-lite0/pooled"]["failed"] == 1
    assert "2.png: empty" in result.stderr
    assert "encoded 3, already there 0, failed 1" in result.stderr


def test_random_weights_are_said(folder, run):
    folder(4)
    result = run("extract", "--encoder", "open_clip:ViT-S-32-alt", "--weights", "random", "--json")
    assert "RANDOM" in result.stderr
    assert any("RANDOM" in warning for warning in json.loads(result.stdout)["warnings"])
    result = run("fit", "--head", "linear", "--split", "tail:1", status=1)  # four rows are too few to tune on
    assert result.stderr.count("\n") <= 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["extract"], "--list shows them"),
        (["extract", "--encoder", "clip-vit-ll"], "did you mean 'clip-vit-l'?"),
        (["extrac"], "extract"),
        (["extract", "--encodr", "x"], "--encoder"),
        (["extract", "--encoder", "a", "--encoder", "b", "--weights", "x.pt"], "ENCODER=x.pt"),
        (["fit", "--head", "mpl"], "mlp"),
        (["fit", "--tune", "makro"], "macro"),
        (["fit", "--set", "dropout"], "NAME=VALUE"),
        (["tune", "runs/x"], "--objective"),
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
        (["fit"], "run extract first"),
        (["evaluate", "runs/none"], "is no run"),
        (["predict", "runs/none"], "is no run"),
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


def test_every_command_explains_itself(run):
    for name in ("extract", "fit", "tune", "evaluate", "predict", "report", "demo", "bench"):
        assert run(name, "--help").stdout.startswith("Usage")
