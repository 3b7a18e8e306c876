"""Lists that were written into a cell as text, by Python, JSON, NumPy or an annotation tool."""

import ast
import json
import re
import warnings
from collections.abc import Collection
from typing import Any

from encode_once.extract.readers.missing import EMPTY_LISTS

STRING = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
NUMPY_STRINGS = re.compile(rf"\[\s*{STRING}(?:\s+{STRING})*\s*\]", re.DOTALL)
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
NUMPY_NUMBERS = re.compile(rf"\[\s*{NUMBER}(?:\s+{NUMBER})*\s*\]")
NUMPY_ARRAY = re.compile(r"array\((.*?)(?:,\s*dtype=[^()]*)?\)", re.DOTALL)
BARE_LIST = re.compile(r"\[[^\[\]{}'\"]*\]", re.DOTALL)
ANGLED = re.compile(r"(?:<[^<>]+>)+")  # <python><pandas>, as Stack Overflow has its tags
QUOTED = re.compile(rf"{STRING}(?:\s*[,;|]\s*{STRING})*")  # 'red', 'green'
SHORTENED = re.compile(r"[\[(].*\.\.\..*[\])]", re.DOTALL)
HASHTAGS = re.compile(r"(?:#[^#\s,;|]+\s*)+")  # #python#pandas, #python #pandas
QUOTES = re.compile(STRING, re.DOTALL)
PAIRS = {"[": "]", "(": ")", "{": "}", "<": ">"}
EMPTY = {*EMPTY_LISTS, "array([])"}


def is_shortened(text: str) -> bool:
    """Whether it is like [0 0 1 ... 0 0 0]: NumPy prints 1,000 numbers at most. A name may end in dots."""
    return "..." in text and bool(SHORTENED.fullmatch(QUOTES.sub("''", text)))


def literal(text: str) -> Any:
    """The list, tuple, set or object that a text is, as a list or dict; None if it is none.

    No code is executed. Names without quotes, as in `[red, green]`, are texts.
    """
    text = text.strip()
    if text in EMPTY:
        return []
    if array := NUMPY_ARRAY.fullmatch(text):
        text = array[1].strip()
    if text[:1] not in PAIRS or not text.endswith(PAIRS[text[:1]]):
        return None
    return _in_brackets(text)


def _in_brackets(text: str) -> Any:
    if ANGLED.fullmatch(text):
        return text[1:-1].split("><")
    if NUMPY_STRINGS.fullmatch(text):  # Python would make one string of adjacent ones
        return [_evaluated(string) for string in re.findall(STRING, text, re.DOTALL)]
    if NUMPY_NUMBERS.fullmatch(text):
        return [_evaluated(number.strip("+")) for number in text[1:-1].split()]
    value = _parsed(text)
    if isinstance(value, set):
        value = _evaluated(f"[{text[1:-1]}]")  # in the order of the text
    if value is None and BARE_LIST.fullmatch(text):
        value = [part.strip() for part in text[1:-1].split(",") if part.strip()]
    if isinstance(value, str):  # ('red') is not a tuple
        value = [value]
    return list(value) if isinstance(value, tuple) else value


def names_without_brackets(texts: Collection[str]) -> dict[str, list[Any]]:
    """Text → its names, if all texts are quoted names, or all are hashtags; else empty."""
    stripped = {text: text.strip() for text in texts}
    if all(map(QUOTED.fullmatch, stripped.values())):
        return {text: list(map(_evaluated, re.findall(STRING, plain))) for text, plain in stripped.items()}
    if all(map(HASHTAGS.fullmatch, stripped.values())):
        return {text: plain.replace("#", " #").split() for text, plain in stripped.items()}
    return {}


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _evaluated(text)


def _evaluated(text: str) -> Any:
    """A literal of Python; None if the text is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # of "\d"
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None
