"""Label names in lists and objects, as JSON files and annotation tools have them."""

from collections.abc import Mapping, Sequence
from typing import Any

# Keys under which annotation tools, such as Label Studio, keep the names.
NAMES_KEYS = (
    "choices",
    "labels",
    "rectanglelabels",
    "polygonlabels",
    "keypointlabels",
    "brushlabels",
    "taxonomy",
)
NAME_KEYS = ("label", "name", "category", "class", "tag", "value")


def names_in(value: Any) -> list[Any] | None:
    """The label names in a list or object: themselves, those of an annotation tool, or those that are true.

    Returns:
        Texts and numbers; None if there is something else.
    """
    if isinstance(value, Mapping):
        return _names_of_object(value)
    names: list[Any] = []
    for item in value:
        if isinstance(item, Mapping):
            of_item = _names_of_object(item)
            if of_item is None:
                return None
            names += of_item
        elif isinstance(item, list | tuple | set | bytes):
            return None
        else:
            names.append(item)
    return names


def _names_of_object(value: Mapping[Any, Any]) -> list[Any] | None:
    for key in NAMES_KEYS:
        names = value.get(key)
        if isinstance(names, list | tuple) and not any(isinstance(n, list | dict | bytes) for n in names):
            return list(names)
        if isinstance(names, str):
            return [names]
    for key in NAME_KEYS:
        if isinstance(value.get(key), str):
            return [value[key]]
    if value and all(is_flag(flag) for flag in value.values()):
        return [name for name, flag in value.items() if flag]
    return None


def is_flag(value: object) -> bool:
    """Whether a value is true, false, 0 or 1."""
    return isinstance(value, bool) or (isinstance(value, int | float) and value in (0, 1))


def is_vector(value: object, length: int | None = None) -> bool:
    """Whether a value is a list of two or more flags."""
    return (
        isinstance(value, list | tuple)
        and len(value) > 1
        and length in (None, len(value))
        and all(map(is_flag, value))
    )


def strings_in(value: Any) -> Sequence[str] | None:
    """A list of strings as it is, else None."""
    return value if isinstance(value, list) and all(isinstance(item, str) for item in value) else None
