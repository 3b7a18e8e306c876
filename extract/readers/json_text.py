"""Parse JSON that may come from anywhere."""

import json
import re
from collections.abc import Callable
from typing import Any

SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


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
