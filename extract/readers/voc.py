"""Pascal VOC: an .xml for each image in Annotations/, or next to the images; splits in ImageSets/Main/."""

from pathlib import Path
from xml.parsers import expat

from encode_once.cache.errors import DataError, UsageError, brief
from encode_once.cache.input_files import TEXT_MB, read_regular
from encode_once.extract.readers.bad_rows import BadRows
from encode_once.extract.readers.captioned_folder import natural
from encode_once.extract.readers.csv_grammar import read_lines
from encode_once.extract.readers.errors import file_errors
from encode_once.extract.readers.folders import Folder
from encode_once.extract.readers.image_search import SPLIT_NAMES
from encode_once.extract.readers.options import ParsedOptions
from encode_once.extract.readers.raw import RawTable, Roles

ABOUT = "Pascal VOC: Annotations/ with an .xml for each image of JPEGImages/, splits in ImageSets/Main/"
PARTS = ("train", "val", "test")  # of which trainval is made


def recognises(data: Path, options: ParsedOptions) -> bool:
    """Whether there are annotations in .xml."""
    return data.is_dir() and _annotations(data) is not None


def _annotations(data: Path) -> Path | None:
    """The folder of the annotations."""
    listing = Folder.listed(data)
    folders = [data / name for name in listing.folders if name.lower() == "annotations"]
    if listing.pictures:
        folders.insert(0, data)
    for folder in folders:
        if any(name.lower().endswith(".xml") for name in Folder.listed(folder).files):
            return folder
    return None


def read(data: Path, options: ParsedOptions) -> list[RawTable]:
    """The table of each split in ImageSets/Main/; without, "train" of all annotations.

    Raises:
        DataError: a file is not an annotation of VOC.
    """
    if options.columns.named:
        raise UsageError(f"{data} is Pascal VOC's format: it has no columns to name")
    folder = _annotations(data)
    assert folder is not None, "`recognises` was true"
    listing = Folder.listed(folder)
    files = {
        Path(name).stem: Path(path) for name, path in listing.files.items() if name.lower().endswith(".xml")
    }
    stems = {split: _stems(path) for split, path in _listings(data).items()}
    if not stems:
        stems = {"train": sorted(files, key=natural)}
    return [_table(split, names, files, data, folder, options.bad_rows) for split, names in stems.items()]


def _listings(data: Path) -> dict[str, Path]:
    """The list of each split. `trainval` is left out if its parts are there."""
    folder = data / "ImageSets" / "Main"
    names = Folder.listed(folder).files
    splits = {Path(name).stem: folder / name for name in sorted(names) if Path(name).stem in SPLIT_NAMES}
    if any(part in splits for part in PARTS[:2]):
        splits.pop("trainval", None)
    return splits


def _stems(path: Path) -> list[str]:
    with file_errors(path):
        return [line.split()[0] for line in read_lines(path, TEXT_MB) if line.strip()]


def _table(
    split: str, stems: list[str], files: dict[str, Path], data: Path, folder: Path, bad_rows: BadRows
) -> RawTable:
    labels: list[list[str]] = []
    rows: list[str] = []
    for stem in stems:
        names: list[str] = []
        if stem in files:
            try:
                with file_errors(files[stem]):
                    names = _object_names(files[stem])
            except DataError as error:
                bad_rows.add(error)
                continue
        rows.append(stem)
        labels.append(names)
    return RawTable.of_columns(
        split,
        [folder],
        {"ImageID": rows, "objects": labels},
        lambda row: str(files.get(rows[row], folder / f"{rows[row]}.xml")),
        roles=Roles(id="ImageID", labels=("objects",)),
        folders=[data / "JPEGImages", data / "images", folder, data],
    )


def _object_names(path: Path) -> list[str]:
    """The names of an annotation's objects, without repetition.

    Entities are refused: in other people's XML they serve only to read files or to fill the memory.
    """
    names: dict[str, None] = {}
    inside: list[str] = []
    text: list[str] = []

    def refuse(*_: object) -> None:
        raise DataError(f"{path}: declares entities, which VOC's annotations have not: it is not read")

    def start(name: str, _: object) -> None:
        inside.append(name)
        text.clear()

    def end(name: str) -> None:
        if inside[-2:] == ["object", "name"] and "".join(text).strip():
            names["".join(text).strip()] = None
        inside.pop()

    parser = expat.ParserCreate()
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = text.append
    try:
        parser.Parse(read_regular(path, TEXT_MB), True)
    except expat.ExpatError as error:
        raise DataError(f"{path}: not XML ({brief(error)})") from error
    return [*names]
