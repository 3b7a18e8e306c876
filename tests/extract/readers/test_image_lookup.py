"""Images are found where a person would find them; what is found so is reported, and nothing is guessed."""

import os
import time
from pathlib import Path

import pytest

from encode_once.cache.errors import DataError
from encode_once.extract import ReadOptions
from encode_once.extract.readers import Columns, read, understand


def data(root, files, rows, name="train.csv", header="ImageID,Labels"):
    """A folder with these image files, and a table whose first column has these cells."""
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    (root / name).write_text("\n".join([header, *(f"{row},a" for row in rows)]) + "\n", encoding="utf-8")
    return root


def images(root, **options):
    """The images of all rows, relative to the folder; and the warnings about them."""
    tables, warnings = read(root, ReadOptions(**options))
    base = str((root if root.is_dir() else root.parent).resolve())
    paths = [os.path.relpath(path, base) for table in tables.values() for path in table.images]
    return paths, [line for line in warnings if line.startswith(("images", "rows without an image"))]


LOST = {
    "case": ("0.jpg", "images/0.JPG", "in another case"),
    "suffix": ("0.jpg", "images/0.jpeg", "with another suffix"),
    "format": ("0.jpg", "images/0.png", "with another suffix"),
    "unicode": ("caf\xe9.jpg", "images/cafe\u0301.jpg", "in another Unicode form"),
    "capital folder": ("0.jpg", "Images/0.jpg", "in another folder"),
    "split folder": ("0.jpg", "train_images/0.jpg", "in another folder"),
    "stem in a folder": ("0", "train/0.jpg", "in another folder"),
    "windows": (r"C:\Users\ann\photos\0.jpg", "photos/0.jpg", "in another folder"),
    "backslash": (r"images\0.jpg", "images/0.jpg", "in another folder"),
    "home": ("/home/ann/photos/0.jpg", "mine/photos/0.jpg", "in another folder"),
    "subfolder": ("0.jpg", "a/b/c/0.jpg", "in another folder"),
    "zeros": ("12", "images/0012.png", "with other leading zeros"),
    "zeros and suffix": ("12.png", "images/000012.png", "with other leading zeros"),
    "more zeros": ("0012", "images/12.png", "with other leading zeros"),
    "url": ("a%20b/c%2B1.jpg", "images/a b/c+1.jpg", "by decoding %20 and the like"),
    "blanks": (" 0.jpg ", "images/0.jpg", "without blanks around the name"),
    "all": (r"D:\x\0.JPEG", "any/0.jpg", "with another suffix"),
}


@pytest.mark.parametrize("name", LOST)
@pytest.mark.parametrize("table", ["train.csv", "photos.csv"])
def test_an_image_is_found_where_a_person_would_find_it_and_that_is_reported(tmp_path, name, table):
    reference, file, difference = LOST[name]
    root = data(tmp_path / "x", [file], [reference], table)
    paths, warnings = images(root if table == "train.csv" else root / table)
    assert paths == [file]
    (line,) = warnings
    assert line.startswith(
        f"images found {difference}: 1 (first: {root / table}:2, {reference!r} is {file!r})"
    )


@pytest.mark.parametrize("folder", ["data", "images", "."])
def test_an_image_that_is_where_its_row_says_is_no_guess(tmp_path, folder):
    root = data(tmp_path / "x", [f"{folder}/0.jpg", f"{folder}/a/1.png"], ["0.jpg", "a/1"])
    (root / "decoy").mkdir()
    (root / "decoy" / "0.jpg").touch()
    assert images(root) == ([os.path.normpath(f"{folder}/{name}") for name in ("0.jpg", "a/1.png")], [])


def test_the_full_path_of_an_image_in_the_folder_is_no_guess(tmp_path):
    root = tmp_path / "x"
    data(root, ["photos/0.jpg"], [f"{root}/photos/0.jpg"])
    assert images(root) == (["photos/0.jpg"], [])


def test_each_split_has_its_folder(tmp_path):
    files = [f"{split}/{n}.jpg" for split in ("train", "test") for n in range(3)]
    root = data(tmp_path / "x", files, range(3))
    data(root, [], range(3), "test.csv", "ImageID,Caption")
    paths, warnings = images(root)
    assert paths == files
    assert [line.split(" (")[0] for line in warnings] == ["images found in another folder: 3"] * 2
    chosen = images(root, images=[root / "test", root / "train"])
    named = images(root, images=[f"train={root / 'train'}", f"test={root / 'test'}"])
    assert chosen == named == (files, [])
    swapped, _ = images(root, images=[f"train={root / 'test'}", f"test={root / 'train'}"])
    assert swapped == files[3:] + files[:3]


@pytest.mark.parametrize(
    ("files", "reference", "both"),
    [
        (["a/0.jpg", "b/0.jpg"], "0.jpg", "a/0.jpg, b/0.jpg"),
        (["a/0.JPG", "b/0.Jpg"], "0.jpg", "a/0.JPG, b/0.Jpg"),
        (["images/012.jpg", "images/0012.jpg"], "12.jpg", "images/0012.jpg, images/012.jpg"),
        (["a/0.png", "b/0.gif"], "0.jpg", "a/0.png, b/0.gif"),
    ],
)
def test_two_files_that_fit_equally_well_are_an_error(tmp_path, files, reference, both):
    root = data(tmp_path / "x", files, [reference])
    with pytest.raises(DataError, match=rf"train\.csv:2: '{reference}' may be {both}: write its path"):
        read(root)


@pytest.mark.parametrize(
    ("files", "reference", "best"),
    [
        (["a/dogs/1.jpg", "a/cats/1.jpg"], r"C:\all\dogs\1.jpg", "a/dogs/1.jpg"),
        (["a/1.jpg", "train/1.jpg", "test/1.jpg"], "1.jpg", "train/1.jpg"),
        (["a/1.jpeg", "b/1.png"], "1.jpg", "a/1.jpeg"),
        (["a/1.JPG", "b/1.jpeg"], "1.jpg", "a/1.JPG"),
        (["masks/1.jpg", "photos/1.jpg"], "1.jpg", "photos/1.jpg"),
    ],
)
def test_the_file_that_fits_best_is_chosen(tmp_path, files, reference, best):
    assert images(data(tmp_path / "x", files, [reference]))[0] == [best]


def test_a_missing_image_is_not_taken_from_where_the_others_are_not(tmp_path):
    root = data(tmp_path / "x", ["images/0.jpg", "thumbs/1.jpg"], ["0.jpg", "1.jpg"])
    paths, (line,) = images(root)
    assert paths[0] == "images/0.jpg"
    assert not (root / paths[1]).exists()
    assert line.startswith("rows without an image file: 1 (first: ")
    root = data(tmp_path / "y", ["dogs/1.jpg", "cats/2.jpg"], ["dogs/1.jpg", "dogs/2.jpg"])
    assert images(root)[1][0].startswith("rows without an image file: 1 ")


def test_an_image_that_another_row_names_is_not_taken_again(tmp_path):
    root = data(tmp_path / "x", ["a/1.jpg"], ["a/1.jpg", "b/1.jpg"])
    assert images(root)[1][0].startswith("rows without an image file: 1 (first: ")
    root = data(tmp_path / "y", ["all/1.jpg"], ["dogs/1.jpg", "cats/1.jpg"])
    with pytest.raises(DataError, match=r"'cats/1.jpg' and, at .*csv:2, 'dogs/1.jpg' may both be all/1.jpg"):
        read(root)


def test_bare_numbers_are_not_taken_for_files_of_other_things(tmp_path):
    root = data(tmp_path / "x", ["other/1.jpg", "other/2.jpg"], [], "photos.csv")
    (root / "photos.csv").write_text("id,caption\n1,a\n2,b\n")
    tables, warnings = read(root / "photos.csv")
    assert tables["photos"].images == ["", ""]
    assert warnings == []
    (root / "photos.csv").write_text("id,labels\n1,a\n2,b\n")
    with pytest.raises(DataError, match="'1' is not there; the nearest file is 'other/1"):
        read(root / "photos.csv")
    (root / "images").mkdir()
    (root / "images" / "x.jpg").touch()
    (root / "photos.csv").write_text("id,caption\n1,a\n2,b\n")
    _, warnings = read(root / "photos.csv")
    assert any("no row has an image file: '1' is not there" in line for line in warnings)


def test_the_nearest_name_is_shown(tmp_path):
    root = data(tmp_path / "x", ["images/img_0001.jpg", "images/zebra.jpg"], ["img-0001.jpg"])
    with pytest.raises(
        DataError, match=r"'img-0001\.jpg' is not there; the nearest file is 'images/img_0001\.jpg'"
    ):
        read(root)


def test_urls_say_what_to_do_and_serve_texts(tmp_path):
    root = tmp_path
    (root / "train.csv").write_text("image,caption\nhttps://e.org/0.jpg,a\nhttps://e.org/1.jpg,b\n")
    tables, warnings = read(root)
    assert tables["train"].images == ["", ""]
    assert any(
        "2 rows name URLs, such as https://e.org/0.jpg: --allow-urls https://e.org fetches those" in line
        for line in warnings
    )
    (root / "train.csv").write_text("image,label\nhttps://e.org/0.jpg,a\n")
    with pytest.raises(DataError, match="or download them, as img2dataset does"):
        read(root)


def test_hidden_folders_links_and_macos_files_are_not_searched(tmp_path):
    root = data(tmp_path / "x", [".cache/0.jpg", "__MACOSX/0.jpg", "a/._0.jpg", "real/0.jpg"], ["0.jpg"])
    (root / "link").symlink_to(root / "real")
    assert images(root)[0] == ["real/0.jpg"]


def test_no_file_is_accessed_for_itself(tmp_path, monkeypatch):
    files = [f"photos/{row % 10}/{row}.JPG" for row in range(3000)]
    root = data(tmp_path / "x", files, [f"{row}.jpg" for row in range(3000)])
    calls = []
    for module, name in ((os, "stat"), (os, "lstat"), (os.path, "realpath"), (Path, "stat")):
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, f=original, **k: (calls.append(a), f(*a, **k))[1])
    started = time.perf_counter()
    paths, _ = images(root)
    assert paths == files
    assert len(calls) < 1000  # of folders and tables
    assert time.perf_counter() - started < 5


def test_rows_of_two_splits_may_name_one_image_by_a_foreign_path(tmp_path):
    root = data(tmp_path / "x", ["a/0.jpg", "a/1.jpg"], ["/home/ann/a/0.jpg", "/home/ann/a/1.jpg"])
    (root / "val.csv").write_text("ImageID,Labels\n/home/ann/a/1.jpg,a\n")
    paths, warnings = images(root)
    assert paths == ["a/0.jpg", "a/1.jpg", "a/1.jpg"]
    assert not any("without an image" in line for line in warnings)


def test_a_column_of_an_unknown_name_is_that_of_the_images_if_its_cells_name_images(tmp_path):
    root = data(tmp_path / "x", ["a.jpg", "b.jpg"], [])
    (root / "train.csv").write_text("Fichier,tags\na.jpg,red\nb.jpg,green\n")
    reading = understand(root)
    assert [Path(path).name for path in reading.tables["train"].images] == ["a.jpg", "b.jpg"]
    assert "images: column Fichier (its cells are names of image files): 2 found" in reading.text()


def test_of_two_columns_of_images_none_is_taken_and_both_are_named(tmp_path):
    root = data(tmp_path / "x", ["a.jpg", "b.jpg"], [])
    (root / "train.csv").write_text("left,right,tags,text\na.jpg,b.jpg,red,x\n")
    assert "images: none (--image-column may name left, right)" in understand(root).text()
    (root / "train.csv").write_text("left,right,tags\na.jpg,b.jpg,red\n")
    with pytest.raises(DataError, match="--image-column may name left, right"):
        understand(root)
    (table,) = understand(root, ReadOptions(columns=Columns(image="right"))).tables.values()
    assert [Path(path).name for path in table.images] == ["b.jpg"]


def test_an_attachment_of_airtable_is_the_file_before_its_url(tmp_path):
    root = data(tmp_path / "x", ["a b.jpg"], [])
    url = "https://v5.airtableusercontent.com/v3/u/1/a%20b.jpg"
    (root / "train.csv").write_text(f"Name,Attachments,Tags\nx,a b.jpg ({url}),red\n")
    (table,) = understand(root).tables.values()
    assert table.ids == ["a b.jpg"]
    assert Path(table.images[0]).name == "a b.jpg"
