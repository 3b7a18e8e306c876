"""Forgotten rows are in no byte of the store and the runs, and everything else is as it was."""

import csv
import hashlib
import json
import os
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from encode_once.cache import DataError, Store, Table
from encode_once.cache.keys import pack
from encode_once.classify import FitSpec, fit, load_run
from encode_once.cli import main
from encode_once.deploy.forget import forget, read_list, refit_words
from encode_once.deploy.run_forgetting import forget_rows
from tests.conftest import files_of, picture, shorten_fits, write_data
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
    for path in place.glob("*/data/*"):
        os.utime(path, (1e9, 1e9))  # the index remembers no file that has just been written
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        shorten_fits(patch)
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


@pytest.mark.parametrize(
    "fields",
    [
        {"head": "mlp", "task": "single", "options": {"epochs": 1, "hidden": [4]}},
        {"head": "linear", "only_classes": ["dog, big", "cat", "9"], "hierarchy": [("cat", "9")], "seed": 2},
    ],
)
def test_a_run_of_other_labels_is_fitted_again_as_it_was(filled, tmp_path, monkeypatch, run, fields):
    store = filled(150)
    (table,) = store.tables()
    names = {"dog": "dog, big"}
    labels = [tuple(names.get(name, name) for name in row or ("9",)) for row in table.labels]
    store.save(replace(table, labels=[row[:1] for row in labels] if "task" in fields else labels))
    monkeypatch.chdir(tmp_path)
    before, _ = fit(store, FitSpec(**fields), run="runs/x")
    run(*refit_words(before, name_data=False))
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
    assert "delete store/features/old.damaged, runs/linear/audit.csv\n" in result.stderr
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
    result = fitted("store", "verify", "--absent-file", "nothing.txt", status=1)
    assert "nothing.txt does not exist: it should have an id in each line" in result.stderr


def test_the_list_is_written_before_anything_is_removed_and_takes_names_of_any_bytes(fitted, monkeypatch):
    name = os.fsdecode(b"caf\xe9.png")
    Path("requests.txt").write_bytes(b"10.png\ncaf\xe9.png\n")
    before = files_of("store"), files_of("runs")
    fitted("forget", "--file", "requests.txt", "-o", "input/train.csv/list", status=1)  # in no folder
    assert (files_of("store"), files_of("runs")) == before

    def stop(*_):
        raise DataError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr("encode_once.deploy.forget.remove_vectors", stop)
        fitted("forget", "--file", "requests.txt", "-o", "forgotten.txt", status=1)
    names = read_list(Path("forgotten.txt"))
    assert names[:2] == ["10.png", name]
    assert key_of(Path("input/data/10.png").read_bytes()).hex() in names
    assert (files_of("store"), files_of("runs")) == before
    fitted("forget", "--file", "requests.txt", "-o", "forgotten.txt")
    assert read_list(Path("forgotten.txt")) == names
    fitted("store", "verify", "--absent-file", "forgotten.txt")


@pytest.mark.parametrize("name", ["path", "copy", "key"])
def test_a_row_of_a_table_is_forgotten_by_the_path_or_key_of_its_image(fitted, name):
    path = Path("input/data/5.png")
    names = {"path": Store("store").table().images[5], "copy": path, "key": key_of(path.read_bytes()).hex()}
    if name == "copy":
        assert "have the same images, such as 5.png" in fitted("forget", path, status=1).stderr
    result = fitted("forget", names[name], *(["--equal-images", "forget"] if name == "copy" else []))
    assert "also those of other rows" not in result.stderr
    assert traces("5.png") == set()
    assert len(Store("store").table()) == 59


def test_files_of_the_store_and_of_runs_are_never_to_be_deleted(fitted, monkeypatch):
    left = ["store/files.sqlite", "runs/linear/run.json", "runs/knn/scores.h5", "runs/x.html"]
    monkeypatch.setattr("encode_once.deploy.forget.search", lambda *_: {Path(path): ["id"] for path in left})
    message = fitted("forget", "5.png", status=1).stderr.splitlines()[-1]
    assert message.endswith(
        "4 files still name what was forgotten (see above): delete runs/x.html; "
        "fit runs/knn, runs/linear again with --overwrite; "
        "run store verify, then forget again; if the store still names it, report that"
    )


def test_numbers_of_warnings_are_no_ids(fitted):
    run = load_run("runs/linear")
    count = "glove-50/mean: 17 of 60 rows have no vector"
    run.record.warnings[:] = [count, "row '17' and '17.png'", "row '18'"]
    assert forget_rows(run, {"17", run.eval.ids[0]}, pack([])).rows == 1
    assert load_run("runs/linear").record.warnings == [count, "row '18'"]


def test_an_id_means_no_file_of_that_name_and_other_tables_are_asked_for(fitted, folder):
    other = folder(3, name="other")
    for row in range(3):
        picture(900 + row).save(other / "data" / f"{row}.png")
        os.utime(other / "data" / f"{row}.png", (1e9, 1e9))
    key = key_of((other / "data/2.png").read_bytes())
    fitted("predict", "runs/linear", "--data", "other", "-o", "other.csv")
    holding = [path for path, content in files_of("runs").items() if key in content]
    assert holding
    fitted("forget", "2.png")  # of the table; what `predict` saw is another image
    assert [path for path, content in files_of("runs").items() if key in content] == holding

    fitted("extract", "--encoder", "glove-50", "--data", "other")
    before = files_of("store")
    tables = {Path(table.source).parent.name: table.name for table in Store("store").tables()}
    error = fitted("forget", "1.png", status=1).stderr
    assert f"1.png is a different row in each of {tables['input']}, {tables['other']}: --table NAME" in error
    assert files_of("store") == before
    fitted("forget", "1.png", "--table", "nothing", status=2)
    fitted("forget", "1.png", "--table", tables["other"], "--all-tables", status=2)
    evaluated = ids_of("linear")
    result = fitted("forget", "1.png", "--table", tables["other"], "-o", "list.txt")
    assert "these names stay, so what is left is searched for the keys only: 1.png" in result.stderr
    assert "1.png" not in read_list(Path("list.txt"))
    assert {table.name: "1.png" in table.ids for table in Store("store").tables()} == {
        tables["input"]: True,
        tables["other"]: False,
    }
    assert ids_of("linear") == evaluated
    fitted("store", "verify", "--absent-file", "list.txt")
    fitted("forget", "0.png", "--all-tables")
    assert not any("0.png" in table.ids for table in Store("store").tables())
    # A file of that name in the index, which `predict` saw, is another image.
    assert traces("0.png") == traces("0.png", "other") == {"runs/linear/store/files.sqlite"}


def test_rows_of_tables_without_content_are_different_and_those_of_a_copy_are_not(tmp_path):
    none = np.zeros((3, 16), np.uint8)

    def save(name, keys=none):
        path = str(tmp_path / name / "train.arff")
        row = Table(path, ["0", "1", "17"], [""] * 3, [""] * 3, None, image_keys=keys, caption_keys=none)
        Store(tmp_path / "store").save(row)
        return row.name

    first, second = save("a"), save("b")
    store = Store(tmp_path / "store")
    with pytest.raises(DataError, match=f"17 is a different row in each of {first}, {second}"):
        forget(store, tmp_path / "runs", ["17"])
    result = forget(store, tmp_path / "runs", ["17"], tables=[first])
    assert (result["tables"], result["staying"], result["left"]) == ({first: 1}, ["17"], {})
    assert forget(store, tmp_path / "runs", ["17"])["tables"] == {second: 1}
    keys = np.arange(48, dtype=np.uint8).reshape(3, 16)
    copies = [save("c", keys), save("d", keys)]
    assert forget(store, tmp_path / "runs", ["17"])["tables"] == dict.fromkeys(copies, 1)


def test_a_link_at_the_store_of_a_run_is_refused(fitted, tmp_path):
    Path("runs/linear/store").rename("elsewhere")
    Path("runs/linear/store").symlink_to(tmp_path / "elsewhere")
    before = files_of("store"), files_of("elsewhere")
    assert "store is a symbolic link, which is not followed" in fitted("forget", "5.png", status=1).stderr
    assert (files_of("store"), files_of("elsewhere")) == before


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
