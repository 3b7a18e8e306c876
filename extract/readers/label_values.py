"""Label names in lists and objects, as JSON files and annotation tools have them."""

from collections.abc import Iterable, Mapping, Sequence
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
    if _are_entries(value.values()):
        return [name for name, flag in value.items() if flag == 1]
    return None


def unknown_in(value: Any) -> list[Any]:
    """The names in an object of flags whose flag is null or -1."""
    if not isinstance(value, Mapping) or names_in(value) is None or not _are_entries(value.values()):
        return []
    return [name for name, flag in value.items() if not is_flag(flag)]


def _are_entries(values: Iterable[object]) -> bool:
    """Whether all values are flags, or null or -1 where nobody knows, and some are flags."""
    flags = [is_flag(value) for value in values if not (value is None or value == -1)]
    return bool(flags) and all(flags)


def is_flag(value: object) -> bool:
    """Whether a value is true, false, 0 or 1."""
    return isinstance(value, bool) or (isinstance(value, int | float) and value in (0, 1))


def is_vector(value: object, length: int | None = None) -> bool:
    """Whether a value is a list of two or more flags, or null or -1 in place of some."""
    return (
        isinstance(value, list | tuple)
        and len(value) > 1
        and length in (None, len(value))
        and _are_entries(value)
    )


def strings_in(value: Any) -> Sequence[str] | None:
    """A list of strings as it is, else None."""
    return value if isinstance(value, list) and all(isinstance(item, str) for item in value) else None
