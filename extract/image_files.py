"""A table of the image files that a user names, for labels of a few photos without a table."""

import glob
from collections.abc import Sequence
from pathlib import Path

from encode_once.cache import MissingDataError, Table
from encode_once.extract.errors import InputError
from encode_once.extract.images.formats import is_image_name
from encode_once.extract.remote import files
from encode_once.extract.remote.session import allowing
from encode_once.extract.remote.urls import UrlPrefix, check_readable, joined

SOURCE = "the list of images"


def table_of_images(names: Sequence[str], caption: str = "") -> Table:
    """A table with a row for each image; its id is the name.

    Args:
        names: image files, patterns such as `photos/*.jpg`, and folders, whose images are taken with those of
            their subfolders; or URLs of files and folders.
        caption: of every row. Without names, it is the only row.

    Raises:
        MissingDataError: a name is no file, or a pattern or folder has no image.
    """
    images = list(dict.fromkeys(image for name in names for image in _images(name)))
    ids = images or ["caption"]
    return Table(
        SOURCE if images else "the caption",
        ids,
        images or [""],
        [caption] * len(ids),
        None,
        id_column="Image",
        split="images",
    )


def _images(name: str) -> list[str]:
    if check_readable(name):
        return _images_at(name)
    if Path(name).is_file():
        return [name]
    pattern = f"{glob.escape(name)}/**" if Path(name).is_dir() else name
    paths = glob.glob(pattern, recursive=True)  # noqa: PTH207 — it may be absolute, which Path.glob refuses
    images = sorted(path for path in paths if is_image_name(path) and Path(path).is_file())
    if not images:
        raise MissingDataError(f"{name}: no such image, and no folder or pattern of images")
    return images


def _images_at(url: str) -> list[str]:
    with allowing([UrlPrefix.parse(url)]):
        try:
            if not files.is_folder(url):
                return [url]
        except InputError as error:
            raise MissingDataError(f"{url}: {error}") from error
        images = sorted(joined(url, name) for name in files.listing(url, deep=True) if is_image_name(name))
    if not images:
        raise MissingDataError(f"{url}: no image in this folder")
    return images
