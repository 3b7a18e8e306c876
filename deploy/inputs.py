"""What a `Predictor` is called with: images in memory or in files, captions, or a table of both."""

import io
import math
import os
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from encode_once.cache import Table, UsageError
from encode_once.cache.terminal import short_list
from encode_once.extract.batches import DecodedInput
from encode_once.extract.images.formats import is_image_name
from encode_once.extract.images.hashing import read_file
from encode_once.extract.readers.column_names import IDS, IMAGES, is_caption, plain_name
from encode_once.extract.remote.urls import is_remote

EXPECTED = (
    "a path, bytes, an open file, a PIL image, or an array (h, w), (h, w, 3) or (h, w, 4) of uint8, "
    "or (h, w) of uint16"
)
LISTS = "OSTU"  # kinds of arrays of objects, bytes and texts, which are lists of images
_UNREAD = Lock()  # of files that PIL images have open


@dataclass(frozen=True)
class ImageFile:
    """An image in a file."""

    path: str

    def open(self) -> DecodedInput:
        """Read the file."""
        return DecodedInput(content=read_file(self.path))


@dataclass(frozen=True)
class ImageInMemory:
    """The bytes of an image's file, or its pixels."""

    content: bytes = b""
    pixels: Image.Image | None = None

    def open(self) -> DecodedInput:
        """The image, to be decoded."""
        return DecodedInput(content=self.content, image=self.pixels)


@dataclass(frozen=True)
class Caption:
    """A caption."""

    text: str

    def open(self) -> DecodedInput:
        """The text."""
        return DecodedInput(text=self.text)


@dataclass(frozen=True)
class InputRows:
    """Rows to label: of each its id, its image if it has one, and its captions in k columns."""

    ids: list[str]
    images: list[ImageFile | ImageInMemory | None]  # (n,)
    captions: list[list[str]]  # (k, n); "" if a row has fewer
    columns: Mapping[str, list[str]] = field(default_factory=dict)  # others that are used, as texts

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def texts(self) -> Table:
        """A table of the captions and of the columns."""
        first, *more = self.captions
        blank = [""] * len(self)
        return Table(
            "the input", self.ids, blank, first, None, more_captions=[*more], columns=dict(self.columns)
        )


def input_rows(
    images: Any, captions: Any, columns: Mapping[str, Sequence[str]], used: Collection[str] = ()
) -> InputRows:
    """The rows of one image, caption or both, of lists of them, or of a DataFrame.

    Args:
        columns: "id", "image" or "captions" → the names that a DataFrame's columns may have.
        used: the names of other columns that the run has features of.

    Raises:
        UsageError: it is something else, or there are not as many captions as images.
    """
    if _is_frame(images):
        if captions is not None:
            raise UsageError("a DataFrame has captions in a column: pass captions= with images only")
        return _of_frame(images, columns, used)
    if images is None and captions is None:
        raise UsageError("nothing to label: pass images=, captions= or both")
    pictures = None if images is None else _listed(images, _is_image)
    texts = None if captions is None else _listed(captions, lambda caption: isinstance(caption, str))
    n = len(pictures if pictures is not None else texts or [])
    if texts is not None and len(texts) != n:
        raise UsageError(f"{n} images and {len(texts)} captions: pass one caption, or None, for each image")
    rows = _rows(None, pictures or [None] * n, texts or [None] * n)
    return replace(rows, columns={name: [""] * n for name in used})


def _rows(ids: Sequence[Any] | None, images: Sequence[Any], captions: Sequence[Any]) -> InputRows:
    texts = [_texts(caption, row) for row, caption in enumerate(captions)]
    width = max(map(len, texts), default=1) or 1
    names = ids or [
        str(image) if isinstance(image, str | os.PathLike) else row for row, image in enumerate(images)
    ]
    return InputRows(
        [str(name) for name in names],
        [_image(image, row) for row, image in enumerate(images)],
        [[row[i] if i < len(row) else "" for row in texts] for i in range(width)],
    )


def _listed(values: Any, is_single: Any) -> list[Any]:
    """Several values as a list; one as a list of it."""
    if is_single(values) or isinstance(values, Mapping) or not isinstance(values, Iterable):
        return [values]
    return list(np.atleast_1d(values) if isinstance(values, np.ndarray) else values)


def _is_image(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind not in LISTS and value.ndim <= 3  # more are several images
    is_content = isinstance(value, str | os.PathLike | bytes | bytearray | memoryview | Image.Image)
    return is_content or _is_file(value)


def _is_file(value: Any) -> bool:
    return callable(getattr(value, "read", None))


def _is_absent(value: Any) -> bool:
    absent = getattr(sys.modules.get("pandas"), "NA", None)  # None without pandas
    return value is None or value is absent or (isinstance(value, float) and math.isnan(value))


def _image(value: Any, row: int) -> ImageFile | ImageInMemory | None:
    if isinstance(value, np.ndarray):
        return ImageInMemory(pixels=_picture(value, row))
    if isinstance(value, Image.Image):
        content = _unread_file(value)
        return ImageInMemory(content) if content else ImageInMemory(pixels=value)
    if isinstance(value, bytes | bytearray | memoryview):
        return ImageInMemory(bytes(value))
    if _is_absent(value) or value == "":
        return None
    if isinstance(value, str) and is_remote(value):
        raise UsageError(f"image {row} is a URL, which is not read: pass the bytes of its file")
    if isinstance(value, str | os.PathLike):
        return ImageFile(os.fsdecode(value))
    if _is_file(value) and isinstance(rest := _rest(value, row), bytes):
        return ImageInMemory(rest)
    raise UsageError(f"image {row} is {type(value).__name__}: an image is {EXPECTED}")


def _rest(file: Any, row: int) -> object:
    """What an open file has from where it stands; no bytes if it is open as a text.

    Raises:
        UsageError: it is closed, or was read before.
    """
    if isinstance(file, io.TextIOBase):
        return None
    if getattr(file, "closed", False):
        raise UsageError(f"image {row} is a closed file: open it again, or pass its path")
    content = file.read()
    if content == b"" and callable(tell := getattr(file, "tell", None)) and tell() > 0:
        raise UsageError(f"image {row} is a file that was read to its end before: call its seek(0) first")
    return content


def _unread_file(image: Image.Image) -> bytes:
    """The bytes of the file of an image whose pixels are not decoded yet; empty if they are.

    So it is decoded as the file is, a large JPEG at a reduced size.
    """
    file = getattr(image, "fp", None)
    if not getattr(image, "tile", None) or file is None or getattr(image, "tell", lambda: 0)() != 0:
        return b""
    with _UNREAD:
        place = file.tell()
        file.seek(0)
        content: bytes = file.read()
        file.seek(place)
    return content


def _picture(array: NDArray[Any], row: int) -> Image.Image:
    """An array of pixels as an image."""
    is_grey = array.ndim == 2 and array.dtype in (np.uint8, np.uint16)
    is_colour = array.ndim == 3 and array.shape[2] in (3, 4) and array.dtype == np.uint8
    if not (is_grey or is_colour) or not array.size:
        raise UsageError(
            f"image {row} is an array {array.shape} of {array.dtype}: an image is {EXPECTED}; "
            "multiply numbers between 0 and 1 by 255, and put the channels last"
        )
    return Image.fromarray(array)


def _texts(value: Any, row: int) -> list[str]:
    """The captions of a row: a text, several in a list, or those of several columns."""
    if isinstance(value, str):
        return [value]
    if _is_absent(value):
        return []
    if isinstance(value, Sequence | np.ndarray) and not isinstance(value, bytes):
        return [text for part in value for text in _texts(part, row)]
    raise UsageError(f"caption {row} is {type(value).__name__}: a caption is a text, or a list of texts")


# ------------------------------------------------------------------------------------------------ DataFrames


def _is_frame(value: Any) -> bool:
    pandas = sys.modules.get("pandas")  # without it, there is no DataFrame
    return pandas is not None and isinstance(value, pandas.DataFrame)


def _of_frame(frame: Any, columns: Mapping[str, Sequence[str]], used: Collection[str]) -> InputRows:
    """The rows of a DataFrame; columns are found by the names of the run's data, or by common ones."""
    present = {role: [name for name in names if name in frame] for role, names in columns.items()}
    names = [name for name in frame if isinstance(name, str)]
    image = present.get("image") or _image_columns(frame, names)
    captions = present.get("captions") or [name for name in names if is_caption(name)]
    others = [name for name in names if name in used]
    ids = [name for name in (present.get("id") or _named(names, IDS)) if name not in image][:1]
    for name in (*image, *captions, *others, *ids):
        if (frame.columns == name).sum() > 1:
            raise UsageError(f"the DataFrame has several columns {name!r}: rename all but one")
    if len(image) > 1:
        raise UsageError(f"the columns {' and '.join(image)} may hold the images: keep one of them")
    if not image and not captions and not others:
        raise UsageError(
            f"the DataFrame has the columns {short_list(list(map(str, frame)))}: name that of the images "
            "`image`, that of the captions `caption`"
        )
    rows = _rows(
        list(map(_as_in_csv, _cells(frame, ids[0]))) if ids else frame.index.tolist(),
        _cells(frame, image[0]) if image else [None] * len(frame),
        list(zip(*(_cells(frame, name) for name in captions), strict=True))
        if captions
        else [None] * len(frame),
    )
    cells = {name: list(map(_as_in_csv, _cells(frame, name))) for name in others}
    return replace(rows, columns={name: [""] * len(frame) for name in used} | cells)


def _image_columns(frame: Any, names: Sequence[str]) -> list[str]:
    """Columns with a name of images or, if there is none, of ids, whose cells name image files."""
    return _named(names, IMAGES) or [
        name
        for name in _named(names, IDS)
        if all(isinstance(cell, str) and is_image_name(cell) for cell in frame[name])
    ]


def _named(names: Sequence[str], common: str) -> list[str]:
    return [name for name in names if plain_name(name) in common.split()]


def _cells(frame: Any, name: str) -> list[Any]:
    """The cells of a column, None where there is nothing."""
    return [None if absent else cell for cell, absent in zip(frame[name], frame[name].isna(), strict=True)]


def _as_in_csv(cell: Any) -> str:
    """A cell as a CSV file has it: pandas turns whole numbers into floats if the column has missing cells."""
    if cell is None:
        return ""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)
