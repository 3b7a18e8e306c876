"""What data without a known layout most looks like, and what is missing, in one line."""

from pathlib import Path

from encode_once.cache.terminal import short_list
from encode_once.extract.images.formats import IMAGE_SUFFIXES
from encode_once.extract.readers.folders import Folder
from encode_once.extract.readers.webdataset import COMPRESSED

ARCHIVES = (".zip", ".7z", ".rar", *COMPRESSED)
NAMED = 3  # files and folders in a message
# Suffix → what such a file is, and what to do.
KINDS = {
    ".xls": "an old Excel file: save it as .xlsx or CSV",
    ".ods": "a LibreOffice table: save it as .xlsx or CSV",
    ".txt": "a text that is no list of images (`0.jpg 0 1 0`): a table is a .csv or .tsv file",
    ".xml": "an .xml file: Pascal VOC's are read with their images, from the folder that has Annotations/",
    ".yaml": "a .yaml file: give the folder with images/ and labels/",
    ".yml": "a .yml file: give the folder with images/ and labels/",
    ".pkl": "a pickle, which is not read as it may run code: save a CSV or parquet file",
    ".pickle": "a pickle, which is not read as it may run code: save a CSV or parquet file",
    ".npz": "NumPy arrays: save the images as files, and a CSV file with their names and labels",
    ".npy": "a NumPy array: save the images as files, and a CSV file with their names and labels",
    ".mat": "MATLAB data: save a CSV file with the names of the images and their labels",
    ".h5": "HDF5: save the images as files, and a CSV file with their names and labels",
    ".hdf5": "HDF5: save the images as files, and a CSV file with their names and labels",
    ".tfrecord": "TFRecord: convert it to WebDataset's .tar or to parquet",
    ".tfrecords": "TFRecord: convert it to WebDataset's .tar or to parquet",
    ".lmdb": "LMDB: convert it to WebDataset's .tar or to parquet",
    ".feather": "a feather file: save it as .parquet",
    ".db": "a database: export the table as CSV",
    ".sqlite": "a database: export the table as CSV",
    ".md": "a text: a table is a .csv, .tsv, .jsonl or .parquet file",
}
TABLES = (".csv", ".tsv", ".parquet", ".jsonl", ".tar", ".json")
OTHERWISE = "give a table (.csv, .tsv, .jsonl, .parquet), a folder with train.csv, or a folder of images"


def nearest_layout(data: Path) -> str:
    """What the data most looks like, and what is missing."""
    if not data.is_dir():
        return f"{data}: {_of_file(data.name)}"
    listing = Folder.listed(data)
    files = [name for name in sorted(listing.files) if not name.startswith(".")]
    folders = [name for name in sorted(listing.folders) if not name.startswith(".")]
    if not files and not folders:
        return f"{data}: the folder is empty; {OTHERWISE}"
    for name in folders:
        inner = Folder.listed(data / name)
        if inner.pictures:
            number = sum(map(len, inner.pictures.values()))
            return (
                f"{data}: the folder {name}/ has {number} images, but there is no table of them; "
                f"add train.csv with ImageID,Labels next to it, or give {data / name}"
            )
        tables = [file for file in sorted(inner.files) if file.endswith(TABLES)]
        if tables:
            return f"{data}: there is no table, but {name}/{tables[0]}; give {data / name}"
    for name in files:
        if name.lower().endswith(ARCHIVES) or Path(name).suffix.lower() in KINDS:
            return f"{data}: no table and no images, but {name}, {_of_file(name)}"
    names = [f"{name}/" for name in folders] + files
    return f"{data}: no table and no images among {short_list(names, NAMED)}; {OTHERWISE}"


def _of_file(name: str) -> str:
    if name.lower().endswith(ARCHIVES):
        return "a packed archive: unpack it and give the folder"
    suffix = Path(name).suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return f"an image: {OTHERWISE}"
    return KINDS.get(suffix, f"no known kind of data; {OTHERWISE}")
