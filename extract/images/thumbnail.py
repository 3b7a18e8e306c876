"""Small copies of images for pages that a person looks at."""

import io

from encode_once.cache import content_key
from encode_once.extract.errors import InputError
from encode_once.extract.images.decode import decode
from encode_once.extract.images.hashing import read_file

SIDE = 240  # pixels of the longer side
QUALITY = 75


def thumbnail(source: str, key: bytes) -> bytes | None:
    """A small JPEG of the image with this source and content key; None if it cannot be read, or has changed.

    source: a path, or a place in a container. The store that names it may be a stranger's: without the key,
    any image of this machine could be taken into a page.
    """
    try:
        content = read_file(source)
        if content_key(content) != key:
            return None
        image = decode(content, SIDE)
    except InputError:
        return None
    image.thumbnail((SIDE, SIDE))
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=QUALITY)
    return jpeg.getvalue()
