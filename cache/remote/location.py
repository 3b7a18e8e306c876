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


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether a path is the URL of a file or folder elsewhere; `file://` is a path.

    Raises:
        UsageError: it is a URL that this program does not open, or one that was made a `Path`.
    """
    match = URL.match(os.fspath(path))
    protocol, slashes = (match[1].lower(), match[2]) if match else ("", "")
    if protocol in PROTOCOLS and slashes == "/":
        raise UsageError(f"{os.fspath(path)}: a URL has two slashes, {protocol}://; in Python, it is no Path")
    if protocol in ("", "file") or slashes != "//":
        return False
    if protocol not in PROTOCOLS:
        raise UsageError(f"{os.fspath(path)}: {protocol}:// is not read; use s3://, gs://, az:// or a path")
    return True


def lower_protocol(url: str) -> str:
    """The URL as file systems know it: `S3://bucket/Prefix` → `s3://bucket/Prefix`."""
    protocol, colon, rest = url.partition(":")
    return protocol.lower() + colon + rest


def local_path(path: str | os.PathLike[str]) -> Path:
    """A path, also as `file://` URL."""
    text = os.fspath(path)
    return Path(unquote(text[len("file://") :]) if text.lower().startswith("file://") else text)
