import csv
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from encode_once.cache import DataError, Store, Table, content_key
from encode_once.cache.keys import NO_KEY, pack
from encode_once.classify import fit
from encode_once.classify.audit import cross_split
from encode_once.classify.audit.audit import MIN_POSITIVES, audit
from encode_once.classify.audit.findings import KINDS, summary, write

pytestmark = pytest.mark.usefixtures("fit_once")
CLASSES = ["cat", "dog"]
DETERMINISTIC = {"leak", "duplicate", "near-duplicate"}


class Data:
    """Learnable rows with dissimilar vectors, in which a test plants defects before it saves them."""

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
        keys = [pack(content_key(text.encode()) if text else NO_KEY for text in texts)
                for texts in (self.images, self.captions)]  # fmt: skip
        store, n = Store(self.folder / "store"), len(self.Y)
        for feature, key in zip(("e/image", "e/text"), keys, strict=True):
            stored = store.declare(feature, {"modality": "image" if feature == "e/image" else "caption"})
            new = [row for row in range(n) if key[row].any() and stored.find(key[row : row + 1])[0] < 0]
            first = {key[row].tobytes(): row for row in reversed(new)}
            rows = sorted(first.values())
            with stored.writer(len(rows)) as writer:
                writer.append(key[rows], self.X[rows].astype(np.float16))
        source = self.folder / f"{name}.csv"
        source.touch()
        store.save(
            Table(
                str(source),
                [f"{name}-{row}" for row in range(n)],
                [f"/photos/{row}.jpg" if image else "" for row, image in enumerate(self.images)],
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
    """A function that fits on a store and returns the audit's findings by kind, and its warnings."""

    def check(store, near=0.95, **options):
        options = {"split": "kfold:3", "features": ["e/image"], **options}
        run, _ = fit(
            store, "linear", data=tmp_path / "train.csv", run=tmp_path / "run", overwrite=True, **options
        )
        findings, warnings, _ = audit(run, near)
        cells = [SimpleNamespace(**finding.cells) for finding in findings]
        return {kind: [row for row in cells if row.kind == kind] for kind in KINDS}, warnings

    return check


def test_clean_data_have_no_findings_but_doubtful_labels(data, checked):
    findings, warnings = checked(data.save())
    assert not any(findings[kind] for kind in DETERMINISTIC)
    assert warnings == []


def test_swapped_labels_come_first_with_their_direction(data, checked):
    swapped = {(row, c) for row in range(0, 600, 40) for c in (0, 1)}
    for cell in swapped:
        data.Y[cell] ^= True
    findings = checked(data.save())[0]["label"]
    cells = [(int(row.id.partition("-")[2]), CLASSES.index(row.label)) for row in findings]
    assert len(swapped & {*cells}) >= 27
    assert len(swapped & {*cells[:30]}) >= 24
    for finding, cell in zip(findings, cells, strict=True):
        states = ["absent", "present"] if data.Y[cell] else ["present", "absent"]
        assert [finding.suggested, finding.given] == states
        assert finding.image == f"/photos/{cell[0]}.jpg"
    for state in ("absent", "present"):
        scores = [row.score for row in findings if row.given == state]
        assert scores == sorted(scores, reverse=True)
    assert {findings[0].given, findings[1].given} == {"absent", "present"}


def test_equal_images_with_different_labels_are_compared_with_the_usual_labels(data, checked):
    for row, labels in ((10, [1, 0]), (20, [1, 1]), (30, [1, 1])):
        data.images[row], data.Y[row] = data.images[10], labels
    data.images[41], data.Y[41] = data.images[40], data.Y[40]  # a duplicate with equal labels
    findings, _ = checked(data.save())
    (finding,) = findings["duplicate"]
    assert (finding.id, finding.other, finding.label) == ("train-10", "train-20", "dog")
    assert (finding.given, finding.suggested, finding.score) == ("cat", "cat dog", 1)
    assert finding.why == "the same image as train-20, but labelled otherwise: they differ in dog"
    assert (finding.image, finding.other_image) == ("/photos/10.jpg", "/photos/20.jpg")
    assert not findings["leak"]  # duplicates are kept in one fold
    assert not findings["near-duplicate"]


def test_rows_without_images_are_duplicates_if_their_captions_are_equal(data, checked):
    data.images = [""] * 600
    data.captions[20], data.Y[10], data.Y[20] = data.captions[10], [1, 0], [0, 1]
    findings, warnings = checked(data.save(), features=["e/text"])
    (finding,) = findings["duplicate"]
    assert finding.why == "the same caption as train-10, but labelled otherwise: they differ in cat, dog"
    assert any("near-duplicates are not looked for" in line for line in warnings)


def test_similar_images_with_different_labels_are_reported_from_the_given_cosine_on(data, checked):
    data.X[20] = 2 * data.X[10] + 0.02
    data.Y[10], data.Y[20] = [1, 0], [0, 0]
    cosine = data.X[10] @ data.X[20] / np.linalg.norm(data.X[10]) / np.linalg.norm(data.X[20])
    store = data.save()
    findings, _ = checked(store, groups="e/image:0.95")
    (finding,) = findings["near-duplicate"]
    assert {finding.id, finding.other} == {"train-10", "train-20"}
    assert finding.score == pytest.approx(cosine, abs=1e-3)
    assert "looks like" in finding.why
    assert not findings["leak"]
    findings, _ = checked(store, near=min(cosine + 0.00005, 1), groups="e/image:0.95")
    assert not findings["near-duplicate"]


def test_eval_rows_with_duplicates_among_train_rows_are_leaks_reported_once_each(data, checked):
    for row in (580, 581):
        data.images[row], data.Y[row] = data.images[row - 500], data.Y[row - 500]
    data.X[590], data.Y[590] = 3 * data.X[90], data.Y[90]
    data.X[591], data.Y[591] = data.X[590] / 2, data.Y[90]
    findings, warnings = checked(data.save(), split="tail:50", groups="none")
    leaks = {row.id: (row.other, row.score, row.why) for row in findings["leak"]}
    assert leaks.keys() == {"train-580", "train-581", "train-590", "train-591"}
    assert leaks["train-580"] == (
        "train-80",
        1,
        "an eval row, but the same image as train-80, which the run was fitted on",
    )
    assert leaks["train-591"][0] == "train-90"
    assert "looks like train-90 (cosine 1.000)" in leaks["train-591"][2]
    assert len(findings["leak"]) == 4
    assert not findings["duplicate"]
    assert any("among the 50 eval rows" in line for line in warnings)


def test_duplicates_in_different_folds_are_leaks(data, checked):
    for row in range(100, 140):
        data.images[row], data.Y[row] = data.images[row - 100], data.Y[row - 100]
    store = data.save()
    findings, _ = checked(store, groups="none")
    parted = [row for row in findings["leak"] if int(row.id[6:]) % 100 == int(row.other[6:]) % 100]
    assert 15 < len(parted) == len(findings["leak"]) < 40  # by chance two thirds of the 40
    assert "in fold" in findings["leak"][0].why
    assert not checked(store)[0]["leak"]


def test_rows_of_another_table_with_duplicates_among_train_rows_are_leaks(data, tmp_path, checked):
    data.save()
    test = Data(tmp_path, 30, seed=1)
    test.images[3] = data.images[50]
    test.images[4] = data.images[590]  # an eval row, not fitted on
    test.X[5] = data.X[60] * 1.5
    store = test.save("test", labelled=False)
    findings, _ = checked(store, split="tail:50")
    assert {(row.id, row.other) for row in findings["leak"]} == {
        ("test-3", "train-50"),
        ("test-5", "train-60"),
    }
    assert "in test, but the same image as train-50" in findings["leak"][0].why


def test_rows_of_several_tables_have_their_own_splits(data, tmp_path):
    data.save()
    val = Data(tmp_path, 60, seed=1)
    val.images[3], val.Y[3] = data.images[50], ~data.Y[50]
    run, _ = fit(val.save("val"), "linear", split="tables", groups="none", run=tmp_path / "run")
    findings, *_ = audit(run)
    assert [finding.row.id for finding in findings if finding.kind == "leak"] == ["val-3"]
    (finding,) = [finding for finding in findings if finding.kind == "duplicate"]
    places = {(row.split, row.id) for row in (finding.row, finding.other_row)}
    assert places == {("train", "train-50"), ("val", "val-3")}


def test_a_class_is_rare_if_its_recall_is_uncertain_by_more_than_a_fifth(data, checked):
    assert 1.96 * 0.5 / np.sqrt(MIN_POSITIVES) <= 0.2 < 1.96 * 0.5 / np.sqrt(MIN_POSITIVES - 1)
    data.Y[:, 1] = np.arange(600) < MIN_POSITIVES
    assert not checked(data.save())[0]["rare"]
    data.Y[0, 1] = False
    (finding,) = checked(data.save())[0]["rare"]
    assert (finding.label, finding.given, finding.suggested, finding.id) == ("dog", "24", "25", "")
    assert finding.why.startswith("24 of the 600 rows that thresholds are tuned on have dog")


def test_a_row_without_image_or_vector_has_no_duplicates(data, checked):
    for row in range(0, 40, 2):
        data.images[row] = ""
    findings, _ = checked(data.save(), features=["e/image", "e/text"])
    assert not any(findings[kind] for kind in DETERMINISTIC)


def test_too_many_near_duplicates_are_refused_before_memory_is_full(data, checked, monkeypatch):
    monkeypatch.setattr(cross_split, "MAX_PAIRS", 1_000)
    with pytest.raises(DataError, match="ask for a higher one"):
        checked(data.save(), near=0.01)


def test_without_cleanlab_the_other_checks_run_and_the_extra_is_named(data, checked, monkeypatch):
    data.images[20], data.Y[10], data.Y[20] = data.images[10], [1, 0], [0, 1]
    monkeypatch.setitem(sys.modules, "cleanlab.multilabel_classification.filter", None)
    findings, warnings = checked(data.save())
    assert len(findings["duplicate"]) == 1
    assert not findings["label"]
    assert any("encode-once[audit]" in line for line in warnings)


def test_a_table_that_changed_since_is_refused(data, tmp_path, checked):
    run, _ = fit(data.save(), "linear", split="kfold:3", run=tmp_path / "run")
    data.Y[5] ^= True
    data.save()
    with pytest.raises(DataError, match="fit it again"):
        audit(run)


def test_rows_with_equal_ids_are_distinguished_by_content_and_rows_of_equal_content_by_id(data, checked):
    data.images[590], data.Y[590] = data.images[3], data.Y[3]
    data.images[591], data.Y[591] = data.images[592], data.Y[592]
    store = data.save()
    (table,) = store.tables()
    table.ids = [*2 * [table.ids[595]], *table.ids[2:]]
    store.save(table)
    findings, _ = checked(store, split="tail:10", groups="none")
    assert [(row.id, row.other) for row in findings["leak"]] == [("train-590", "train-3")]


def test_the_file_of_findings_starts_with_the_most_certain_kind(data, tmp_path):
    data.Y[::30] ^= True
    data.images[20], data.Y[10], data.Y[20] = data.images[10], [1, 0], [0, 1]
    data.captions[10] = 'a "fine", long\ncaption'
    run, _ = fit(data.save(), "linear", split="kfold:3", groups="none", run=tmp_path / "run")
    findings, *_ = audit(run)
    write(findings, tmp_path / "audit.csv")
    with open(tmp_path / "audit.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["kind"] for row in rows] == [row.kind for row in findings]
    order = [KINDS.index(row.kind) for row in findings]
    assert order == sorted(order)
    assert [*rows[0]] == ["kind", "score", "id", "other", "label", "given", "suggested", "why", "image",
                          "other_image", "caption"]  # fmt: skip
    assert data.captions[10] in {row["caption"] for row in rows}
    assert f"{sum(row.kind == 'label' for row in findings)} label" in summary(findings)


def test_without_findings_only_the_header_is_written(tmp_path):
    write([], tmp_path / "audit.csv")
    assert (tmp_path / "audit.csv").read_text().startswith("kind,score,id,other,")
    assert (tmp_path / "audit.csv").read_text().count("\n") == 1
    assert summary([]) == "nothing was found"
