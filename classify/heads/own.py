"""Heads of others: a class in a file, an estimator of scikit-learn, an entry point of a package.

`file.py:Name` is a subclass of `Head`; or a classifier of scikit-learn, as a class or as a function that
returns one. `sklearn.module:Name` is one of scikit-learn's own. Packages add either by an entry point of the
group `encode_once.heads`, whose name is the head's.
"""

import re
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from inspect import isabstract, isclass
from typing import Any

from encode_once.cache import own_code
from encode_once.cache.errors import UsageError, unknown_name
from encode_once.classify.heads.base import Head

GROUP = "encode_once.heads"
OF_SKLEARN = re.compile(r"(sklearn(?:\.\w+)*):(\w+)")


def plugins() -> dict[str, EntryPoint]:
    """The heads of installed packages, by name."""
    return {point.name: point for point in entry_points(group=GROUP)}


def find(name: str) -> type[Head] | None:
    """The class of a head that is not in `HEADS`; None if the name is none of these.

    Raises:
        UntrustedError: it is in a file that is not trusted.
        UsageError: it cannot be imported, or is no head.
    """
    if own_code.is_own(name):
        return _as_head(name, own_code.load(name, "head", _may_be_head))
    if match := OF_SKLEARN.fullmatch(name):
        return _as_head(name, _of_sklearn(*match.groups()))
    if point := plugins().get(name):
        return _as_head(name, point.load())
    if ":" in name:
        raise UsageError(
            f"unknown head {name!r}: expected FILE.py:NAME or sklearn.MODULE:CLASS; import a class of "
            "another package in a file of your own"
        )
    return None


def _may_be_head(value: Any) -> bool:
    """Whether an object of a file may be a head; a class with abstract methods is a base of some."""
    return callable(value) and not isabstract(value)


def _of_sklearn(module: str, name: str) -> Any:
    """A classifier of scikit-learn. Runs may name it: nothing else of scikit-learn is called."""
    from sklearn.base import BaseEstimator, ClassifierMixin

    try:
        members = vars(import_module(module))
    except ImportError as error:
        raise UsageError(f"unknown module {module!r} in {module}:{name}") from error
    classes = {
        member: value
        for member, value in members.items()
        if isclass(value) and issubclass(value, ClassifierMixin) and issubclass(value, BaseEstimator)
    }
    if name not in classes:
        raise unknown_name(f"classifier of {module}", name, [key for key in classes if key[0] != "_"])
    return classes[name]


@cache
def _as_head(name: str, value: Any) -> type[Head]:
    """The class itself, if it is a head's; else that of a head which wraps what `value` makes."""
    if isclass(value) and issubclass(value, Head):
        return value
    from encode_once.classify.heads.wrapped import head_of

    return head_of(name, value)
