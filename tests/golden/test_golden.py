"""What programs of each released version wrote is read, and predicts as it did then.

The oracle is what the old program wrote itself: scores, labels and exported vectors. A test that fails after
a change of a format says that users' files are no longer read: add a step, see CONTRIBUTING.md.
"""

import csv
import json
import re
import shutil
import zipfile
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest

from encode_once.cache import Store, StoreError
from encode_once.cache.format.header import read_stamp
from encode_once.cache.format.part import KIND as PART
from encode_once.cache.format.replacement import Replacement
from encode_once.cache.maintenance import verify
from encode_once.cache.migration import migrate_store
from encode_once.cache.store import KIND as STORE
from encode_once.cache.table import KIND as TABLE
from encode_once.cache.table import SINCE as TABLES_SINCE
from encode_once.cache.table import load_table, read_header
from encode_once.classify import load_run, retune
from encode_once.classify.data import features
from encode_once.classify.data.rows import content_keys
from encode_once.classify.migration import migrate_run
from encode_once.classify.runs.predict import label_rows, sources
from encode_once.classify.runs.reading import RunError
from encode_once.classify.runs.retune import evaluate_kept
from encode_once.classify.runs.run import PAGE
from encode_once.classify.runs.upgrades import OPTIONAL, SINCE, VERSION, WITH_CHECKSUMS, WITH_KEYS
from encode_once.deploy.service_versions import promote, rollback
from tests.classify.runs.reseal import reseal
from tests.conftest import files_of
from tests.golden.golden_data import CLASSES, TEST, TRAIN, write_input

FOLDER = Path(__file__).parent
RUNS = ("folds", "forest", "knn", "linear", "mlp")
ENCODERS = {"onnx:image": "image.onnx", "glove-50": "glove.txt"}
VERSIONS = sorted(int(path.stem.removeprefix("runs-")) for path in FOLDER.glob("runs-*.zip"))
FIRST = [3, 4, 6, 7]  # versions whose first program wrote less than its last
STORES = [*(f"runs-{version}" for version in VERSIONS), "tables-2", "tables-5"]


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory):
    """The folder of a golden file's content, which nobody may change."""
    folder = tmp_path_factory.mktemp("golden")
    for file in FOLDER.glob("*.zip"):
        zipfile.ZipFile(file).extractall(folder / file.stem)
    return folder


@pytest.fixture
def copy_of(unpacked, tmp_path):
    """A function that copies a golden run; as if its project had moved, the paths in it lead nowhere."""

    def copy(version, name="linear"):
        return Path(shutil.copytree(unpacked / f"runs-{version}" / "runs" / name, tmp_path / "run"))

    return copy


@pytest.fixture(scope="session")
def matrix_of(unpacked):
    """A function from a golden run to its features of a table, in the store that was made with it."""

    def of(run, version, split, kind="runs"):
        store = Store(unpacked / f"{kind}-{version}" / "store", read_only=True)
        table = table_of(store, split)
        return table, features.load(sources(run, store), table)

    return of


def table_of(store, split):
    (table,) = (table for table in store.tables() if table.split == split)
    return table


def rows_of(path):
    """The ids, and the other columns, of a CSV file."""
    with path.open(newline="") as file:
        _, *rows = csv.reader(file)
    return [row[0] for row in rows], [row[1:] for row in rows]


def labels_of(run, predicted):
    return [" ".join(run.record.classes[c] for c in np.flatnonzero(row)) for row in predicted]


def saved(path, group="eval"):
    """The ids and scores in a scores.h5, read by the HDF5 library alone."""
    with h5py.File(path / "scores.h5") as file:
        ids, scores = file[group]["ids"], file[group]["scores"][()]
        if isinstance(ids, h5py.Dataset):
            return [text.decode() for text in ids[()]], scores
        content, ends = ids["bytes"][()].tobytes(), ids["offsets"][()].tolist()
        return [content[a:b].decode() for a, b in pairwise(ends)], scores


# -------------------------------------------------------------------------------------- which files there are


def test_there_are_golden_files_of_every_version_that_is_read(unpacked):
    assert [*range(SINCE, VERSION + 1)] == VERSIONS
    for version in VERSIONS:
        folder = unpacked / f"runs-{version}" / "runs"
        contents = [json.loads((folder / name / "run.json").read_text()) for name in RUNS]
        assert {content["version"] for content in contents} == {version}
    parts, tables, stores = set(), set(), set()
    for name in STORES:
        store = unpacked / name / "store"
        stores |= {json.loads((store / "store.json").read_text())["version"]}
        parts |= {read_stamp(path, PART)["version"] for path in (store / "features").rglob("*.h5")}
        files = (store / "tables").glob("*.h5")
        tables |= {read_stamp(path, TABLE, TABLES_SINCE)["version"] for path in files}
    assert (stores, parts) == ({STORE[1]}, {PART[1]})
    assert tables == {*range(TABLES_SINCE, TABLE[1] + 1)}


def test_golden_files_stay_as_they_are_and_are_small():
    text = (FOLDER / "README.md").read_text()
    listed = dict(re.findall(r"`([\w-]+\.zip)` .*`(\w{32})`", text))
    files = {path.name: path.read_bytes() for path in FOLDER.glob("*.zip")}
    assert listed == {name: blake2b(content, digest_size=16).hexdigest() for name, content in files.items()}
    assert sum(map(len, files.values())) < 1_000_000


# ------------------------------------------------------------------------------------------------------- runs


@pytest.mark.parametrize("version", [SINCE, WITH_CHECKSUMS - 1])
def test_a_run_without_checksums_is_promoted_and_rolled_back_to(version, copy_of):
    run = copy_of(version)
    assert promote(run).now == "run"
    shutil.copytree(run, run.with_name("other"))
    promote(run.with_name("other"))
    assert rollback(str(run.parent)).now == "run"


@pytest.mark.parametrize(
    ("kind", "version", "name"),
    [
        *(("runs", version, name) for version in VERSIONS for name in RUNS),
        *(("first", version, name) for version in FIRST for name in ("folds", "forest", "mlp")),
    ],
)
def test_a_run_scores_and_labels_rows_as_the_program_that_wrote_it(kind, version, name, unpacked, matrix_of):
    golden = unpacked / f"{kind}-{version}"
    path = golden / "runs" / name
    before, run = files_of(path), load_run(path)
    table, matrix = matrix_of(run, version, "train", kind)
    if name != "folds":  # whose eval rows were scored by other models
        ids, scores = saved(path)
        rows = [table.ids.index(row_id) for row_id in ids]
        np.testing.assert_allclose(run.model.scores(matrix)[rows], scores, rtol=0, atol=1e-5)
        assert run.eval.ids == ids
        np.testing.assert_array_equal(run.eval.scores, scores)
    else:  # each fold was labelled by the rule of the others
        assert len(run.decision.folds) == 3
    ids, labels = rows_of(path / "predictions.csv")
    assert run.eval.ids == ids
    assert labels_of(run, evaluate_kept(run).predictions) == [row[0] for row in labels]
    table, matrix = matrix_of(run, version, "test", kind)
    ids, labels = rows_of(golden / "predictions" / f"{name}.csv")
    assert table.ids == ids
    assert labels_of(run, label_rows(run, matrix).labels) == [row[0] for row in labels]
    assert files_of(path) == before  # reading changes nothing


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_run_does_not_record_has_values_that_say_so(version, unpacked, matrix_of):
    path = unpacked / f"runs-{version}" / "runs" / "linear"
    run, old = load_run(path), json.loads((path / "run.json").read_text())
    assert run.version == version
    for field in ("identity", "code", "corrections", "untrained", "named_columns", "own_code", "scales"):
        assert getattr(run.record, field) == old.get(field, type(getattr(run.record, field))())
    assert run.spec.groups == old.get("groups", "none")  # the splits of version 2 had none
    assert run.spec.head == old["head"]
    assert [*run.record.features] == [*old["features"]] == [*run.spec.features]
    table, _ = matrix_of(run, version, "train")
    assert run.has_seen_rows(table).sum() == TRAIN - 6  # all but its eval rows, by whichever keys
    keys = {row_id: key.tobytes() for row_id, key in zip(table.ids, content_keys(table), strict=True)}
    agree = [keys[row_id] == key.tobytes() for row_id, key in zip(run.eval.ids, run.eval.keys, strict=True)]
    assert all(agree) if version >= WITH_KEYS else not any(agree)


@pytest.mark.parametrize("version", [SINCE, 5, VERSION])
def test_the_command_line_predicts_with_a_moved_run(version, unpacked, copy_of, run, tmp_path):
    copy_of(version)
    shutil.copytree(unpacked / f"runs-{version}" / "store", tmp_path / "store")
    write_input(tmp_path / "input")
    weights = [f"--weights={name}={FOLDER / file}" for name, file in ENCODERS.items()]
    words = "predict run --data input --table test --store store -o labels.csv".split()
    run(*words, *weights)
    expected = rows_of(unpacked / f"runs-{version}" / "predictions" / "linear.csv")
    assert rows_of(tmp_path / "labels.csv") == expected


@pytest.mark.parametrize("version", VERSIONS)
def test_migrate_rewrites_a_run_and_keeps_what_it_predicts(version, copy_of, matrix_of):
    path = copy_of(version)
    before = load_run(path)
    lines = migrate_run(load_run(path))
    after = load_run(path)
    assert after.version == json.loads((path / "run.json").read_text())["version"] == VERSION
    if version == VERSION:
        assert lines == [f"{path} is current: version {VERSION}"]
    else:
        assert lines[0] == f"{path} was version {version} and is now version {VERSION}"
        assert ("not carried over" in " ".join(lines)) == (version < WITH_KEYS)
    assert (after.record, after.spec) == (before.record, before.spec)
    assert after.decision.spec == before.decision.spec
    _, matrix = matrix_of(after, version, "test")
    np.testing.assert_array_equal(after.model.scores(matrix), before.model.scores(matrix))
    for kept, old in ((after.eval, before.eval), (after.validation, before.validation)):
        assert kept.ids == old.ids
        for field in ("scores", "labels", "keys"):
            np.testing.assert_array_equal(getattr(kept, field), getattr(old, field))
    np.testing.assert_array_equal(after.fitted_on, before.fitted_on)
    expected = labels_of(before, evaluate_kept(before).predictions)
    assert [row[0] for row in rows_of(path / "predictions.csv")[1]] == expected
    written = files_of(path)
    assert migrate_run(load_run(path)) == [f"{path} is current: version {VERSION}"]
    assert files_of(path) == written


def test_the_command_line_migrates_runs_and_stores(unpacked, copy_of, run, tmp_path):
    copy_of(3)
    shutil.copytree(unpacked / "runs-3" / "store", tmp_path / "store")
    done = json.loads(run("migrate", "run", "store", "--json").stdout)
    assert done["run"][0] == f"run was version 3 and is now version {VERSION}"
    assert sum("version 3 is now version 4" in line for line in done["store"]) == 2
    lines = run("migrate", "run", "store").stdout.splitlines()
    assert lines == [
        f"run is current: version {VERSION}",
        "store is current: all its files are of the versions that this program writes",
    ]


def test_a_folder_that_cannot_be_migrated_does_not_stop_the_others(copy_of, run, tmp_path):
    path = copy_of(7)
    (path / PAGE).write_text("a page")
    (tmp_path / "other").mkdir()
    result = run("migrate", "other", "run", "nowhere", status=1)
    assert result.stdout.startswith(f"run was version 7 and is now version {VERSION}\n")
    assert "failed: other: other is not a run" in result.stderr
    assert "Error: 2 of 3 folders are not migrated" in result.stderr
    assert (path / PAGE).read_text() == "a page"
    assert json.loads(run("migrate", "other", "run", "--json", status=1).stdout).keys() == {"run"}


@pytest.mark.parametrize("name", ["linear", "folds"])
@pytest.mark.parametrize("version", [2, 3])
def test_migrate_takes_content_keys_from_the_store_of_the_run(version, name, copy_of, unpacked, matrix_of):
    path = copy_of(version, name)
    content = json.loads((path / "run.json").read_text())
    content["store"] = str(unpacked / f"runs-{version}" / "store")
    (path / "run.json").write_text(json.dumps(content))
    lines = migrate_run(load_run(path))
    assert "the content keys of its rows are those of /tmp/golden/input/train.csv" in lines
    run = load_run(path)
    table, _ = matrix_of(run, version, "train")
    keys = dict(zip(table.ids, content_keys(table).tolist(), strict=True))
    assert run.eval.keys.tolist() == [keys[row_id] for row_id in run.eval.ids]
    assert run.has_seen(content_keys(table)).sum() == len(run.fitted_on)


def test_an_old_run_remains_until_the_migrated_one_is_whole(copy_of, monkeypatch):
    path = copy_of(4, "mlp")
    before = files_of(path)
    with monkeypatch.context() as patch:
        patch.setattr(Replacement, "commit", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            migrate_run(load_run(path))
    remains = {file: content for file, content in files_of(path).items() if file.suffix != ".new"}
    assert remains == before
    assert load_run(path).version == 4
    with monkeypatch.context() as patch:  # ends after the decision, before the first file is renamed
        patch.setattr("encode_once.cache.format.replacement._finish", lambda folder, names: None)
        migrate_run(load_run(path))
    assert load_run(path).version == VERSION


@pytest.mark.parametrize("version", [2, 6, 7])
def test_a_new_decision_rule_makes_an_old_run_current_as_a_whole(version, copy_of):
    path = copy_of(version)
    run = load_run(path)
    run.save_decision(*retune(run, run.decision.spec))
    again = load_run(path)
    assert again.version == run.version == VERSION
    np.testing.assert_array_equal(again.model.head.coef_, run.model.head.coef_)


@pytest.mark.parametrize(
    ("version", "line"),
    [
        (
            VERSION + 1,
            rf"by a newer .* \(version {VERSION + 1}; .* {SINCE} to {VERSION}\): update encode-once$",
        ),
        (SINCE - 1, rf"holds version {SINCE - 1}, .* versions {SINCE} to {VERSION}: fit it again$"),
        ("8", "is no encode-once run, but version 8 of 'encode-once run'"),
        (8.0, "is no encode-once run"),
    ],
)
def test_other_versions_are_refused_with_what_to_do(version, line, copy_of):
    path = copy_of(VERSION)
    content = json.loads((path / "run.json").read_text()) | {"version": version}
    (path / "run.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match=line):
        load_run(path)


def test_readers_ignore_additions_to_run_json_and_supply_what_was_added_before(copy_of):
    path = copy_of(VERSION)
    expected = load_run(path)
    content = json.loads((path / "run.json").read_text())
    for name in OPTIONAL:
        content.pop(name, None)
    (path / "run.json").write_text(json.dumps(content | {"added by a later program": [1]}))
    reseal(path)
    assert load_run(path).record == expected.record
    for name in ("head", "options", "split", "groups", "tune_on", "scale", "classes", "store", "tuning"):
        (path / "run.json").write_text(json.dumps({key: content[key] for key in content if key != name}))
        reseal(path)
        with pytest.raises(RunError, match=r"run\.json cannot be read"):
            load_run(path)


def test_a_decision_rule_of_two_files_is_refused(copy_of):
    path = copy_of(5)
    (path / "unfinished").touch()
    with pytest.raises(RunError, match="files of two decision rules"):
        load_run(path)


def test_checksums_count_whatever_version_run_json_claims(copy_of):
    path = copy_of(VERSION)
    content = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps(content | {"version": WITH_CHECKSUMS - 1}))
    with pytest.raises(RunError, match="has changed since it was saved"):
        load_run(path)


@pytest.mark.parametrize("version", [2, 4])
def test_a_damaged_heap_of_texts_is_read_or_refused_at_once(version, copy_of, stride):
    path = copy_of(version)
    whole = (path / "scores.h5").read_bytes()
    starts = [match.start() for match in re.finditer(b"GCOL", whole)]
    ids = load_run(path).eval.ids
    outcomes = set()
    for start in starts:
        for place in range(start, min(start + 200, len(whole)), 4 * stride + 1):
            broken = bytearray(whole)
            broken[place] ^= 0xFF
            (path / "scores.h5").write_bytes(broken)
            try:
                outcomes.add(load_run(path).eval.ids == ids)
            except RunError as error:
                assert "scores.h5 cannot be read" in str(error)
                outcomes.add("refused")
    assert outcomes >= {True, "refused"}


# ----------------------------------------------------------------------------------------------------- stores


@pytest.mark.parametrize("name", STORES)
def test_a_store_has_the_rows_and_vectors_that_were_written(name, unpacked, tmp_path):
    store = Store(unpacked / name / "store", read_only=True)
    assert store.features() == ["glove-50/mean", "glove-50/tokens", "onnx:image/pooled"]
    assert verify(store) == []
    has_unknown = name == "tables-5"
    write_input(tmp_path / "input", has_unknown)
    for split, rows in (("train", TRAIN), ("test", TEST)):
        table = table_of(store, split)
        ids, cells = rows_of(tmp_path / "input" / f"{split}.csv")
        assert table.ids == ids
        assert len(table) == rows
        assert table.captions == [cell[-1] for cell in cells]
        expected = [tuple(cell[0].split()) for cell in cells] if split == "train" else None
        assert table.labels == expected
        unknown = [tuple(cell[1].split()) for cell in cells] if has_unknown and split == "train" else []
        assert table.unknown == unknown
        images = [(tmp_path / "input" / "data" / row_id).read_bytes() for row_id in ids]
        keys = b"".join(blake2b(image, digest_size=16).digest() for image in images)
        assert table.image_keys.tobytes() == keys
    table = table_of(store, "train")
    for feature, modality in (("onnx:image/pooled", "image"), ("glove-50/mean", "caption")):
        vectors = np.load(unpacked / name / "vectors" / f"{feature.replace('/', '-')}.npy")
        keys = table.keys(modality)[: len(vectors)]  # the last caption has no vector
        np.testing.assert_array_equal(store.feature(feature).read(keys), vectors)


@pytest.mark.parametrize("name", ["tables-2", "runs-3", "tables-5", f"runs-{VERSION}"])
def test_migrate_rewrites_tables_and_keeps_their_rows(name, unpacked, tmp_path):
    shutil.copytree(unpacked / name / "store", tmp_path / "store")
    store = Store(tmp_path / "store")
    before, files = store.tables(), files_of(store.path)
    lines = migrate_store(store)
    for table, old in zip(store.tables(), before, strict=True):
        assert table.has_rows_of(old)
        for field in ("source", "images", "id_column", "label_separator", "named_columns", "more_sources"):
            assert getattr(table, field) == getattr(old, field)
    assert all(read_header(path).sources is not None for path in store.table_files())
    if name in ("tables-5", f"runs-{VERSION}"):
        assert files_of(store.path) == files
    else:
        assert sum("is now version 4" in line for line in lines) == len(before)
        assert sum("are gone" in line for line in lines) == len(before)  # the paths lead nowhere
    (line,) = migrate_store(store)
    assert "is current" in line
    assert len(CLASSES) == len({label for table in before for row in table.labels or [] for label in row})


def test_an_outdated_table_stays_as_it_is(unpacked, tmp_path, monkeypatch):
    store = Store(shutil.copytree(unpacked / "runs-3" / "store", tmp_path / "store"))
    monkeypatch.setattr(Store, "is_outdated", lambda self, table: table.split == "test")
    before = {path: path.read_bytes() for path in store.table_files()}
    lines = migrate_store(store)
    kept = "kept at version 3, as it has changed since: extract reads it again"
    assert sum(kept in line for line in lines) == 1
    changed = [load_table(path).split for path, content in before.items() if path.read_bytes() != content]
    assert changed == ["train"]


def test_a_newer_table_says_to_update_the_program(unpacked, monkeypatch):
    path = next((unpacked / f"runs-{VERSION}" / "store" / "tables").glob("*.h5"))
    monkeypatch.setattr("encode_once.cache.table.KIND", (TABLE[0], 3))
    with pytest.raises(StoreError, match="newer encode-once wrote it: update this one"):
        load_table(path)
