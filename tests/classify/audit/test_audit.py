import csv
import sys

import numpy as np
import pytest

from encode_once.cache import DataError, Store, Table, content_key
from encode_once.cache.keys import NO_KEY, pack
from encode_once.classify import fit
from encode_once.classify.audit import cross_split as leaks
from encode_once.classify.audit.audit import ENOUGH, KINDS, audit, summary, write

CLASSES = ["cat", "dog"]
DETERMINISTIC = {"leak", "duplicate", "near-duplicate"}


class Data:
    """A store of learnable rows, far from one another, whose defects a test plants before it is saved."""

    def __init__(self, folder, n=600, seed=0):
        rng = np.random.default_rng(seed)
        self.folder = folder
        self.Y = rng.random((n, 2)) < [0.5, 0.3]
        self.X = rng.normal(size=(n, 32)).astype(np.float32)
        self.X[:, :2] += 5 * self.Y
        self.images = [f"image {seed} {row}" for row in range(n)]
        self.captions = [f"caption {seed} {row}" for row in range(n)]
        self.columns = {}

    def labels(self, row):
        return tuple(name for name, has in zip(CLASSES, self.Y[row], strict=True) if has)

    def save(self, name="train", labelled=True):
        keys = [pack(content_key(one.encode()) if one else NO_KEY for one in many)
                for many in (self.images, self.captions)]  # fmt: skip
        store, n = Store(self.folder / "store"), len(self.Y)
        for feature, key in zip(("e/image", "e/text"), keys, strict=True):
            known = store.declare(feature, {"modality": "image" if feature == "e/image" else "caption"})
            new = [row for row in range(n) if key[row].any() and known.find(key[row : row + 1])[0] < 0]
            first = {key[row].tobytes(): row for row in reversed(new)}
            rows = sorted(first.values())
            with known.writer(len(rows)) as writer:
                writer.append(key[rows], self.X[rows].astype(np.float16))
        source = self.folder / f"{name}.csv"
        source.touch()
        store.save(
            Table(
                str(source),
                [f"{name}-{row}" for row in range(n)],
                [f"/photos/{row}.jpg" if one else "" for row, one in enumerate(self.images)],
                self.captions,
                [self.labels(row) for row in range(n)] if labelled else None,
                columns=self.columns,
                image_keys=keys[0],
                caption_keys=keys[1],
                split=name,
            )
        )
        return store


@pytest.fixture
def data(tmp_path):
    return Data(tmp_path)


@pytest.fixture
def checked(tmp_path):
    """A function that fits on a store as asked, and gives what the audit finds, by kind, and its warnings."""

    def check(store, near=0.95, **options):
        options = {"split": "kfold:3", "features": ["e/image"], **options}
        run, _ = fit(store, "linear", data=tmp_path / "train.csv", run=tmp_path / "run", **options)
        found, warnings = audit(run, near)
        return {kind: [one for one in found if one.kind == kind] for kind in KINDS}, warnings

    return check


def test_clean_data_have_no_finding_that_is_not_a_matter_of_scores(data, checked):
    found, warnings = checked(data.save())
    assert not any(found[kind] for kind in DETERMINISTIC)
    assert warnings == []


def test_swapped_labels_are_found_with_their_direction_and_come_first(data, checked):
    swapped = {(row, c) for row in range(0, 600, 40) for c in (0, 1)}
    for cell in swapped:
        data.Y[cell] ^= True
    found = checked(data.save())[0]["label"]
    cells = [(int(one.id.partition("-")[2]), CLASSES.index(one.label)) for one in found]
    assert len(swapped & {*cells}) >= 27
    assert len(swapped & {*cells[:30]}) >= 24
    for one, cell in zip(found, cells, strict=True):
        states = ["absent", "present"] if data.Y[cell] else ["present", "absent"]
        assert [one.suggested, one.given] == states
        assert one.image == f"/photos/{cell[0]}.jpg"
    for state in ("absent", "present"):
        scores = [one.score for one in found if one.given == state]
        assert scores == sorted(scores, reverse=True)
    assert {found[0].given, found[1].given} == {"absent", "present"}


def test_doubled_images_with_other_labels_are_told_beside_one_with_the_usual_labels(data, checked):
    for row, labels in ((10, [1, 0]), (20, [1, 1]), (30, [1, 1])):
        data.images[row], data.Y[row] = data.images[10], labels
    data.images[41], data.Y[41] = data.images[40], data.Y[40]  # a double, but of one mind
    found, _ = checked(data.save())
    (one,) = found["duplicate"]
    assert (one.id, one.other, one.label) == ("train-10", "train-20", "dog")
    assert (one.given, one.suggested, one.score) == ("cat", "cat dog", 1)
    assert one.why == "the same image as train-20, but labelled otherwise: they differ in dog"
    assert (one.image, one.other_image) == ("/photos/10.jpg", "/photos/20.jpg")
    assert not found["leak"]  # doubles are kept in one fold
    assert not found["near-duplicate"]


def test_of_rows_without_images_equal_captions_are_doubles(data, checked):
    data.images = [""] * 600
    data.captions[20], data.Y[10], data.Y[20] = data.captions[10], [1, 0], [0, 1]
    found, warnings = checked(data.save(), features=["e/text"])
    (one,) = found["duplicate"]
    assert one.why == "the same caption as train-10, but labelled otherwise: they differ in cat, dog"
    assert any("near-duplicates are not looked for" in line for line in warnings)


def test_near_images_with_other_labels_are_told_from_the_cosine_asked_for(data, checked):
    data.X[20] = 2 * data.X[10] + 0.02
    data.Y[10], data.Y[20] = [1, 0], [0, 0]
    cosine = data.X[10] @ data.X[20] / np.linalg.norm(data.X[10]) / np.linalg.norm(data.X[20])
    store = data.save()
    found, _ = checked(store, groups="e/image:0.95")
    (one,) = found["near-duplicate"]
    assert {one.id, one.other} == {"train-10", "train-20"}
    assert one.score == pytest.approx(cosine, abs=1e-3)
    assert "looks like" in one.why
    assert not found["leak"]
    found, _ = checked(store, near=min(cosine + 0.00005, 1), groups="e/image:0.95")
    assert not found["near-duplicate"]


def test_rows_measured_on_that_double_rows_fitted_on_are_leaks_told_once_each(data, checked):
    for row in (580, 581):
        data.images[row], data.Y[row] = data.images[row - 500], data.Y[row - 500]
    data.X[590], data.Y[590] = 3 * data.X[90], data.Y[90]
    data.X[591], data.Y[591] = data.X[590] / 2, data.Y[90]
    found, warnings = checked(data.save(), split="tail:50", groups="none")
    told = {one.id: (one.other, one.score, one.why) for one in found["leak"]}
    assert told.keys() == {"train-580", "train-581", "train-590", "train-591"}
    assert told["train-580"] == (
        "train-80",
        1,
        "held out, but the same image as train-80, which the run was fitted on",
    )
    assert told["train-591"][0] == "train-90"
    assert "looks like train-90 (cosine 1.000)" in told["train-591"][2]
    assert len(found["leak"]) == 4
    assert not found["duplicate"]
    assert any("among the 50 rows held out" in line for line in warnings)


def test_doubles_in_different_folds_are_leaks(data, checked):
    for row in range(100, 140):
        data.images[row], data.Y[row] = data.images[row - 100], data.Y[row - 100]
    store = data.save()
    found, _ = checked(store, groups="none")
    parted = [one for one in found["leak"] if int(one.id[6:]) % 100 == int(one.other[6:]) % 100]
    assert 15 < len(parted) == len(found["leak"]) < 40  # by chance two thirds of the 40
    assert "in fold" in found["leak"][0].why
    assert not checked(store)[0]["leak"]


def test_rows_of_another_table_that_double_rows_fitted_on_are_leaks(data, tmp_path, checked):
    data.save()
    test = Data(tmp_path, 30, seed=1)
    test.images[3] = data.images[50]
    test.images[4] = data.images[590]  # held out: not fitted on
    test.X[5] = data.X[60] * 1.5
    store = test.save("test", labelled=False)
    found, _ = checked(store, split="tail:50")
    assert {(one.id, one.other) for one in found["leak"]} == {("test-3", "train-50"), ("test-5", "train-60")}
    assert "in test, but the same image as train-50" in found["leak"][0].why


def test_a_class_is_rare_with_fewer_positives_than_a_recall_to_a_fifth_needs(data, checked):
    assert 1.96 * 0.5 / np.sqrt(ENOUGH) <= 0.2 < 1.96 * 0.5 / np.sqrt(ENOUGH - 1)
    data.Y[:, 1] = np.arange(600) < ENOUGH
    assert not checked(data.save())[0]["rare"]
    data.Y[0, 1] = False
    (one,) = checked(data.save())[0]["rare"]
    assert (one.label, one.given, one.suggested, one.id) == ("dog", "24", "25", "")
    assert one.why.startswith("24 of the 600 rows that thresholds are tuned on have dog")


def test_a_row_without_image_or_vector_doubles_nothing(data, checked):
    for row in range(0, 40, 2):
        data.images[row] = ""
    found, _ = checked(data.save(), features=["e/image", "e/text"])
    assert not any(found[kind] for kind in DETERMINISTIC)


def test_near_by_nearly_any_cosine_is_refused_before_memory_is_full(data, checked, monkeypatch):
    monkeypatch.setattr(leaks, "MOST", 1_000)
    with pytest.raises(DataError, match="ask for a higher one"):
        checked(data.save(), near=0.01)


def test_without_cleanlab_all_else_is_looked_at_and_the_extra_is_named(data, checked, monkeypatch):
    data.images[20], data.Y[10], data.Y[20] = data.images[10], [1, 0], [0, 1]
    monkeypatch.setitem(sys.modules, "cleanlab.multilabel_classification.filter", None)
    found, warnings = checked(data.save())
    assert len(found["duplicate"]) == 1
    assert not found["label"]
    assert any("encode-once[audit]" in line for line in warnings)


def test_a_table_that_changed_since_is_refused(data, tmp_path, checked):
    run, _ = fit(data.save(), "linear", split="kfold:3", run=tmp_path / "run")
    data.Y[5] ^= True
    data.save()
    with pytest.raises(DataError, match="fit it again"):
        audit(run)


def test_rows_of_equal_ids_are_told_apart_by_content_and_rows_of_equal_content_by_id(data, checked):
    data.images[590], data.Y[590] = data.images[3], data.Y[3]
    data.images[591], data.Y[591] = data.images[592], data.Y[592]
    store = data.save()
    (table,) = store.tables()
    table.ids[:2] = [table.ids[595]] * 2
    store.save(table)
    found, _ = checked(store, split="tail:10", groups="none")
    assert [(one.id, one.other) for one in found["leak"]] == [("train-590", "train-3")]


def test_the_table_of_findings_has_a_row_each_the_surest_kind_first(data, tmp_path):
    data.Y[::30] ^= True
    data.images[20], data.Y[10], data.Y[20] = data.images[10], [1, 0], [0, 1]
    data.captions[10] = 'a "fine", long\ncaption'
    run, _ = fit(data.save(), "linear", split="kfold:3", groups="none", run=tmp_path / "run")
    found, _ = audit(run)
    write(found, tmp_path / "audit.csv")
    with open(tmp_path / "audit.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["kind"] for row in rows] == [one.kind for one in found]
    order = [KINDS.index(one.kind) for one in found]
    assert order == sorted(order)
    assert [*rows[0]] == ["kind", "score", "id", "other", "label", "given", "suggested", "why", "image",
                          "other_image", "caption"]  # fmt: skip
    assert data.captions[10] in {row["caption"] for row in rows}
    assert f"{sum(one.kind == 'label' for one in found)} label" in summary(found)


def test_of_nothing_found_the_header_is_written(tmp_path):
    write([], tmp_path / "audit.csv")
    assert (tmp_path / "audit.csv").read_text().startswith("kind,score,id,other,")
    assert (tmp_path / "audit.csv").read_text().count("\n") == 1
    assert summary([]) == "nothing was found"
