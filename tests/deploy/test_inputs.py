"""What a `Predictor` is called with, as rows."""

import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encode_once.cache import UsageError
from encode_once.classify.data.learned import texts_of
from encode_once.deploy.inputs import EXPECTED, ImageFile, ImageInMemory, input_rows

NAMES = ["a.jpg", "b.jpg"]
FILES = [ImageFile(name) for name in NAMES]


@pytest.mark.parametrize("dtype", ["U", object, np.dtypes.StringDType()])
def test_an_array_of_texts_is_a_list(dtype):
    names = np.array(NAMES, dtype)
    assert input_rows(names, names, {}).images == FILES
    assert input_rows(names, names, {}).captions == [NAMES]
    assert input_rows(names[0], names[0], {}).images == FILES[:1]
    assert input_rows(np.array(NAMES[0], dtype), None, {}).images == FILES[:1]
    assert input_rows(None, np.array(NAMES[0], dtype), {}).captions == [NAMES[:1]]
    assert input_rows(None, np.array([NAMES, NAMES[::-1]], dtype), {}).captions == [NAMES, NAMES[::-1]]
    assert input_rows(pd.Series(names), None, {}).images == FILES


def test_arrays_of_other_objects_are_lists_too():
    assert input_rows(np.array([b"x", b"yz"]), None, {}).images == [ImageInMemory(b"x"), ImageInMemory(b"yz")]
    objects = np.array([None, "a.jpg", np.zeros((2, 3), np.uint8)], dtype=object)
    absent, file, pixels = input_rows(objects, None, {}).images
    assert (absent, file) == (None, FILES[0])
    assert pixels.pixels.size == (3, 2)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((4, 5), np.uint8), ((4, 5, 3), np.uint8), ((4, 5, 4), np.uint8), ((4, 5), np.uint16)],
)
def test_the_shapes_that_are_accepted_are_those_that_the_message_names(shape, dtype):
    (image,) = input_rows(np.zeros(shape, dtype), None, {}).images
    assert image.pixels.size == (5, 4)
    words = f"h, w, {shape[2]}" if len(shape) == 3 else "h, w"
    assert f"({words})" in EXPECTED
    assert np.dtype(dtype).name in EXPECTED
    with pytest.raises(UsageError, match="or \\(h, w\\) of uint16; multiply"):
        input_rows(np.zeros(shape, np.float32), None, {})


def test_an_open_file_is_one_image(tmp_path):
    """It was taken for a list of its lines, each of which was an image that cannot be decoded."""
    (tmp_path / "a.jpg").write_bytes(b"x\ny\n")
    with (tmp_path / "a.jpg").open("rb") as file:
        assert input_rows(file, None, {}).images == [ImageInMemory(b"x\ny\n")]
    pair = [io.BytesIO(b"x"), io.BytesIO(b"y\n")]
    assert input_rows(pair, ["a", "b"], {}).images == [ImageInMemory(b"x"), ImageInMemory(b"y\n")]
    assert input_rows(io.BytesIO(), None, {}).images == [ImageInMemory(b"")]  # an empty one, not a mistake
    part = io.BytesIO(b"xy")
    part.seek(1)
    assert input_rows(part, None, {}).images == [ImageInMemory(b"y")]
    with pytest.raises(UsageError, match=r"image 1 is a file that was read to its end before: call its seek"):
        input_rows([io.BytesIO(b"x"), part], None, {})
    with pytest.raises(UsageError, match="image 0 is a closed file: open it again"):
        input_rows(file, None, {})
    with (tmp_path / "a.jpg").open() as text, pytest.raises(UsageError, match="image 0 is TextIOWrapper"):
        input_rows(text, None, {})


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ({"image": "a.jpg", "caption": "a dog"}, "image 0 is dict: an image is a path"),
        ("https://example.org/a.jpg", "image 0 is a URL, which is not read: pass the bytes of its file"),
    ],
)
def test_what_looks_like_an_image_but_is_none_is_refused(image, message):
    with pytest.raises(UsageError, match=message):
        input_rows(image, None, {})


def test_a_missing_cell_of_pandas_is_no_input():
    images = pd.Series(["a.jpg", None], dtype="string")
    rows = input_rows(images, images.str.upper(), {})
    assert rows.images == [FILES[0], None]
    assert rows.captions == [["A.JPG", ""]]


def test_cells_with_lists_of_captions_are_several_captions():
    frame = pd.DataFrame({"image": NAMES, "captions": [["a", "b"], np.array(["c"])], "text": [None, "d"]})
    assert input_rows(frame, None, {}).captions == [["a", "c"], ["b", "d"]]


@pytest.mark.parametrize("name", ["caption", "image", "id", "price"])
def test_columns_of_the_same_name_are_refused(name):
    """Two of captions were taken for none."""
    columns = ["image", "caption", "id", "price", name, "other", "other"]
    frame = pd.DataFrame([["x"] * len(columns)], columns=columns)
    with pytest.raises(UsageError, match=f"the DataFrame has several columns '{name}': rename all but one"):
        input_rows(frame, None, {}, ["price"])
    unused = frame.loc[:, [column != name for column in columns]].assign(image="a.jpg")
    assert input_rows(unused, None, {}).images == FILES[:1]


COLUMNS = {
    "whole": ([2019, 2020], ["2019", "2020"]),
    "whole or missing": ([2019, None], ["2019", ""]),
    "numbers": ([0.5, 2.0], ["0.5", "2"]),
    "yes or no": ([True, False], ["True", "False"]),
    "yes, no or missing": ([True, None], ["True", ""]),
    "nullable": (pd.array([7, None], "Int64"), ["7", ""]),
    "infinite": ([float("inf"), 1e300], ["inf", str(int(1e300))]),
    "words": (["a", None], ["a", ""]),
}


@pytest.mark.parametrize(("cells", "texts"), COLUMNS.values(), ids=COLUMNS)
def test_cells_are_those_of_a_csv_file(cells, texts):
    frame = pd.DataFrame({"id": cells, "x": cells})
    rows = input_rows(frame, None, {}, {"x", "absent"})
    assert texts_of("column:x", rows.texts) == rows.ids == texts
    assert texts_of("column:absent", rows.texts) == ["", ""]


@given(st.lists(st.one_of(st.none(), st.integers(-(10**6), 10**6)), min_size=1))
def test_whole_numbers_are_those_that_were_written(numbers):
    cells = ["" if number is None else str(number) for number in numbers]
    content = "id,x\n" + "".join(f"{row},{cell}\n" for row, cell in enumerate(cells))
    frame = pd.read_csv(io.StringIO(content))
    assert texts_of("column:x", input_rows(frame, None, {}, {"x"}).texts) == cells


def test_captions_of_a_row_are_joined_for_learned_features_and_columns_are_absent_without_a_frame():
    rows = input_rows(None, [["a dog", "a cat"], None, "a bird"], {}, {"x"}).texts
    assert texts_of("tfidf:20", rows) == ["a dog a cat", "", "a bird"]
    assert texts_of("column:x", rows) == ["", "", ""]
