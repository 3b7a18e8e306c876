"""Monitoring of a run on photographs of MS-COCO: what alarms, and what does not."""

import csv
import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageEnhance

from encode_once.cache import Store
from encode_once.classify import load_run
from encode_once.classify.monitoring.monitor import monitor, rows_of_table
from encode_once.cli import main
from tests.classify.monitoring.test_monitor import chosen

pytestmark = pytest.mark.real
SEEN, NEW = 800, 500  # rows
RESAMPLES, ROWS = 20, 150


def command(*words, status=0):
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == status, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def rows(shared):
    with (shared / "coco19-9k" / "train.csv").open(newline="") as file:
        return [*csv.DictReader(file)][: SEEN + NEW]


@pytest.fixture(scope="module")
def place(tmp_path_factory, shared, rows):
    """Folders of data: `old`, which a run is fitted on, `new`, and shifted copies of some new rows."""
    root = tmp_path_factory.mktemp("photographs")

    def write(name, chosen_rows, image=shutil.copy, caption=None):
        (root / name / "data").mkdir(parents=True)
        with (root / name / "train.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, [*rows[0]])
            writer.writeheader()
            for row in chosen_rows:
                source = shared / "coco19-9k" / "data" / row["ImageID"]
                image(source, root / name / "data" / row["ImageID"])
                writer.writerow(row | ({"Caption": caption(row)} if caption else {}))

    def darken(source, target):
        ImageEnhance.Brightness(Image.open(source)).enhance(0.5).save(target)

    new = rows[SEEN:]
    write("old", rows[:SEEN])
    write("new", new)
    write("dark", new[:ROWS], image=darken)
    write("other-captions", new[:ROWS], caption=lambda row: f"quarterly report {row['ImageID']} of the bank")
    write("no-persons", [row for row in new if "1" not in row["Labels"].split()][:ROWS])
    encoders = ("--encoder", "efficientnet-lite0", "--encoder", "glove-50", "--json")
    command("extract", "--data", root / "old", "--store", root / "store", *encoders)
    features = ("--features", "efficientnet-lite0/pooled", "--features", "glove-50/mean", "--json")
    options = ("--split", "random:0.5", "--store", root / "store", "--run", root / "run")
    command("fit", "--head", "linear", *options, *features)
    command("extract", "--data", root / "new", "--store", root / "new-store", *encoders)
    return root


@pytest.mark.parametrize(
    ("name", "alarm"),
    [
        ("dark", ("features", "efficientnet-lite0/pooled")),
        ("other-captions", ("features", "glove-50/mean")),
        ("no-persons", ("class scores", "1")),
    ],
)
def test_shifted_rows_alarm(place, name, alarm):
    result = command("monitor", place / "run", "--data", place / name, "--json", status=3)
    test, subject = alarm
    assert subject in {entry["test"]: entry["subjects"] for entry in result["alarms"]}[test]
    print(name, result["alarms"])


def test_resamples_of_the_same_photographs_do_not_alarm(place):
    run, store, rng = load_run(place / "run"), Store(place / "new-store"), np.random.default_rng(0)
    table, alarms = store.table(), []
    for _ in range(RESAMPLES):
        ids = {*rng.choice(table.ids, ROWS, replace=False).tolist()}
        alarms += monitor(run, rows_of_table(run, store, chosen(table, ids)))["alarms"]
    print(len(alarms), "alarms of", RESAMPLES)
    assert len(alarms) <= 1
