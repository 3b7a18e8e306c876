"""How objects are shown: in a line or two at the prompt, and as HTML in a notebook."""

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from reprlib import Repr
from typing import Any

from encode_once.cache.text_table import cell_text

MOST_ROWS = 20  # of a table in a notebook


class _Short(Repr):
    """Long texts, lists and mappings shortened, arrays by their shape."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, 80, 80
        self.maxlist = self.maxtuple = self.maxdict = 4

    def repr1(self, x: Any, level: int) -> str:
        if hasattr(x, "dtype") and hasattr(x, "shape"):
            return f"<{' × '.join(map(str, x.shape)) or 'one'} {x.dtype}>"
        if is_dataclass(x) and not isinstance(x, type) and type(x).__repr__ is short_repr:
            return f"<{type(x).__name__}>" if level < 3 else self.repr_fields(x, level)
        return super().repr1(x, level)

    def repr_fields(self, x: Any, level: int) -> str:
        names = (field.name for field in fields(x) if field.repr)
        shown = (f"{name}={self.repr1(getattr(x, name), level - 1)}" for name in names)
        return f"{type(x).__name__}({', '.join(shown)})"


def short_repr(self: Any) -> str:
    """The `__repr__` of a dataclass with long lists, arrays or texts."""
    return _SHORT.repr_fields(self, _SHORT.maxlevel)


_SHORT = _Short()


def html_table(rows: Sequence[Mapping[str, Any]], total: int | None = None) -> str:
    """The first rows, with equal keys, as an HTML table, and how many more there are.

    total: the number of rows, if `rows` are only the first.
    """
    if not rows:
        return ""
    lines = [_line("th", rows[0]), *(_line("td", row.values()) for row in rows[:MOST_ROWS])]
    more = (len(rows) if total is None else total) - MOST_ROWS
    rest = f"<p>… and {more:,} more rows</p>" if more > 0 else ""
    return f"<table>{''.join(lines)}</table>{rest}"


def html_heading(text: str) -> str:
    """A line above a table."""
    return f"<p><b>{html.escape(text)}</b></p>"


def html_notes(lines: Iterable[str]) -> str:
    """Lines below a table."""
    return "".join(f"<p>{html.escape(line)}</p>" for line in lines)


def html_warnings(lines: Iterable[str]) -> str:
    """The same for warnings."""
    return html_notes(f"warning: {line}" for line in lines)


def _line(tag: str, cells: Iterable[Any]) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(cell_text(cell))}</{tag}>' for cell in cells)}</tr>"
