"""Where data is: paths and URLs, as the user and the tables of a store name them."""

import os
from pathlib import Path

from encode_once.cache.remote.location import local_path, lower_protocol, protocol_of


def is_at_url(place: str) -> bool:
    """Whether a place is a URL, other than that of a local file."""
    return protocol_of(place) != ""


def is_gone(place: str) -> bool:
    """Whether there is no file at a path; a URL is not asked for."""
    return not is_at_url(place) and not Path(place).exists()


def is_below(source: str, place: str | os.PathLike[str]) -> bool:
    """Whether a file that a table was read from is the one at a place, or in the folder there."""
    place = os.fspath(place)
    if is_at_url(place) or is_at_url(source):
        source, place = lower_protocol(source), lower_protocol(place)
        return source == place or source.startswith(f"{place.rstrip('/')}/")
    return Path(source).is_relative_to(local_path(place).resolve())
