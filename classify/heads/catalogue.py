"""What `heads` prints: a line for each head without importing it, and one head with its options."""

import ast
import inspect
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from encode_once.cache.text_table import table_text
from encode_once.classify import heads
from encode_once.classify.heads import option_values, own
from encode_once.classify.heads.search_space import Range


def listed() -> list[dict[str, Any]]:
    """Name, one sentence, and the options that the name sets, of every head."""
    rows = [
        {"head": name, "description": _sentence(module), "sets": dict(options)}
        for name, (module, _, options) in heads.HEADS.items()
    ]
    packages = {name: point.value.partition(".")[0] for name, point in own.plugins().items()}
    return rows + [
        {"head": name, "description": f"Of the package {package}.", "sets": {}}
        for name, package in packages.items()
    ]


def described(name: str) -> dict[str, Any]:
    """A head with its documentation and, for each option, its default, values and what `sweep` searches.

    Raises:
        UsageError: no head has that name.
    """
    head, defaults, types = heads.class_of(name), heads.defaults_of(name), heads.types_of(name)
    choices = {"loss": head.LOSSES, **head.CHOICES}
    options = [
        {
            "option": option,
            "default": option_values.shown(default),
            "values": option_values.described(option, types[option], choices.get(option, ())),
            "search": _searched(head.SPACE[option]) if option in head.SPACE else None,
        }
        for option, default in defaults.items()
        if option not in heads.FILLED_IN
    ]
    bases = [
        base
        for base in inspect.getmro(head)
        if base.__module__.startswith(heads.__name__)
        and base.__name__ not in ("Head", "Estimator")  # for authors of heads
    ]
    if name in heads.HEADS:
        sentence = _sentence(heads.HEADS[name][0])
    else:
        bases = [head]
        sentence = inspect.cleandoc(head.__doc__ or "").partition("\n")[0]
    documentation = "\n\n".join(inspect.cleandoc(base.__doc__ or "") for base in bases)
    return {"head": name, "description": sentence, "documentation": documentation, "options": options}


def listing(records: list[dict[str, Any]]) -> str:
    """The list as text."""
    rows = [{"head": record["head"], "description": _with_sets(record)} for record in records]
    return table_text(rows, header=False)


def text(record: dict[str, Any]) -> str:
    """A head as text."""
    rows = [{**option, "search": option["search"] or ""} for option in record["options"]]
    title = f"{record['head']}: {record['description']}"
    return "\n\n".join([title, record["documentation"], table_text(rows)])


def example(record: dict[str, Any]) -> list[str]:
    """Words that set the first option that a search tries, to its default."""
    option = next((option for option in record["options"] if option["search"]), None)
    return ["--set", f"{option['option']}={option['default']}"] if option else []


def _sentence(module: str) -> str:
    """The first line of a head's module, which is read without importing the module."""
    spec = find_spec(module, heads.__name__)
    assert spec is not None
    assert spec.origin is not None
    documentation = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8")))
    return (documentation or "").partition("\n")[0]


def _with_sets(record: dict[str, Any]) -> str:
    sets = ", ".join(f"{option}={value}" for option, value in record["sets"].items())
    return f"{record['description']}{f' ({sets})' if sets else ''}"


def _searched(space: Any) -> str:
    if isinstance(space, Range):
        return f"{space.low:g} to {space.high:g}{' (log)' if space.log else ''}"
    return ", ".join(map(option_values.shown, space))
