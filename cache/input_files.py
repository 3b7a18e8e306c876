"""Open the user's files: regular files only, without blocking, and with limits on what is read at once.

To open a pipe may wait forever, and a device may have no end.
"""

import errno
import os
import stat
from io import BufferedReader

from encode_once.cache.format.files import kind_of, open_at_once

# Most bytes of an image, and of a text: a text file, a line, a member of an archive or a cell of a table.
# 512 MB is about the largest image that is accepted, 179 million pixels, uncompressed.
IMAGE_MB = "ENCODE_ONCE_MAX_IMAGE_MB", 512
TEXT_MB = "ENCODE_ONCE_MAX_TEXT_MB", 64
Limit = tuple[str, int]  # an environment variable, and its default in MB


def stat_file(path: str | os.PathLike[str]) -> os.stat_result:
    """`os.stat`, which follows links.

    Raises:
        OSError: there is nothing at the path, it may not be accessed, or it is no path.
    """
    try:
        return os.stat(path)  # noqa: PTH116 — called for a million files
    except ValueError as error:
        raise OSError(errno.EINVAL, "embedded null byte", str(path)) from error


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raise if a path does not lead to a regular file; links are followed.

    Raises:
        OSError: it is something else, which the message names, or may not be accessed.
    """
    mode = stat_file(path).st_mode
    if not stat.S_ISREG(mode):
        raise _refusal(path, mode)


def _refusal(path: str | os.PathLike[str], mode: int) -> OSError:
    number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
    return OSError(number, f"{kind_of(mode)}, not a regular file", str(path))


def open_regular(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a regular file for reading.

    Raises:
        OSError: as `check_regular`, or the file cannot be opened.
    """
    check_regular(path)  # before it is opened: that alone may rewind a tape, or wake a pipe's writer
    return os.fdopen(open_at_once(os.fspath(path), os.O_RDONLY, lambda mode: _refusal(path, mode)), "rb")


def read_regular(path: str | os.PathLike[str], limit: Limit | None = None) -> bytes:
    """The bytes of a regular file.

    Raises:
        OSError: as `open_regular`, or the file is larger than the limit.
    """
    with open_regular(path) as file:
        if limit:
            check_size(os.fstat(file.fileno()).st_size, limit, path)
        return file.read()


def check_size(size: int, limit: Limit, path: str | os.PathLike[str]) -> None:
    """Raise if there are more bytes than the limit allows.

    Raises:
        OSError: there are.
    """
    megabytes = limit_mb(limit)
    if size > megabytes << 20:
        message = f"{size / (1 << 20):,.1f} MB, more than the limit of {megabytes}; {limit[0]} raises it"
        raise OSError(errno.EFBIG, message, str(path))


def limit_mb(limit: Limit) -> int:
    """The limit in MB: the environment's value, if it is a number, else the default."""
    name, default = limit
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() else default
