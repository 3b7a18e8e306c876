"""A folder of images; the captions of an image are the lines of a .txt file of the same name next to it."""

import posixpath
import re
from collections.abc import Sequence
from pathlib import Path

from encode_once.cache.errors import DataError, UsageError
from encode_once.cache.input_files import TEXT_MB
from encode_once.extract.images.formats import IMAGE_SUFFIXES
from encode_once.extract.readers.columns import ReadOptions
from encode_once.extract.readers.csv_grammar import read_lines
from encode_once.extract.readers.image_lookup import Folder, check_links
from encode_once.extract.readers.raw import Cells, RawTable, Roles

ABOUT = (
    "a folder of images, with captions in a .txt of the same name next to each, one per line; or one image"
)


def recognises(data: Path, options: ReadOptions) -> bool:
    """Whether the folder, or the only folder in it, directly contains images; or it is an image."""
    return bool(_is_image(data) or _folder(data))


def _is_image(data: Path) -> bool:
    return data.suffix.lower() in IMAGE_SUFFIXES and not data.is_dir()


def _folder(data: Path) -> Path | None:
    listing = Folder.listed(data)
    if listing.pictures:
        return data
    visible = [name for name in listing.folders if not name.startswith((".", "__MACOSX"))]
    if len(visible) == 1 and Folder.listed(data / visible[0]).pictures:
        return data / visible[0]
    return None


def read(data: Path, options: ReadOptions) -> list[RawTable]:
    """The table "train", without labels.

    Rows are the images in natural order: 2.jpg before 10.jpg.

    Raises:
        DataError: a text matches two images, or is not UTF-8.
    """
    if options.columns.named:
        raise UsageError(f"{data} is a folder of images: it has no columns to name")
    if _is_image(data):
        image = str(data.absolute())
        columns = {"image": [image]}
        names = {"image": lambda: [data.name]}
        return [RawTable.of_columns("train", [data], columns, lambda row: image, sources=names)]
    return [table_of([_folder(data) or data], data, options)]


def table_of(folders: Sequence[Path], data: Path, options: ReadOptions) -> RawTable:
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
        names = sorted((name for stem in listing.pictures.values() for name in stem), key=natural)
        paths += [listing.files[name] for name in names]
        captions |= texts
        stray += without_image
        deeper += [str(folder / name) for name in listing.folders if not name.startswith(".")]
    ids = [posixpath.basename(path) for path in paths]
    columns: dict[str, Cells] = {"image": paths}
    if captions:
        columns["captions"] = [captions.get(path, []) for path in paths]
    table = RawTable.of_columns(
        "train",
        list(folders),
        columns,
        lambda row: paths[row],
        sources={"image": lambda: ids},
        roles=Roles(image="image", captions=("captions",) if captions else ()),
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
