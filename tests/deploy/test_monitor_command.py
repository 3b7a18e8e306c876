"""`monitor` on the command line: its exit status, its line about an alarm, and what it refuses."""

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("fit_once")


def shifted(name):
    """Replace the captions of a folder by others, in which the words of all classes occur alike."""
    table = Path(name, "train.csv")
    lines = table.read_text().splitlines()
    texts = [
        f'{line.split(",")[0]},dog,"the price of wheat rose to {row} dollars"'
        for row, line in enumerate(lines)
    ]
    table.write_text("\n".join(["ImageID,Labels,Caption", *texts[1:]]) + "\n")


def test_an_alarm_is_exit_status_3_and_its_line_is_the_last(folder, run):
    folder(120)
    run("extract", "--encoder", "glove-50")
    run("fit", "--head", "linear", "--split", "random:0.5", "--features", "glove-50/mean")
    folder(60, name="new")
    shifted("new")
    result = run("monitor", "runs/linear", "--data", "new", "--json", "-o", "monitor.html", status=3)
    content = json.loads(result.stdout)
    assert {alarm["test"] for alarm in content["alarms"]} >= {"features", "class scores"}
    assert result.stderr.splitlines()[-1].startswith("alarm: class scores bird")
    assert "glove-50/mean" in Path("monitor.html").read_text()
    lines = run(
        "--log-format", "json", "monitor", "runs/linear", "--data", "new", status=3
    ).stderr.splitlines()
    assert json.loads(lines[-1])["level"] == "alarm"
    run("predict", "runs/linear", "--data", "new", "--scores", "scores.csv")
    of_scores = json.loads(run("monitor", "runs/linear", "--scores", "scores.csv", "--json", status=3).stdout)
    assert [alarm["test"] for alarm in of_scores["alarms"]] == ["class scores"]
    (row, *_), (whole, *_) = of_scores["per_class"], content["per_class"]
    assert row["p"] == pytest.approx(whole["p"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name the new rows by --data or by --scores"),
        (["--data", "new", "--scores", "scores.csv"], "name the new rows by --data or by --scores"),
        (["--scores", "scores.txt"], "must end in"),
        (["--data", "new", "--alpha", "0"], "--alpha"),
    ],
)
def test_what_has_no_meaning_is_refused(folder, run, words, message):
    folder(30)
    run("fit", "--head", "linear", "--features", "tfidf:20")
    assert message in run("monitor", "runs/linear", *words, status=2).stderr
