"""Text that is safe to print: names in other people's files may contain commands for the terminal."""

import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

# Control characters, marks that reverse the direction of what follows, and bytes of names that are not UTF-8.
UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def short_list(names: Sequence[str], most: int = 10) -> str:
    """The names, of many only the first, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def one_line(text: str) -> str:
    """The text with every such character as an escape sequence of Python, line breaks too."""
    return UNSAFE.sub(lambda match: _escaped(match[0]), text)


def printable(text: str) -> str:
    """The same for a text of several lines: line breaks stay."""
    return "\n".join(map(one_line, text.split("\n")))


def short_path(path: str) -> str:
    """A path relative to the working directory, if it is inside."""
    with suppress(ValueError):
        return str(Path(path).relative_to(Path.cwd()))
    return path


Log = Callable[[str], None]  # takes a line, as the following does


def print_message(text: str) -> None:
    """Print a message of one line on stderr, apart from results."""
    print(one_line(text), file=sys.stderr)  # noqa: T201


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python represents a byte of a name that is not UTF-8
        code -= 0xDC00
    return SHORT.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
