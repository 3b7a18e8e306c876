"""Which files of a folder are the table of which split, and which are shards of one."""

from pathlib import Path

import pandas as pd
import pytest

from encode_once.cache.errors import DataError
from encode_once.extract.readers import understand
from encode_once.extract.readers.split_files import files_by_split

FORMATS = (".csv", ".jsonl", ".parquet")


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        # the usual names, in any case, and nothing beside them
        ("Train.csv VAL.csv prices.csv", {"train": "Train.csv", "val": "VAL.csv"}),
        ("train.csv train_2.csv", {"train": "train.csv"}),
        ("train.csv train_1.csv train_2.csv", {"train": "train.csv"}),
        # one name in several formats
        ("train.csv train.jsonl", {"train": "train.csv"}),
        ("train.csv train.csv.gz", {"train": "train.csv"}),
        # shards
        ("train_1.csv train_2.csv test.csv", {"train": "train_1.csv train_2.csv", "test": "test.csv"}),
        ("x-00001-of-00003.parquet x-00000-of-00003.parquet",
         {"x": "x-00000-of-00003.parquet x-00001-of-00003.parquet"}),
        ("x_0.csv x_1.csv x_2.csv", {"x": "x_0.csv x_1.csv x_2.csv"}),
        (" ".join(f"x_{n}.csv" for n in range(1, 12)), {"x": " ".join(f"x_{n}.csv" for n in range(1, 12))}),
        # numbers that are a part of the name
        ("photos.csv photos_2.csv", {"photos": "photos.csv", "photos_2": "photos_2.csv"}),
        ("photos.csv photos_1.csv photos_2.csv",
         {"photos": "photos.csv", "photos_1": "photos_1.csv", "photos_2": "photos_2.csv"}),
        ("x_1.csv x_3.csv", {"x_1": "x_1.csv", "x_3": "x_3.csv"}),
        ("y_2019.csv y_2020.csv", {"y_2019": "y_2019.csv", "y_2020": "y_2020.csv"}),
        ("photos_2.csv", {"photos_2": "photos_2.csv"}),
        # names around the word of a split
        ("Photos_train.csv Photos_test.csv", {"train": "Photos_train.csv", "test": "Photos_test.csv"}),
        ("train_v2.csv val_v2.csv sizes.csv", {"train": "train_v2.csv", "val": "val_v2.csv"}),
        ("my-train-1.csv my-train-2.csv my-dev-1.csv my-dev-2.csv",
         {"train": "my-train-1.csv my-train-2.csv", "dev": "my-dev-1.csv my-dev-2.csv"}),
        ("train_2019.csv test.csv", {"train": "train_2019.csv", "test": "test.csv"}),
        ("train_2019.csv train_2021.csv test.csv", {"test": "test.csv"}),
        ("train_v2.csv test_labels.csv test.csv", {"train": "train_v2.csv", "test": "test.csv"}),
        ("train_2.csv", {"train": "train_2.csv"}),
        ("Photos_train.csv", {"Photos_train": "Photos_train.csv"}),
        ("a_train.csv b_test.csv", {"a_train": "a_train.csv", "b_test": "b_test.csv"}),
        ("train_test.csv", {"train_test": "train_test.csv"}),
        ("a_train.csv a_test.csv b_train.csv b_test.csv",
         {f"{name}_{split}": f"{name}_{split}.csv" for name in "ab" for split in ("train", "test")}),
    ],
)  # fmt: skip
def test_the_names_of_files_say_which_splits_they_are(names, splits):
    by_split = files_by_split(list(map(Path, names.split())), FORMATS)
    assert {split: " ".join(map(str, files)) for split, files in by_split.items()} == splits


def write(path, rows, **columns):
    frame = pd.DataFrame({"id": rows, "caption": [f"caption {row}" for row in rows], **columns})
    frame.to_csv(path, index=False)


def test_shards_are_one_table_which_names_its_files(tmp_path):
    write(tmp_path / "photos_1.csv", [1, 2], labels="red")
    write(tmp_path / "photos_2.csv", [3], labels="green")
    reading = understand(tmp_path)
    (table,) = reading.tables.values()
    assert (table.split, table.ids, table.labels) == (
        "photos",
        ["1", "2", "3"],
        [("red",), ("red",), ("green",)],
    )
    assert "files: 2, photos_1.csv, photos_2.csv" in reading.text()


def test_numbered_files_of_other_columns_are_tables_of_their_own(tmp_path):
    write(tmp_path / "photos_1.csv", [1, 2], labels="red")
    write(tmp_path / "photos_2.csv", [1], price=3)
    reading = understand(tmp_path)
    assert {split: table.ids for split, table in reading.tables.items()} == {
        "photos_1": ["1", "2"],
        "photos_2": ["1"],
    }
    assert any("photos_2.csv have different columns" in line for line in reading.warnings)


def test_shards_of_other_columns_are_refused_and_missing_ones_counted(tmp_path):
    write(tmp_path / "x-00000-of-00003.csv", [1, 2], labels="red")
    write(tmp_path / "x-00001-of-00003.csv", [3], labels="green")
    reading = understand(tmp_path)
    assert any("1 other shards of this table are not there" in line for line in reading.warnings)
    write(tmp_path / "x-00001-of-00003.csv", [3], price=3)
    with pytest.raises(DataError, match="its columns differ from those of"):
        understand(tmp_path)


def test_a_column_that_is_not_plain_in_every_shard_is_not_kept(tmp_path):
    for number, boxes in enumerate(("[]", "[[0, 1]]", "null")):
        record = f'{{"id": "{number}", "caption": "x", "boxes": {boxes}, "size": 3}}'
        (tmp_path / f"train-{number}-of-3.jsonl").write_text(record)
    reading = understand(tmp_path)
    (table,) = reading.tables.values()
    assert table.columns == {"size": ["3", "3", "3"]}
    assert "not used: the columns boxes" in reading.text()


def test_a_second_version_of_a_table_is_reported_and_not_joined(tmp_path):
    write(tmp_path / "train.csv", [1, 2], labels="red")
    write(tmp_path / "train_2.csv", [1, 2], labels="green")
    reading = understand(tmp_path)
    assert reading.tables["train"].labels == [("red",), ("red",)]
    assert any("train_2.csv: not the table of a split; --data" in line for line in reading.unused)
