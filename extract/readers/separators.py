"""Decide what separates the labels in a cell, from all cells of the column.

Whether `red green` is two names or one cannot be seen from the cell. Names that are separated recur: alone in
other cells, or with many other names. Names of several words do not: `golden` occurs only before `retriever`.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

BLANK = " "  # any white space
# Candidate → how much more a row counts with it: few names contain a bar, many contain a blank.
WEIGHTS = {
    "|": 3,
    ";": 3,
    "\n": 3,
    ",": 2,
    "/": 1,
    "&": 1,
    "+": 1,
    "｜": 3,
    "；": 3,
    "、": 3,
    "，": 2,
    BLANK: 1,
}
COMMAS = ",，"
# Parts of words: they separate only if their parts occur alone, in at least two different cells.
RARE = ("-", "_", ":", "~", "·", "•", " and ")
# One that occurs in many names, as in C++ and R&B, separates only between two parts.
BETWEEN = {
    s: re.compile(rf"\s+{re.escape(s)}\s+|(?<=[^\s{s}])\s*{re.escape(s)}\s*(?=[^\s{s}])") for s in "/&+"
}
RELIABLE = "|;\n｜；、"  # separate names unless the column shows the contrary
# "Red (bright, warm), Green" is two names, and "R&amp;B;Rock", too.
WHOLE = re.compile(r"\([^()]*\)|&(?:amp|lt|gt|quot|apos|nbsp|#\d+);")
FEW = 5  # different cells that show nothing
CLEAR = 0.8  # share of different cells whose parts all occur alone, from which on there is no doubt
ENOUGH = 0.5
REPEATED = 2  # rows for each different cell of a column of names


@dataclass(frozen=True)
class Separator:
    """What separates labels, and why."""

    text: str | None  # None: every cell is one name
    reason: str
    doubt: str = ""  # why it may be another
    names: frozenset[str] = field(default_factory=frozenset, repr=False)  # that occur alone or separated
    is_chosen: bool = False  # by the user, so that no cell is odd

    @property
    def shown(self) -> str:
        """The separator in a message."""
        return "one name a cell" if self.text is None else f"separated by {self.text!r}"

    def split(self, cell: str) -> tuple[tuple[str, ...], bool]:
        """The names in a cell, and whether it is odd: separated otherwise than the column."""
        if whole := self._otherwise(cell):
            return tuple(dict.fromkeys(whole)), True
        if self.is_chosen:
            return tuple(dict.fromkeys(_split(cell, self.text))), False
        parts = [(part, self._otherwise(part)) for part in parts_of(cell, self.text)]
        names = [name for part, otherwise in parts for name in otherwise or [part]]
        return tuple(dict.fromkeys(names)), any(otherwise for _, otherwise in parts)

    def _otherwise(self, text: str) -> list[str]:
        """The known names that another separator makes of a text; empty if none does."""
        others = () if self.is_chosen else WEIGHTS
        candidates = (parts_of(text, s) for s in others if s not in (self.text, BLANK) and s in text)
        return next((p for p in candidates if len(p) > 1 and self.names.issuperset(p)), [])


def chosen(text: str) -> Separator:
    """The user's separator."""
    return Separator(BLANK if text.isspace() else text, "chosen with --label-separator", is_chosen=True)


def parts_of(cell: str, separator: str | None) -> list[str]:
    """The parts of a cell, without blanks around them; brackets and HTML's entities are not separated."""
    if ("(" not in cell and "&" not in cell) or separator in (None, BLANK):
        return _split(cell, separator)
    groups = WHOLE.findall(cell)
    parts = _split(WHOLE.sub("\0", cell), separator)
    return [re.sub("\0", lambda _: groups.pop(0), part) for part in parts]


def _split(cell: str, separator: str | None) -> list[str]:
    if separator is None:
        return [cell.strip()] if cell.strip() else []
    if separator == BLANK:
        return cell.split()
    parts = cell.split(separator) if separator not in BETWEEN else BETWEEN[separator].split(cell)
    return [part.strip() for part in parts if part.strip()]


@dataclass(frozen=True)
class _Evidence:
    """What the cells of a column say for a separator."""

    rows: int  # with several parts
    cells: int  # different ones
    alone: float  # share of these all of whose parts occur alone in other cells
    recurring: float  # share of these all of whose parts occur in other cells
    combined: bool  # far more different cells than parts: parts are combined freely
    numbers: bool  # all parts are numbers
    example: str

    @property
    def speaks_for(self) -> bool:
        return bool(self.rows) and (self.alone >= ENOUGH or self.combined or self.numbers)


def _evidence(counts: Mapping[str, int], separator: str) -> _Evidence:
    split = {cell: parts_of(cell, separator) for cell in counts}
    several = {cell: parts for cell, parts in split.items() if len(parts) > 1 and _is_clean(cell, separator)}
    alone = {cell.strip() for cell, parts in split.items() if len(parts) == 1}
    occurrences = Counter(part for parts in split.values() for part in set(parts))
    tokens = {part for parts in several.values() for part in parts}
    n = len(several) or 1
    return _Evidence(
        rows=sum(counts[cell] for cell in several),
        cells=len(several),
        alone=sum(alone.issuperset(parts) for parts in several.values()) / n,
        recurring=sum(all(occurrences[p] > 1 for p in parts) for parts in several.values()) / n,
        combined=len(several) >= max(2 * len(tokens), FEW),
        numbers=bool(tokens) and all(map(_is_number, tokens | alone)),
        example=max(several, key=counts.__getitem__, default=""),
    )


def _is_clean(cell: str, separator: str) -> bool:
    """Whether a separator only stands between two parts here, unlike in /m/01."""
    return separator not in BETWEEN or not cell.lstrip().startswith(separator)


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def decide(counts: Mapping[str, int]) -> Separator:
    """The separator of a column.

    Args:
        counts: cell → number of rows with it, without empty cells.
    """
    evidence = {text: _evidence(counts, text) for text in (*WEIGHTS, *RARE) if text != BLANK}
    likely = {text: of_text for text, of_text in evidence.items() if _accepts(text, of_text)}
    # A blank next to another separator is part of a name, or of that separator.
    blank = _evidence({cell: n for cell, n in counts.items() if not any(s in cell for s in likely)}, BLANK)
    if blank.speaks_for:
        likely[BLANK] = blank
    if not likely:
        return _names_of_one(counts, {s: evidence[s] for s in WEIGHTS if s != BLANK} | {BLANK: blank})
    text = max(likely, key=lambda s: likely[s].rows * WEIGHTS.get(s, 1))
    names = frozenset(
        part
        for cell in counts
        if not any(s in cell for s in likely if s not in (text, BLANK))
        for part in parts_of(cell, text)
    )
    return Separator(text, _reason(likely[text]), _doubt(text, likely[text], sum(counts.values())), names)


def decide_each(tables: Sequence[Mapping[str, int]]) -> tuple[Separator, list[Separator]]:
    """The separator that tables share, and that of each, which may be another.

    A small table shows little, so it is read as the others are, unless more of its names are known with its
    own separator, or the shared one separates none of its cells and its own clearly does.

    Args:
        tables: cell → number of rows with it, of each table.
    """
    shared = decide(_sum(tables))
    with_own: dict[int, Separator] = {}
    for number, table in enumerate(tables):
        others = [*tables[:number], *tables[number + 1 :]]
        own = decide(table) if table else shared
        if own.text != shared.text and _is_own(table, own, shared, others):
            with_own[number] = own
    if with_own and len(with_own) < sum(map(bool, tables)):
        shared = decide(_sum([table for number, table in enumerate(tables) if number not in with_own]))
    of_table = [
        replace(with_own[number], names=with_own[number].names | shared.names)
        if number in with_own
        else shared
        for number in range(len(tables))
    ]
    return shared, of_table


def _sum(tables: Iterable[Mapping[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for table in tables:
        total.update(table)
    return total


def _is_own(
    table: Mapping[str, int], own: Separator, shared: Separator, others: Iterable[Mapping[str, int]]
) -> bool:
    elsewhere = {part for cells in others for cell in cells for part in parts_of(cell, shared.text)}

    def share_elsewhere(separator: Separator) -> float:
        names = [part for cell in table for part in parts_of(cell, separator.text)]
        return sum(name in elsewhere for name in names) / len(names) if names else 0

    if (by_own := share_elsewhere(own)) != (by_shared := share_elsewhere(shared)):
        return by_own > by_shared
    separates = any(len(parts_of(cell, shared.text)) > 1 for cell in table)
    return own.text is not None and not own.doubt and not separates


def _accepts(text: str, evidence: _Evidence) -> bool:
    if not evidence.rows or text in RELIABLE:
        return bool(evidence.rows)
    if text in RARE:
        return evidence.cells > 1 and evidence.alone >= CLEAR
    if text in COMMAS:  # not as in "Portland, OR", a name that recurs as a whole
        recurs = evidence.rows >= REPEATED * evidence.cells
        return evidence.speaks_for or evidence.cells < FEW or evidence.recurring >= ENOUGH or not recurs
    return evidence.speaks_for and not evidence.numbers


def _names_of_one(counts: Mapping[str, int], evidence: Mapping[str, _Evidence]) -> Separator:
    names = frozenset(cell.strip() for cell in counts)
    for text, of_text in evidence.items():
        if of_text.cells > 1 and of_text.recurring >= ENOUGH:
            shown = f"{of_text.example!r} may be {' and '.join(map(repr, parts_of(of_text.example, text)))}"
            return Separator(None, "each cell is one name", shown, names)
    several = [cell for cell in counts if len(cell.split()) > 1]
    if len(counts) >= 2 * FEW and sum(counts.values()) < REPEATED * len(counts) and several:
        doubt = (
            f"{len(counts)} different names are in {sum(counts.values())} rows, such as {several[0][:60]!r}"
        )
        return Separator(None, "each cell is one name", doubt, names)
    return Separator(None, "each cell is one name", "", names)


def _reason(evidence: _Evidence) -> str:
    if evidence.numbers:
        return "all parts are numbers"
    if evidence.alone >= ENOUGH:
        return f"in {evidence.alone:.0%} of the different cells, all parts also occur alone"
    return "the parts occur in many combinations" if evidence.combined else "it occurs in few names"


def _doubt(text: str, evidence: _Evidence, rows: int) -> str:
    if evidence.numbers or evidence.combined or evidence.alone >= CLEAR:
        return ""
    rare = evidence.cells == 1 and rows > 2 * FEW
    if text in RELIABLE and not rare:
        return ""
    if text in COMMAS and evidence.recurring >= ENOUGH:
        return ""
    return f"{evidence.example!r} may be one name"


def usable(names: Iterable[str], candidates: Sequence[str]) -> str | None:
    """The first candidate that occurs in no name."""
    distinct = set(names)
    return next((c for c in candidates if not any(contains(name, c) for name in distinct)), None)


def contains(name: str, separator: str) -> bool:
    """Whether a name would be split at a separator."""
    return len(name.split()) > 1 if separator == BLANK else separator in name
