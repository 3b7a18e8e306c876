"""Parse JSON that may come from anywhere."""

import codecs
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from encode_once.cache.input_files import open_regular

HEAD = 1 << 16  # bytes in which the first record ends
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def holds_records(path: Path) -> bool:
    """Whether a .json file is a list of records, or JSON lines: several objects, one a line."""
    try:
        with open_regular(path) as file:
            head = file.read(HEAD).removeprefix(codecs.BOM_UTF8).lstrip()
    except OSError:  # it is reported when it is read
        return False
    if head.startswith(b"["):
        return head[1:].lstrip().startswith((b"{", b"]"))
    lines = [line for line in head.splitlines() if line.strip()]
    if len(lines) < 2 or not all(line.lstrip().startswith(b"{") for line in lines[:2]):
        return False
    try:
        return isinstance(parse(lines[0]), dict)
    except ValueError:
        return False


def parse(text: bytes, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """The value of UTF-8 JSON.

    Raises:
        ValueError: it is not JSON, is nested too deeply, or contains half a surrogate pair, which UTF-8
            cannot encode.
    """
    decoded = text.decode("utf-8-sig")
    try:
        value = json.loads(decoded, object_hook=object_hook)
        if SURROGATE.search(decoded):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except UnicodeEncodeError as error:
        raise ValueError("it contains half a surrogate pair, \\ud800 to \\udfff") from error
    return value
