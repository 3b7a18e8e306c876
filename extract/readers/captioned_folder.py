"""A folder of images; the captions of an image are the lines of a .txt file of the same name next to it.

Without such texts, a .json file of the same name may have an object, whose names are columns of the table.
"""

import posixpath
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from encode_once.cache.errors import DataError, UsageError, brief
from encode_once.cache.input_files import TEXT_MB, read_regular
from encode_once.extract.images.formats import IMAGE_SUFFIXES
from encode_once.extract.readers.bad_rows import BadRows
from encode_once.extract.readers.csv_grammar import read_lines
from encode_once.extract.readers.errors import file_errors
from encode_once.extract.readers.folders import Folder, check_links
from encode_once.extract.readers.json_text import parse
from encode_once.extract.readers.limits import is_too_sparse
from encode_once.extract.readers.options import ParsedOptions
from encode_once.extract.readers.raw import Cells, RawTable, Roles

ABOUT = (
    "a folder of images, with captions in a .txt of the same name next to each, one per line; or one image"
)


def recognises(data: Path, options: ParsedOptions) -> bool:
    """Whether the folder, or the only folder in it, directly contains images; or it is an image."""
    return bool(_is_image(data) or image_folder(data))


def _is_image(data: Path) -> bool:
    return data.suffix.lower() in IMAGE_SUFFIXES and not data.is_dir()


def image_folder(data: Path) -> Path | None:
    """The folder that has the images: the data, or the only folder in it."""
    listing = Folder.listed(data)
    if listing.pictures:
        return data
    visible = [name for name in listing.folders if not name.startswith((".", "__MACOSX"))]
    if len(visible) == 1 and Folder.listed(data / visible[0]).pictures:
        return data / visible[0]
    return None


def read(data: Path, options: ParsedOptions) -> list[RawTable]:
    """The table "train", without labels.

    Rows are the images in natural order: 2.jpg before 10.jpg.

    Raises:
        DataError: a text matches two images, or is not UTF-8.
    """
    if options.columns.named and not records_in(image_folder(data) or data):
        raise UsageError(f"{data} is a folder of images: it has no columns to name")
    if _is_image(data):
        image = str(data.absolute())
        columns = {"image": [image]}
        names = {"image": lambda: [data.name]}
        return [RawTable.of_columns("train", [data], columns, lambda row: image, sources=names)]
    return [table_of([image_folder(data) or data], data, options)]


def table_of(folders: Sequence[Path], data: Path, options: ParsedOptions) -> RawTable:
    """The images in some folders, with their captions.

    Raises:
        DataError: a text matches two images, or is not UTF-8; or a link leads out of the data.
    """
    paths: list[str] = []
    captions: dict[str, list[str]] = {}  # by path
    stray: list[str] = []
    deeper: list[str] = []
    for folder in folders:
        listing = Folder.listed(folder.resolve())
        check_links(listing, data, options.images)
        texts, without_image = captions_in(listing)
        pictures = (name for stem in listing.pictures.values() for name in stem)
        paths += [listing.files[name] for name in sorted(pictures, key=natural)]
        captions |= texts
        stray += without_image
        deeper += [str(folder / name) for name in listing.folders if not name.startswith(".")]
    records: dict[str, str] = {}
    if not captions:
        records = {path: file for folder in folders for path, file in records_in(folder).items()}
    contents = _contents(records, options.bad_rows)
    paths = [path for path in paths if path not in records or path in contents]
    ids = [posixpath.basename(path) for path in paths]
    columns: dict[str, Cells] = {"image": paths}
    if captions:
        columns["captions"] = [captions.get(path, []) for path in paths]
    names = dict.fromkeys(name for content in contents.values() for name in content)
    if is_too_sparse(len(paths), len(names), sum(map(len, contents.values()))):
        raise DataError(f"{data}: {len(names):,} names in the .json files; give them the same names")
    columns |= {name: [contents.get(path, {}).get(name) for path in paths] for name in names}
    table = RawTable.of_columns(
        "train",
        list(folders),
        columns,
        lambda row: paths[row],
        sources={"image": lambda: ids},
        roles=Roles(image="image", captions=("captions",) if captions else ()),
        also_read=[Path(file) for file in records.values()],
    )
    if stray:
        table.warnings.append(
            f"texts without an image of the same name: {len(stray)} (first: {min(stray)}); they are not read"
        )
    if deeper:
        first = min(deeper)
        table.warnings.append(
            f"{folders[0]}: folders: {len(deeper)} (first: {Path(first).name!r}); they are not read"
        )
    return table


def records_in(folder: Path) -> dict[str, str]:
    """The path of each image in a folder → that of the .json file of its name, if the folder has any."""
    listing = Folder.listed(folder.resolve())
    return {
        listing.files[images[0]]: listing.files[f"{stem}.json"]
        for stem, images in listing.pictures.items()
        if len(images) == 1 and f"{stem}.json" in listing.files
    }


def _contents(records: Mapping[str, str], bad_rows: BadRows) -> dict[str, dict[str, Any]]:
    """Path of an image → the object in its .json file, without those that cannot be read."""
    contents: dict[str, dict[str, Any]] = {}
    for path, file in records.items():
        with file_errors(Path(file)):
            try:
                content = parse(read_regular(file, TEXT_MB))
            except ValueError as error:
                bad_rows.add(DataError(f"{file}: not JSON ({brief(error)})"))
                continue
        if isinstance(content, dict):
            contents[path] = {name: value for name, value in content.items() if name != "image"}
        else:
            bad_rows.add(DataError(f"{file}: not an object with named values"))
    return contents


def captions_in(listing: Folder) -> tuple[dict[str, list[str]], list[str]]:
    """The captions of a folder's images, by path; and the paths of texts without an image.

    Raises:
        DataError: a text matches two images, or is not UTF-8.
    """
    captions: dict[str, list[str]] = {}
    stray = []
    for name, path in listing.files.items():
        stem, suffix = posixpath.splitext(name)
        if suffix.lower() != ".txt" or name.startswith("."):
            continue
        images = listing.pictures.get(stem, [])
        if len(images) > 1:
            raise DataError(f"{path}: matches {' and '.join(sorted(images))}; rename one of them")
        if images:
            lines = read_lines(Path(path), TEXT_MB)
            captions[listing.files[images[0]]] = [line.rstrip("\r\n") for line in lines]
        else:
            stray.append(path)
    return captions, stray


def natural(name: str) -> list[tuple[int, int, str]]:
    """To sort names as people do: 2.jpg before 10.jpg."""
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in re.split(r"(\d+)", name) if p]
