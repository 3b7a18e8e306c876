import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encode_once.cache import content_key
from encode_once.cache.keys import pack
from encode_once.classify import fit
from encode_once.classify.data.rows import match
from encode_once.classify.runs.predict import evaluate

pytestmark = pytest.mark.usefixtures("fit_once")
LETTERS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), max_size=12)


def keys_of(rows):
    return pack(content_key(content.encode()) for content, _ in rows)


@given(rows=LETTERS, others=LETTERS)
def test_rows_are_matched_by_content_and_among_equal_contents_by_name(rows, others):
    names, other_names = ([name for _, name in table] for table in (rows, others))
    positions = match(keys_of(rows), names, keys_of(others), other_names)
    matched = np.flatnonzero(positions >= 0)
    assert len(set(positions[matched])) == len(matched)
    pairs = [(rows[row], others[positions[row]]) for row in matched]
    assert all(row[0] == other[0] for row, other in pairs)
    for content in "abc":
        count = sum(row[0] == content for row in rows), sum(row[0] == content for row in others)
        assert sum(row[0] == content for row, _ in pairs) == min(count)
    for row in set(rows):
        assert sum(pair == (row, row) for pair in pairs) == min(rows.count(row), others.count(row))


def test_a_train_image_with_another_caption_is_not_evaluated(filled, tmp_path):
    store = filled()
    run, metrics = fit(store, "linear", features=["e/image"], split="tail:100", run=tmp_path / "run")
    (table,) = store.tables()
    table.captions = [f"{caption} Indeed." for caption in table.captions]
    table.caption_keys = pack(content_key(caption.encode()) for caption in table.captions)
    table.ids = [f"other-{name}" for name in table.ids]
    evaluation = evaluate(run, store, table)
    warnings = evaluation.warnings
    assert evaluation.metrics["n"] == 100
    assert evaluation.metrics["micro_f1"] == metrics["micro_f1"]
    assert any(line.startswith("300 of 400 rows are left out") for line in warnings)


def test_without_images_a_row_is_identified_by_its_first_caption(filled, tmp_path):
    store = filled()
    (table,) = store.tables()
    table.image_keys = np.zeros_like(table.image_keys)
    store.save(table)
    run, _ = fit(store, "linear", features=["e/text"], split="tail:100", run=tmp_path / "run")
    table.caption_keys = table.caption_keys[np.r_[350:400, 50:400]]
    # The 100 eval rows, and 50 rows that now have captions of eval rows.
    assert evaluate(run, store, table).metrics["n"] == 150


def test_a_run_has_seen_the_rows_that_it_was_tuned_on(filled, tmp_path):
    store = filled()
    run, _ = fit(store, "linear", split="tail:100", run=tmp_path / "inner")
    assert not run.has_seen(run.eval.keys).any()
    assert run.has_seen(run.validation.keys).all()
    run, _ = fit(store, "linear", split="tail:100", tune_on="eval", run=tmp_path / "eval")
    assert run.has_seen(run.eval.keys).all()
