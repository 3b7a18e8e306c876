"""Tables are read exactly, character by character; errors name file and line."""

import csv
import io
import os
import re
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encode_once.cache.errors import DataError, MissingDataError
from encode_once.extract import ReadOptions, readers
from encode_once.extract.readers.missing import MISSING

SHARED = Path(os.environ.get("COCO19", "../shared"))
HEADER = "ImageID,Labels,Caption\n"


def read_folder(data, label_separator=None):
    return readers.read(data, ReadOptions(label_separator=label_separator))


def read_table(path, images, *, label_separator=None):
    by_split, warnings = readers.read(path, ReadOptions(images=images, label_separator=label_separator))
    return next(iter(by_split.values())), warnings


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.fixture
def train(tmp_path):
    """Writes a train.csv and returns its path."""
    return lambda text: write(tmp_path / "train.csv", text)


def add_images(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def read_text(text: str, folder: str):
    return read_table(write(Path(folder) / "table.csv", text), None)


def error(path: Path, **options) -> str:
    """The message of the error that reading raises, without its folder."""
    with pytest.raises(DataError) as caught:
        read_table(path, None, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{path.parent}{os.sep}", "")


# ------------------------------------------------------------------------------------- well-formed tables


def test_a_well_formed_table_is_read_according_to_rfc_4180(train):
    path = train(
        '\ufeff caption ,"Split",imageid,LABELS\r\n'
        '"a ""red"" car,\r\nparked",x,0.jpg,1 19\r\n'
        "\r\n"
        ' two dogs ,"say ""y""","1.jpg",  2   2 1 \r\n'
    )
    table, warnings = read_table(path, None)
    assert warnings == [f"{path}:2: no row has an image file: '0.jpg' is not there, nor any other image"]
    assert table.source == str(path.resolve())
    assert table.ids == ["0.jpg", "1.jpg"]
    assert table.images == ["", ""]
    assert table.captions == ['a "red" car,\r\nparked', " two dogs "]
    assert table.labels == [("1", "19"), ("2", "1")]
    assert (table.id_column, table.label_separator) == ("imageid", " ")
    assert table.columns == {"Split": ["x", 'say "y"']}
    assert table.image_keys is None
    assert table.caption_keys is None


def test_further_captions_are_in_numbered_columns(train):
    path = train("ImageID,caption 3,Caption,Caption10,CAPTION2,Captioned\n0,c,a,d,b,x\n1,, ,,e,y\n")
    table, _ = read_table(path, None)
    assert table.captions == ["a", "e"]  # the first column with this name
    assert table.more_captions == [["b", ""], ["c", ""], ["d", ""]]
    assert table.columns == {"Captioned": ["x", "y"]}


def captions_of(special: str, without: str = ""):
    """Lists of captions in which the special characters are frequent."""
    character = st.characters(exclude_categories=["Cs"], exclude_characters="\0" + without)
    texts = st.text(st.sampled_from(special) | character).filter(lambda text: text.strip() not in MISSING)
    return st.lists(texts, min_size=1, max_size=8)


@given(captions_of('",\r\n ab1'), st.sampled_from(["", "\ufeff"]), st.booleans())
def test_the_output_of_a_csv_writer_is_read_back(captions, mark, caption_last):
    captions = ["a", *captions]
    order = [0, 1, 2] if caption_last else [2, 0, 1]
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    for row in [("ImageID", "note", "Caption"), *((str(i), c, c) for i, c in enumerate(captions))]:
        writer.writerow([row[i] for i in order])
    with tempfile.TemporaryDirectory() as folder:
        table, _ = read_text(mark + file.getvalue(), folder)
    assert table.ids == [str(i) for i in range(len(captions))]
    assert table.captions == [c if c.strip() else "" for c in captions]
    assert table.columns == {"note": captions}


def test_a_caption_may_be_longer_than_the_default_limit_of_csv(train):
    caption = '"x", ' * 50_000
    table, warnings = read_table(train('ImageID,Caption\n0,"' + caption.replace('"', '""') + '"\n'), None)
    assert table.captions == [caption]
    assert warnings == []


# ---------------------------------------------------------------------------------------- unescaped quotes


def csv_captions(text: str) -> list[str] | None:
    """The captions if the text is well-formed CSV."""
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except csv.Error:
        return None
    return [row[-1] for row in rows[1:]] if len({len(row) for row in rows}) == 1 else None


@given(captions_of('"""",, ab1', without="\r\n"), st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_unescaped_captions_are_read_literally_unless_they_are_csv(captions, labelled, end):
    captions = ["a", *captions]
    text = "".join(f'{i}.jpg,{"1 2," * labelled}"{c}"{end}' for i, c in enumerate(captions))
    text = f"ImageID,{'Labels,' * labelled}Caption{end}{text}"
    expected = csv_captions(text)
    with tempfile.TemporaryDirectory() as folder:
        table, warnings = read_text(text, folder)
    assert any("not well-formed CSV" in line for line in warnings) == (expected is None)
    by_row = [(csv_captions(f'x,"{c}"\n0,"{c}"\n') or [c])[0] for c in captions]
    assert table.captions == [c if c.strip() else "" for c in expected or by_row]
    if expected is None:
        assert table.ids == [f"{i}.jpg" for i in range(len(captions))]
        assert table.labels == ([("1", "2")] * len(captions) if labelled else None)


@given(st.text(st.sampled_from('ab,,""\n\n'), min_size=5, max_size=40))
def test_only_punctuation_is_ever_dropped(body):
    with tempfile.TemporaryDirectory() as folder:
        try:
            table, _ = read_text(f'ImageID,Caption\n0,"x"\n{body}', folder)
        except DataError:
            return
    text = "".join(cell for row in zip(table.ids, table.captions, strict=True) for cell in row)
    assert re.sub('[,"\n]', "", text) == "0x" + re.sub('[,"\n]', "", body)


def test_unescaped_quotes(train):
    path = train(
        HEADER
        + '0.jpg,1 2,"A sign reads "stop""\n'
        + '1.jpg,1,"a ""doubled"" and, "single" quote"\n'
        + '2.jpg,2,"over "two"\n\nlines" /"\n'
        + "\n"
        + "3.jpg,1,no quotes, one comma\n"
        + '"4.jpg","1","all "quoted""\n'
        + "5.jpg,1,\n"
        + '6.jpg,1,"the end""\n\n'
    )
    table, warnings = read_table(path, None)
    assert table.ids == [f"{i}.jpg" for i in range(7)]
    assert table.labels == [("1", "2"), ("1",), ("2",), ("1",), ("1",), ("1",), ("1",)]
    assert table.captions == [
        'A sign reads "stop"',
        'a ""doubled"" and, "single" quote',
        'over "two"\n\nlines" /',
        "no quotes, one comma",
        'all "quoted"',
        "",
        'the end"',
    ]
    assert len(warnings) == 3
    assert "no row has an image file" in warnings[2]
    assert f"{path}:2: not well-formed CSV" in warnings[0]
    assert f"captions over several lines: 1 (first: {path}:4)" in warnings[0]
    assert f"rows with an empty caption: 1 (first: {path}:10, id '5.jpg')" in warnings[1]


@pytest.mark.parametrize(
    ("rows", "line", "what"),
    [
        ('0,1,"a "b" c"\n1,1\n', 3, "either a faulty row, or part of the caption of line 2"),
        ('0,1,"a "b" c"\n1,1,c\n2,1\n', 4, "no row begins here"),
        ('0,1,"a "b" c"\n1,1,c\n2,1,a "b" c\n', 4, "no row begins here"),
        ('0,1,"a "b" c\n1,1,"b"\n', 3, "a row seems to begin inside the caption of line 2"),
        ('0,1,"a "b" c"\n1,1,d "e" f"\n', 3, "either a faulty row, or part of the caption of line 2"),
        ('0,1,"a "b" c"\n1,1,"never\nclosed\n', 3, "closing quote is missing"),
        ('0,1,"a "b" c"\n1,1,"\n', 3, "closing quote is missing"),
    ],
)
def test_a_table_that_fits_neither_grammar_is_an_error(train, rows, line, what):
    message = error(train(HEADER + rows))
    assert message.startswith(f"train.csv:{line}: ")
    assert what in message
    assert "CSV is well-formed until line 2: " in message
    assert "save the table with a CSV writer" in message


def test_unescaped_quotes_need_the_caption_in_the_last_column(train):
    message = error(train('Caption,ImageID\n"fine",0\n"a "b" c",1\n'))
    assert message.startswith("train.csv:3: not well-formed CSV")
    assert "only where captions are the last column" in message


# --------------------------------------------------------------------------------- faulty files


@pytest.mark.parametrize(
    ("content", "starts", "holds"),
    [
        (b"", "train.csv:1: ", "the table is empty"),
        (b"\n\n", "train.csv:1: ", "the table is empty"),
        (b'"ImageID,Caption\n0,a\n', "train.csv:1: ", "the header cannot be read"),
        (b"\nImageID,Caption\n", "train.csv:2: ", "no rows"),
        (b"\nImageID,Caption\r\n0,\xc3\xa9\r\n1,\xe9\r\n", "train.csv:4: ", "save the table as UTF-8"),
        (b"\xef\xbb\xbfImageID,Caption\n\xe9,a\n", "train.csv:2: ", "save the table as UTF-8"),
        ("ImageID,Caption\n0,a\n".encode("utf-16-le"), "train.csv:1: ", "save the table as UTF-8"),
        (b"ImageID,a,a\n0,b,c\n", "train.csv:1: ", "two columns share the name 'a'"),
        (b"id,image\n0,a\n1,b\n0,c\n", "train.csv:4: ", "the id '0' is already used by train.csv:2, for"),
        (b'id,image\n0,"a\nb"\n1,b\n1,c\n', "train.csv:5: ", "the id '1' is already used by train.csv:4"),
        (b"ImageID,Caption\n0,a\n ,b\n", "train.csv:3: ", "the row has no id"),
        (b"ImageID,Labels\n0,1\n", "train.csv: ", "neither captions nor images"),
        (b"ImageID,Caption\n0, \n", "train.csv: ", "neither captions nor images"),
    ],
)  # fmt: skip
def test_the_error_of_a_faulty_table_names_file_and_line(train, content, starts, holds):
    message = error(train(content))
    assert message.startswith(starts)
    assert holds in message


def test_a_missing_table_or_folder_is_an_error(tmp_path, train):
    with pytest.raises(MissingDataError, match=r"nowhere\.csv: no such file"):
        read_table(tmp_path / "nowhere.csv", None)
    with pytest.raises(MissingDataError, match="nowhere: no such image folder"):
        read_table(train("ImageID\n0\n"), tmp_path / "nowhere")


# ------------------------------------------------------------------------------------- labels and captions


@pytest.mark.parametrize(
    ("cells", "option", "labels", "separator"),
    [
        (["1  2\t3", "3 3 1"], None, [("1", "2", "3"), ("3", "1")], " "),
        (["traffic light | car|", "stop sign"], None, [("traffic light", "car"), ("stop sign",)], "|"),
        (["hot dog;cat; cat", "cat"], None, [("hot dog", "cat"), ("cat",)], ";"),
        (["a|b;c", "d"], ";", [("a|b", "c"), ("d",)], ";"),
        (["a|b c", "d"], " ", [("a|b", "c"), ("d",)], " "),
        (["hot dog/cat", "cat"], "/", [("hot dog", "cat"), ("cat",)], "/"),
        (["hot dog", "cat"], "|", [("hot dog",), ("cat",)], "|"),
    ],
)
def test_labels(train, cells, option, labels, separator):
    rows = "".join(f"{i},{cell},a\n" for i, cell in enumerate(cells))
    table, warnings = read_table(train(HEADER + rows), None, label_separator=option)
    assert table.labels == labels
    assert table.label_separator == separator
    assert warnings == []


def test_a_cell_that_is_written_unlike_the_others_is_named_and_leaves_them_as_they_are(train):
    path = train(HEADER + "0,a,x\n1,a;b,x\n2,a|b,x\n3,a;b,x\n4,b,x\n")
    table, warnings = read_table(path, None)
    assert table.labels == [("a",), ("a", "b"), ("a", "b"), ("a", "b"), ("b",)]
    assert table.label_separator == ";"
    (line,) = warnings
    assert f"unlike the others, which are separated by ';': 1 (first: {path}:4" in line
    assert "label separator is empty" in error(path, label_separator="")


def test_rows_without_labels_or_captions_are_kept_and_counted(train):
    path = train(HEADER + '0,1,"a\nb"\n1, ,b\n2,2,\n3,,"\n "\n')
    table, warnings = read_table(path, None)
    assert table.labels == [("1",), (), ("2",), ()]
    assert table.captions == ["a\nb", "b", "", ""]
    assert warnings == [
        f"rows without a label: 2 (first: {path}:4, id '1'); they are kept as negatives of every class",
        f"rows with an empty caption: 2 (first: {path}:5, id '2'); they are kept without a caption",
    ]


# ------------------------------------------------------------------------------------------------- images


def test_images_are_found_by_name_or_else_by_stem(tmp_path, train):
    images = add_images(
        tmp_path / "pictures", "0.jpg", "1.PNG", "v1.2.jpeg", "a/b.jpg", "a/c.webp", "raw.xyz"
    )
    add_images(images, "3.png", "0.txt")
    path = train("ImageID\n0\n1\nv1.2\na/b.jpg\n./a/c\nraw.xyz\n3.jpg\n4\nnone/5.jpg\n")
    table, warnings = read_table(path, images)
    names = ["0.jpg", "1.PNG", "v1.2.jpeg", "a/b.jpg", "a/c.webp", "raw.xyz", "3.jpg", "4", "none/5.jpg"]
    names[6] = "3.png"  # as a person would find it
    assert table.images == [str(images.resolve() / name) for name in names]
    assert [Path(image).is_file() for image in table.images] == [True] * 7 + [False] * 2
    assert table.captions == [""] * 9
    assert table.labels is None
    assert warnings == [
        f"images found with another suffix: 1 (first: {path}:8, '3.jpg' is '3.png'); --images FOLDER looks "
        "only there",
        f"rows without an image file: 2 (first: {path}:9, id '4'); '4' is not there; the nearest file is "
        "'v1.2.jpeg'",
    ]


def test_a_stem_that_two_images_share_is_an_error(tmp_path, train):
    images = add_images(tmp_path / "images", "0.jpg", "1.png", "1.jpg")
    with pytest.raises(DataError, match=r"train\.csv:3: '1' matches 1\.jpg and 1\.png in"):
        read_table(train("ImageID\n0\n1\n"), images)
    table, _ = read_table(train("ImageID\n0\n1.png\n"), images)
    assert table.images[1] == str(images.resolve() / "1.png")


@pytest.mark.parametrize("stray", ["../../x.jpg", "/etc/passwd", "a/../../../x.jpg", "link.jpg", "up/x.jpg"])
@pytest.mark.parametrize("column", ["ImageID", "image"])
def test_an_image_must_not_lead_out_of_the_data_folder(tmp_path, stray, column):
    images = add_images(tmp_path / "x" / "images", "0.jpg")
    add_images(tmp_path, "x.jpg")
    (images / "link.jpg").symlink_to(tmp_path / "x.jpg")
    (images / "up").symlink_to(tmp_path)
    path = write(tmp_path / "x" / "train.csv", f"{column},Labels\n0.jpg,a\n{stray},b\n")
    outside = "/etc" if stray == "/etc/passwd" else str(tmp_path.resolve())
    expected = (
        f"train.csv:3: the image '{stray}' leads out of the data folder {tmp_path / 'x'}, to {outside};"
    )
    with pytest.raises(DataError, match=re.escape(expected)):
        readers.read(path)
    allowed = readers.read(path, ReadOptions(images=[images, outside]))[0]["train"].images[1]
    assert Path(allowed).resolve() == Path(outside) / Path("passwd" if outside == "/etc" else "x.jpg")


def test_a_link_that_the_user_names_may_lead_anywhere(tmp_path):
    add_images(tmp_path / "disk", "0.jpg")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "images").symlink_to(tmp_path / "disk")
    path = write(tmp_path / "x" / "train.csv", "ImageID,Labels\n0.jpg,a\n")
    with pytest.raises(DataError, match="leads out of the data folder"):
        readers.read(path)
    table, _ = read_table(path, tmp_path / "x" / "images")
    assert table.images == [str(tmp_path / "disk" / "0.jpg")]


def test_a_path_to_another_folder_of_the_data_is_followed(tmp_path):
    add_images(tmp_path, "images/0.jpg", "x.jpg")
    (tmp_path / "images" / "inner.jpg").symlink_to(tmp_path / "x.jpg")
    path = write(tmp_path / "train.csv", "ImageID\n0\n../x.jpg\ninner.jpg\n")
    table, _ = read_table(path, tmp_path / "images")
    assert [Path(image).resolve().name for image in table.images] == ["0.jpg", "x.jpg", "x.jpg"]


def test_ids_that_match_no_image_are_an_error(tmp_path, train):
    images = add_images(tmp_path / "images", "img_0.jpg")
    path = train("ImageID,Caption\n0,a\n1,b\n")
    nearest = r"train\.csv:2: no row has an image file: '0' is not there; the nearest file is 'img_0\.jpg'"
    with pytest.raises(DataError, match=nearest):
        read_table(path, images)
    (images / "img_0.jpg").unlink()
    with pytest.raises(DataError, match=r"no row has an image file: '0' is not there, nor any other image"):
        read_table(path, images)


# ------------------------------------------------------------------------------------------------- folders


def test_a_folder_with_both_tables(tmp_path):
    write(tmp_path / "train.csv", HEADER + "0.jpg,hot dog|cat,a\n1.jpg,,b\n")
    write(tmp_path / "test.csv", HEADER + "2.jpg,hot dog,c\n3.jpg,cat,d\n")
    add_images(tmp_path / "images", "9.jpg")
    data = add_images(tmp_path / "data", "0.jpg", "1.jpg", "2.jpg", "4.jpg", "5.jpg", ".6.jpg", "notes.txt")
    tables, warnings = read_folder(tmp_path)
    assert list(tables) == ["train", "test"]
    assert tables["train"].images == [str(data.resolve() / name) for name in ("0.jpg", "1.jpg")]
    assert tables["test"].labels == [("hot dog",), ("cat",)]
    assert {table.label_separator for table in tables.values()} == {"|"}
    assert [re.sub(r" \(first.*", "", line) for line in warnings] == [
        "rows without a label: 1",
        "rows without an image file: 1",
        f"{data}: images that no row names: 2 (such as '4.jpg'); they are not encoded",
    ]
    assert f"{tmp_path / 'test.csv'}:3, id '3.jpg'" in warnings[1]


def test_an_unlabelled_test_table_alone_and_without_images(tmp_path):
    write(tmp_path / "test.csv", "ImageID,Caption\n0,a\n")
    tables, warnings = read_folder(tmp_path, label_separator="|")
    assert list(tables) == ["test"]
    assert (tables["test"].labels, tables["test"].label_separator) == (None, "|")
    assert tables["test"].images == [""]
    assert warnings == []


def test_a_folder_without_tables_is_an_error(tmp_path):
    with pytest.raises(
        MissingDataError, match=r"the folder is empty; give a table .* a folder with train\.csv"
    ):
        read_folder(tmp_path)


# ------------------------------------------------------------------------------------------- the real tables

needs_data = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"no folder {SHARED}: COCO19 says where the data is"
)


@pytest.mark.real
@needs_data
def test_the_tables_of_the_competition_are_read_to_the_character():
    folder = SHARED / "coco19"
    tables, warnings = read_folder(folder)
    train, test = tables["train"], tables["test"]
    assert train.ids == [f"{i}.jpg" for i in range(30_000)]
    assert test.ids == [f"{i}.jpg" for i in range(30_000, 40_000)]
    assert test.labels is None
    # Every caption is quoted, so the rows written plainly are the file again, byte for byte.
    rows = zip(train.ids, train.labels, train.captions, strict=True)
    written = HEADER + "".join(f'{i},{" ".join(labels)},"{caption}"\n' for i, labels, caption in rows)
    assert written.encode() == (folder / "train.csv").read_bytes()
    rows = zip(test.ids, test.captions, strict=True)
    written = "ImageID,Caption\n" + "".join(f'{i},"{caption}"\n' for i, caption in rows)
    assert written.encode() == (folder / "test.csv").read_bytes()

    assert sum('"' in caption for caption in train.captions) == 82
    assert sum('"' in caption for caption in test.captions) == 29
    assert sum("\n" in caption for caption in train.captions) == 4
    assert sum(caption.endswith("/") for caption in train.captions) == 4
    counts = Counter(int(label) for labels in train.labels for label in labels)
    assert [counts[label] for label in range(1, 20)] == [
        22797, 1164, 4365, 1272, 1132, 1395, 1221, 2210, 1042, 1471,
        604, 0, 605, 252, 1934, 1099, 1430, 1525, 1020,
    ]  # fmt: skip
    assert counts.total() == 46_538
    sizes = Counter(map(len, train.labels))
    assert [sizes[n] for n in range(1, 8)] == [19_377, 6_651, 2_563, 978, 339, 81, 11]
    assert len(warnings) == 4
    assert all("no row has an image file" in line for line in warnings[2:])
    assert f"{folder / 'train.csv'}:554: " in warnings[0]
    assert f"captions over several lines: 4 (first: {folder / 'train.csv'}:1016)" in warnings[0]
    assert f"{folder / 'test.csv'}:130: " in warnings[1]


@pytest.mark.real
@needs_data
def test_the_well_formed_part_has_the_same_captions():
    tables, warnings = read_folder(SHARED / "coco19-9k")
    part = tables["train"]
    whole = read_folder(SHARED / "coco19")[0]["train"]
    rows = [*range(8_000), *range(27_000, 28_000)]
    assert warnings == []
    assert part.ids == [whole.ids[row] for row in rows]
    assert part.labels == [whole.labels[row] for row in rows]
    # The part was written with runs of white space made one space (133 of its captions).
    assert part.captions == [" ".join(whole.captions[row].split()) for row in rows]
    assert part.images == [str((SHARED / "coco19-9k/data").resolve() / name) for name in part.ids]
