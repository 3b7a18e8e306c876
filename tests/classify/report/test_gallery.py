import numpy as np
import pytest

from encode_once.classify import fit, load_run
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.report.checks import Evidence
from encode_once.classify.report.gallery import CAPTION, chosen, gallery
from encode_once.classify.runs.retune import evaluate_kept
from tests.classify.report.samples import make_run
from tests.conftest import vectors_file


def test_rows_with_doubted_labels_and_right_rows_and_the_worst_of_each_class_are_chosen():
    run = make_run(decision=DecisionSpec("at:0.5"))
    evaluation = evaluate_kept(run)
    doubted = np.zeros_like(run.eval.labels)
    doubted[[5, 9], [0, 2]] = True
    rows = chosen(evaluation, doubted, 60)
    assert len(rows) == len(set(rows)) == 60
    assert {5, 9} < set(rows)
    wrong = run.eval.labels != evaluation.predictions
    assert sum(not wrong[row].any() for row in set(rows) - {5, 9}) == 6  # a tenth
    for k in range(3):
        errors = np.where(wrong[:, k], np.abs(run.eval.labels[:, k] - run.eval.scores[:, k]), -1)
        assert set(np.argsort(-errors)[:10].tolist()) <= set(rows)


def test_fewer_rows_than_the_limit_are_all_shown():
    evaluation = evaluate_kept(make_run(decision=DecisionSpec("at:0.5")))
    rows = chosen(evaluation, np.zeros_like(evaluation.predictions), 10_000)
    wrong = (evaluation.rows.labels != evaluation.predictions).any(axis=1)
    assert set(np.flatnonzero(wrong).tolist()) <= set(rows)


@pytest.fixture
def fitted(folder, run, tmp_path, fit_once):
    """A run on rows with images and captions."""
    data = folder(60)
    vectors_file(tmp_path / "vectors.txt")
    run("extract", "--encoder", "glove-100", "--weights", "vectors.txt", "--data", data)
    return fit("store", "linear", run="run", split="tail:20")[0]


def test_images_and_captions_are_of_the_rows(fitted):
    sources = []

    def thumbnail(source, key):
        sources.append((source, key))
        return b"jpeg"

    loaded = load_run(fitted.path)
    rows, _ = gallery(Evidence.of(loaded), thumbnail, 20)
    assert rows
    for item, (source, key) in zip(rows, sources, strict=True):
        assert source.endswith(f"/{item.id}")
        assert item.id == loaded.eval.ids[item.row]
        assert f", {item.id.removesuffix('.png')}" in item.caption
        assert key == loaded.eval.keys[item.row].tobytes()
        assert item.image == "data:image/jpeg;base64,anBlZw=="
        assert len(item.caption) <= CAPTION


def test_what_cannot_be_shown_is_counted(fitted):
    evidence = Evidence.of(fitted)
    rows, warnings = gallery(evidence, lambda source, key: None, 20)
    assert all(item.image == "" and item.has_image for item in rows)
    assert warnings[-1].endswith(
        f"{len(rows)} of {len(rows)} images of the gallery cannot be read, or are others now"
    )
    assert gallery(evidence, lambda source, key: None, 0) == ([], [])


def test_without_the_store_there_is_no_gallery(fitted):
    (fitted.path.parent / "store").rename("elsewhere")
    rows, warnings = gallery(Evidence.of(fitted), lambda source, key: b"", 20)
    assert rows == []
    assert "no gallery" in warnings[0]
