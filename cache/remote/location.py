"""Which paths are URLs of files or folders elsewhere. Importing this imports nothing that opens them."""

import os
import re
from pathlib import Path
from urllib.parse import unquote

from encode_once.cache.errors import UsageError

# Of those that fsspec knows: others, such as http, have no folders or read what a stranger's file names.
EXTRAS = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
PROTOCOLS = {*EXTRAS, "memory"}
URL = re.compile(r"([a-z][a-z0-9+.-]*):(//?)", re.IGNORECASE)


def protocol_of(text: str) -> str:
    """The protocol of a URL in lower case; "" for a path, also as `file://` URL."""
    match = URL.match(text)
    name = match[1].lower() if match and match[2] == "//" else ""
    return "" if name == "file" else name


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether a path is the URL of a file or folder elsewhere; `file://` is a path.

    Raises:
        UsageError: it is a URL that this program does not open, or one that was made a `Path`.
    """
    text = os.fspath(path)
    protocol, match = protocol_of(text), URL.match(text)
    if match and not protocol and match[1].lower() in PROTOCOLS:
        raise UsageError(f"{text}: a URL has two slashes, {match[1].lower()}://; in Python, it is no Path")
    if protocol and protocol not in PROTOCOLS:
        raise UsageError(f"{text}: {protocol}:// is not read; use s3://, gs://, az:// or a path")
    return protocol != ""


def lower_protocol(url: str) -> str:
    """The URL as file systems know it: `S3://bucket/Prefix` → `s3://bucket/Prefix`."""
    protocol, colon, rest = url.partition(":")
    return protocol.lower() + colon + rest


def local_path(path: str | os.PathLike[str]) -> Path:
    """A path, also as `file://` URL."""
    text = os.fspath(path)
    return Path(unquote(text[len("file://") :]) if text.lower().startswith("file://") else text)
