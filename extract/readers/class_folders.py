"""A folder for each class, with its images in it or in folders below; an image may be in several.

Files of one name in several folders are one image with several labels if their contents are equal, and
different images otherwise.
"""

import posixpath
from collections.abc import Iterator
from pathlib import Path

from encode_once.cache.errors import UsageError
from encode_once.cache.source_files import file_key
from encode_once.extract.readers.captioned_folder import captions_in, natural
from encode_once.extract.readers.errors import file_errors
from encode_once.extract.readers.folders import Folder, check_links
from encode_once.extract.readers.image_search import IMAGE_FOLDERS, SPLIT_NAMES
from encode_once.extract.readers.options import ParsedOptions
from encode_once.extract.readers.raw import Cells, RawTable, Roles

ABOUT = "a folder for each class, or train/ and test/ with such folders, with its images in it"
NO_CLASSES = IMAGE_FOLDERS | SPLIT_NAMES | {"labels", "annotations", "masks", "imagesets"}
DEPTH = 4  # of folders below that of a class


def recognises(data: Path, options: ParsedOptions) -> bool:
    """Whether there are several folders, all with images and none with the name of another layout's."""
    if not data.is_dir():
        return False
    listing = Folder.listed(data)
    names = [name for name in listing.folders if not name.startswith((".", "__MACOSX"))]
    if listing.pictures or len(names) < 2 or any(name.lower() in NO_CLASSES for name in names):
        return False
    return all(any(folder.pictures for folder in _folders(data / name)) for name in names)


def _folders(folder: Path, depth: int = DEPTH) -> Iterator[Folder]:
    listing = Folder.listed(folder)
    yield listing
    if depth:
        for name in sorted(listing.folders):
            if not name.startswith(".") and not (folder / name).is_symlink():
                yield from _folders(folder / name, depth - 1)


def read(data: Path, options: ParsedOptions) -> list[RawTable]:
    """The table "train", whose labels are the names of the folders.

    Raises:
        DataError: a link leads out of the data.
    """
    if options.columns.named:
        raise UsageError(f"{data} has folders of images: it has no columns to name")
    labels: dict[str, list[str]] = {}  # path → classes
    captions: dict[str, list[str]] = {}
    first_of: dict[tuple[str, bytes], str] = {}  # name and content of files whose name is in several folders
    root = data.resolve()
    files = [
        (label, path)
        for label in sorted(Folder.listed(root).folders, key=natural)
        if not label.startswith((".", "__MACOSX"))
        for listing in _folders(root / label)
        for path in _pictures(listing, root, captions, options)
    ]
    names = [posixpath.basename(path) for _, path in files]
    repeated = {name for name in names if names.count(name) > 1} if len({*names}) < len(names) else set()
    for (label, path), name in zip(files, names, strict=True):
        image = path
        if name in repeated:
            with file_errors(Path(path)):
                image = first_of.setdefault((name, file_key(path)), path)
        classes = labels.setdefault(image, [])
        if label not in classes:
            classes.append(label)
    paths = [*labels]
    ids = [posixpath.basename(path) for path in paths]
    if len({*ids}) < len(ids):
        ids = [posixpath.relpath(path, root) for path in paths]
    columns: dict[str, Cells] = {"ImageID": ids, "image": paths, "folders": [*labels.values()]}
    if captions:
        columns["captions"] = [captions.get(path, []) for path in paths]
    table = RawTable.of_columns(
        "train",
        [data],
        columns,
        lambda row: paths[row],
        sources={"image": lambda: ids},
        roles=Roles("ImageID", "image", ("captions",) if captions else (), ("folders",)),
    )
    if len(paths) < len(files):
        table.warnings.append(
            f"{data}: {len(files) - len(paths)} files are in several folders with equal contents: each "
            "is one image with several labels"
        )
    return [table]


def _pictures(
    listing: Folder, root: Path, captions: dict[str, list[str]], options: ParsedOptions
) -> list[str]:
    """The paths of a folder's images, whose captions are added."""
    check_links(listing, root, options.images)
    captions |= captions_in(listing)[0]
    names = (name for stem in listing.pictures.values() for name in stem)
    return [listing.files[name] for name in sorted(names, key=natural)]
