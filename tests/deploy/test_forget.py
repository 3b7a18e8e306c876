"""Forgotten rows are in no byte of the store and the runs, and everything else is as it was."""

import csv
import hashlib
import json
import os
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from encode_once.cache import Store
from encode_once.classify import load_run
from encode_once.cli import main
from encode_once.deploy.forget import refit_words
from tests.conftest import files_of, picture, write_data
from tests.invariants.test_files_agree import check

pytestmark = pytest.mark.usefixtures("fit_once")
IMAGES, CAPTIONS = "efficientnet-lite0/pooled", "glove-50/mean"


def key_of(content):
    return hashlib.blake2b(content, digest_size=16).digest()


def caption_of(row_id, root="input"):
    with open(f"{root}/train.csv", newline="") as file:
        return next(row["Caption"] for row in csv.DictReader(file) if row["ImageID"] == row_id)


def traces(row_id, root="input", folders=("store", "runs")):
    """The files that hold the id or, binary or in hexadecimal, the key of the image or caption."""
    keys = [key_of(Path(root, "data", row_id).read_bytes()), key_of(caption_of(row_id, root).encode())]
    forms = [form for key in keys for form in (key, key.hex().encode())]
    return {
        str(path)
        for folder in folders
        for path, content in files_of(folder).items()
        if any(form in content for form in forms) or b"/" + row_id.encode() in content
    }


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with two runs on 60 rows, one of which has predicted other rows."""
    place = tmp_path_factory.mktemp("forget") / "place"
    write_data(place / "input", 60)
    (place / "input/data/23.png").write_bytes(b"broken")
    write_data(place / "new", 4)
    shutil.copy(place / "input/data/7.png", place / "new/data/0.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr("encode_once.classify.runs.head_fitter.FOLDS_UP_TO", 0)  # as `fit_once`
        for words, status in (
            ("extract --encoder efficientnet-lite0 --encoder glove-50", 1),
            ("fit --head linear --split random:0.3", 0),
            ("fit --head knn --split kfold:3 --set ks=[3]", 0),
            ("predict runs/linear --data new -o out.csv", 0),
        ):
            result = CliRunner().invoke(main, words.split())
            assert result.exit_code == status, result.output
    return place


@pytest.fixture
def fitted(prepared, tmp_path, run):
    """A function that runs a command in a copy of that folder."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    return run


def ids_of(name):
    loaded = load_run(f"runs/{name}")
    return {"eval": loaded.eval.ids, "validation": loaded.validation.ids}


def test_no_byte_of_a_forgotten_row_is_left_and_all_else_is_as_it_was(fitted):
    evaluated = ids_of("linear")["eval"]
    names = ["7.png", "23.png", next(name for name in evaluated if name not in ("7.png", "23.png"))]
    assert all(traces(name) for name in names)
    store = Store("store")
    table = store.table()
    others = [row for row, name in enumerate(table.ids) if name not in names]
    before = {
        name: store.feature(name).read(table.keys(store.feature(name).modality)[others])
        for name in (IMAGES, CAPTIONS)
    }
    weights = {path: path.read_bytes() for path in Path("runs").rglob("weights.safetensors")}
    old = {name: load_run(f"runs/{name}") for name in ("linear", "knn")}

    result = json.loads(fitted("forget", *names, "--json").stdout)

    assert [*map(traces, names)] == [set(), set(), set()]
    assert result["left"] == {}
    assert {*result["tables"].values()} == {3}
    assert result["features"][IMAGES] >= 2  # of 23.png there is none
    assert result["failures"] > 0
    store = Store("store")
    assert store.table().ids == [table.ids[row] for row in others]
    assert store.table().labels == [table.labels[row] for row in others]
    for name, values in before.items():
        assert (store.feature(name).read(store.table().keys(store.feature(name).modality)) == values).all()
    assert {path: path.read_bytes() for path in weights} == weights
    for name, run in old.items():
        loaded = load_run(f"runs/{name}")
        kept = [row for row, row_id in enumerate(run.eval.ids) if row_id not in names]
        assert loaded.eval.ids == [run.eval.ids[row] for row in kept]
        assert (loaded.eval.scores == run.eval.scores[kept]).all()
        assert Path("runs", name, "README.md").exists()
        check(Path("runs", name))  # the card, too
    fitted("store", "verify", *(word for name in names for word in ("--absent", name)))
    fitted("report", "runs/linear", "runs/knn")
    fitted("evaluate", "runs/linear", "--data", "new")


def test_models_that_were_fitted_on_it_are_named_with_a_command_that_fits_them_again(fitted):
    evaluated = ids_of("linear")["eval"]
    name = next(name for name in ("1.png", "2.png", "3.png", "4.png") if name not in evaluated)
    result = fitted("forget", name)
    lines = [line for line in result.stderr.splitlines() if "was fitted on it" in line]
    assert sorted(line.split()[4] for line in lines) == ["runs/knn", "runs/linear"]
    again = json.loads(fitted("forget", name, "--json", status=1).stdout or "null")
    assert again is None  # nothing has it any more
    for line in lines:
        command = shlex.split(line.partition(": encode-once ")[2])
        assert "forgotten since" in " ".join(load_run(command[command.index("--run") + 1]).record.warnings)
        fitted(*command)
    for run in ("linear", "knn"):
        assert load_run(f"runs/{run}").record.warnings == [
            line for line in load_run(f"runs/{run}").record.warnings if "forgotten" not in line
        ]


def test_a_run_is_fitted_again_as_it_was(fitted):
    words = (
        "--head linear --features glove-50/mean --split tail:20 --objective micro --no-shrink --at-least 1"
    )
    fitted("fit", *words.split(), "--seed", "3", "--set", "Cs=[0.1]", "--run", "runs/x")
    before = load_run("runs/x")
    fitted(*refit_words(before, name_data=True))
    after = load_run("runs/x")
    assert after.spec == before.spec
    assert after.decision.spec == before.decision.spec
    assert np.array_equal(after.eval.scores, before.eval.scores)


def test_rows_with_the_same_image_are_refused_forgotten_or_keep_it(folder, run):
    root = folder(30)
    shutil.copy(root / "data" / "3.png", root / "data" / "4.png")
    run("extract", "--encoder", "efficientnet-lite0")
    before = files_of("store")
    assert "1 other rows have the same images, such as 4.png" in run("forget", "3.png", status=1).stderr
    assert files_of("store") == before
    shutil.copytree("store", "copy")
    run("forget", "3.png", "--equal-images", "keep", "--store", "copy")
    assert Store("copy").table().ids == [f"{row}.png" for row in range(30) if row != 3]
    key = key_of((root / "data" / "4.png").read_bytes())
    assert Store("copy").feature(IMAGES).has(np.frombuffer(key, np.uint8)[None]).all()
    result = run("forget", "3.png", "--equal-images", "forget")
    assert "the same images were forgotten, too: 4.png" in result.stderr
    assert not {"3.png", "4.png"} & {*Store("store").table().ids}
    assert traces("3.png", folders=["store"]) == set()


def test_captions_that_other_rows_have_stay(folder, run):
    root = folder(12)
    text = (root / "train.csv").read_text().replace('"a cat and a dog, 1"', '"a dog and a dog, 0"')
    assert '"a dog and a dog, 0"' in text
    (root / "train.csv").write_text(text.replace("a cat and a dog, 1", "a dog and a dog, 0"))
    run("extract", "--encoder", "glove-50")
    caption = caption_of("0.png")
    result = run("forget", "0.png")
    assert "1 captions or images are also those of other rows, and stay" in result.stderr
    table = Store("store").table()
    assert caption in table.captions
    assert Store("store").feature(CAPTIONS).has(table.keys("caption")).all()


def test_an_unknown_id_changes_nothing(fitted):
    before = files_of("store"), files_of("runs")
    assert "no row 7.jpg: forgotten already, or misspelt" in fitted("forget", "7.jpg", status=1).stderr
    assert (files_of("store"), files_of("runs")) == before
    fitted("forget", status=2)
    assert "in no table: 7.jpg" in fitted("forget", "7.jpg", "8.png").stderr


def test_pages_and_other_files_that_still_name_a_row_are_named(fitted):
    Path("runs/linear/audit.csv").write_text("id,kind\n9.png,label\n19.png,label\n")
    Path("store/features/old.damaged").write_bytes(b"xx" + key_of(Path("input/data/9.png").read_bytes()))
    result = fitted("forget", "9.png", status=1)
    assert "runs/linear/audit.csv still holds id 9.png" in result.stderr
    assert "store/features/old.damaged still holds key " in result.stderr
    assert "2 files still name what was forgotten" in result.stderr
    absent = fitted("store", "verify", "--absent", "9.png", "--store", "store", status=1)
    assert "runs/linear/audit.csv holds id 9.png" in absent.stdout
    Path("runs/linear/audit.csv").unlink()
    fitted("store", "verify", "--absent", "9.png")


def test_a_list_of_ids_is_read_and_one_to_verify_is_written(fitted):
    Path("requests.txt").write_text("10.png\n\n11.png\n")
    result = fitted("forget", "--file", "requests.txt", "-o", "forgotten.txt")
    names = Path("forgotten.txt").read_text().split()
    assert names[:2] == ["10.png", "11.png"]
    assert key_of(Path("input/data/10.png").read_bytes()).hex() in names
    assert "the data still has it" in result.stderr
    assert "input/data/10.png" in result.stderr
    assert "input/train.csv" in result.stderr
    assert result.stderr.endswith("next: encode-once store verify --absent-file forgotten.txt\n")
    fitted("store", "verify", "--absent-file", "forgotten.txt")
    fitted("extract", "--encoder", "glove-50", "--skip-bad-rows")  # the data still has it
    assert "runs/" not in fitted("store", "verify", "--absent-file", "forgotten.txt", status=1).stdout


@pytest.mark.parametrize("name", ["guest.png", "guest", "later/data/guest.png", "key"])
def test_a_row_that_only_a_prediction_has_seen_is_forgotten_by_its_file_or_key(fitted, folder, name):
    folder(3, name="later")
    picture(900).save("later/data/guest.png")
    os.utime("later/data/guest.png", (1e9, 1e9))
    with open("later/train.csv", "a") as file:
        file.write("guest.png,dog,a visitor\n")
    fitted("predict", "runs/linear", "--data", "later", "-o", "later.csv")
    key = key_of(Path("later/data/guest.png").read_bytes())
    holding = [path for path, content in files_of("runs").items() if key in content]
    assert holding
    fitted("forget", key.hex() if name == "key" else name)
    assert [path for path, content in files_of("runs").items() if key in content] == []
