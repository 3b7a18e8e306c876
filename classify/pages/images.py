"""Small copies of a table's images for pages."""

import base64
from collections.abc import Callable

from encode_once.cache import Table

CAPTION = 300  # characters of a caption that pages show

# From an image's source and content key: a small JPEG, or None if it cannot be read, or is another image now.
Thumbnail = Callable[[str, bytes], bytes | None]


def image_url(table: Table, row: int, thumbnail: Thumbnail) -> str:
    """The image of a row as a data URL; empty if it has none, or the image cannot be shown."""
    source = table.images[row]
    jpeg = thumbnail(source, table.keys("image")[row].tobytes()) if source else None
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}" if jpeg else ""
