"""Single cells: as text, as captions, or as a value that the column does not allow."""

import re
from dataclasses import dataclass

from encode_once.cache.errors import DataError, brief

ATTACHMENT = re.compile(r"(.+) \(https?://\S+\)")  # `photo.jpg (https://…)`, as Airtable exports it


@dataclass(frozen=True)
class BadCell:
    """A cell whose value its column does not allow."""

    problem: str


def text_of(cell: object) -> str:
    """A cell as text: "" for None or NaN, "1" for 1.0 (integer columns with gaps contain floats).

    Raises:
        DataError: it is a list, an object or bytes, or a `BadCell`; the message is the end of a sentence.
    """
    if isinstance(cell, str):
        return cell
    if isinstance(cell, BadCell):
        raise DataError(cell.problem)
    if isinstance(cell, list | tuple | dict | bytes):
        raise DataError(f"has {brief(repr(cell))}, where a text or a number is expected")
    if cell is None or cell != cell:  # NaN
        return ""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


def captions_of(cell: object) -> tuple[str, ...]:
    """A cell of captions: a text or a list of texts."""
    return tuple(map(text_of, cell if isinstance(cell, list | tuple) else [cell]))


def image_name(text: str) -> str:
    """The name of an image file in a cell, without the URL that follows it in Airtable's exports."""
    match = ATTACHMENT.fullmatch(text.strip()) if text.rstrip().endswith(")") else None
    return match[1] if match else text
