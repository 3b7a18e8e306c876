"""YOLO: images/ and labels/ with a .txt for each image, whose lines begin with the number of a class.

The folders are `images/` and `labels/`, `images/train/` and `labels/train/`, or `train/images/` and
`train/labels/`; or images and texts are in one folder. `data.yaml` or `classes.txt` has the classes' names.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from encode_once.cache.errors import DataError, UsageError, brief
from encode_once.cache.input_files import TEXT_MB, read_regular
from encode_once.extract.readers.captioned_folder import natural
from encode_once.extract.readers.csv_grammar import read_lines
from encode_once.extract.readers.errors import file_errors
from encode_once.extract.readers.folders import Folder, check_links
from encode_once.extract.readers.options import ParsedOptions
from encode_once.extract.readers.raw import RawTable, Roles

ABOUT = "YOLO: images/ and labels/ with texts of class numbers, names in data.yaml or classes.txt"
NAMES = ("classes.txt", "obj.names", "labels.txt", "predefined_classes.txt")


def recognises(data: Path, options: ParsedOptions) -> bool:
    """Whether there are images and labels in such folders, or texts and names of classes next to images."""
    return data.is_dir() and bool(_folders(data))


def has_precedence(data: Path, options: ParsedOptions) -> bool:
    """Texts next to images are class numbers if there is a list of the classes."""
    return recognises(data, options) and _folders(data) == [("train", data, data)]


def _folders(data: Path) -> list[tuple[str, Path, Path]]:
    """Split, folder of the images and folder of the labels."""
    listing = Folder.listed(data)
    if listing.pictures:
        is_flat = any(name in listing.files for name in NAMES) and _has_texts(data)
        return [("train", data, data)] if is_flat else []
    splits = [name for name in sorted(listing.folders) if name not in ("images", "labels")]
    inner = sorted(Folder.listed(data / "images").folders)
    candidates = [
        ("train", data / "images", data / "labels"),
        *((split, data / "images" / split, data / "labels" / split) for split in inner),
        *((split, data / split / "images", data / split / "labels") for split in splits),
    ]
    return [
        (split, images, labels)
        for split, images, labels in candidates
        if Folder.listed(images).pictures and _has_texts(labels)
    ]


def _has_texts(folder: Path) -> bool:
    return any(name.endswith(".txt") and name not in NAMES for name in Folder.listed(folder).files)


def read(data: Path, options: ParsedOptions) -> list[RawTable]:
    """The table of each split.

    Raises:
        DataError: there are no names of classes, or a text is not in the format.
    """
    if options.columns.named:
        raise UsageError(f"{data} is YOLO's format: it has no columns to name")
    source, names = _class_names(data, options.classes)
    return [
        _table(split, images, labels, data, source, names, options)
        for split, images, labels in _folders(data)
    ]


def _class_names(data: Path, chosen: Sequence[str]) -> tuple[list[Path], dict[int, str]]:
    """The file with the names of the classes, and the names by number."""
    if chosen:
        return [], dict(enumerate(chosen))
    listing = Folder.listed(data)
    for name in sorted(listing.files):
        if name.endswith((".yaml", ".yml")):
            content = _yaml(data / name)
            names = content.get("names") if isinstance(content, dict) else None
            if isinstance(names, list):
                return [data / name], {number: str(label) for number, label in enumerate(names)}
            if isinstance(names, dict) and all(type(number) is int for number in names):
                return [data / name], {number: str(label) for number, label in names.items()}
    for folder in (data, data / "labels"):
        for name in NAMES:
            if (folder / name).is_file():
                lines = [line.strip() for line in read_lines(folder / name, TEXT_MB)]
                return [folder / name], dict(enumerate(filter(None, lines)))
    raise DataError(
        f"{data}: looks like YOLO's labels, but the names of the classes are missing: add data.yaml with "
        "`names:`, or classes.txt with a name per line"
    )


def _yaml(path: Path) -> Any:
    import yaml

    with file_errors(path):
        content = read_regular(path, TEXT_MB)
    try:
        return yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not YAML ({brief(error)})") from error


def _table(
    split: str,
    images: Path,
    labels: Path,
    data: Path,
    source: Sequence[Path],
    names: dict[int, str],
    options: ParsedOptions,
) -> RawTable:
    listing, texts = Folder.listed(images.resolve()), Folder.listed(labels.resolve()).files
    check_links(listing, data, options.images)
    rows, classes = [], []
    for name in sorted((name for stem in listing.pictures.values() for name in stem), key=natural):
        text = texts.get(f"{Path(name).stem}.txt")
        try:
            classes.append(_labels(Path(text), names) if text else [])
        except DataError as error:
            options.bad_rows.add(error)
            continue
        rows.append(name)
    return RawTable.of_columns(
        split,
        [images, *([labels] if labels != images else [])],
        {"image": [listing.files[name] for name in rows], "classes": classes},
        lambda row: listing.files[rows[row]],
        sources={"image": lambda: rows},
        roles=Roles(image="image", labels=("classes",)),
        also_read=list(source),
    )


def _labels(path: Path, names: dict[int, str]) -> list[str]:
    """The names of the classes in a text, without repetition."""
    labels: dict[str, None] = {}
    with file_errors(path):
        for number, line in enumerate(read_lines(path, TEXT_MB), start=1):
            first = (line.split() or [""])[0]
            if not first:
                continue
            if not first.isdecimal() or int(first) not in names:
                raise DataError(
                    f"{path}:{number}: begins with {brief(repr(first))}, where the number of one of "
                    f"{len(names)} classes is expected"
                )
            labels[names[int(first)]] = None
    return [*labels]
