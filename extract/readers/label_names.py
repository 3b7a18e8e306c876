"""Class names that look as if they were read or written wrongly."""

import re
from unicodedata import normalize

JOINED = (" and ", " & ", ", ")
NUMBER = re.compile(r"-?\d+")
WEIGHT = re.compile(r".+[:=(]\s*\d*\.\d+\)?")  # red:0.9
SHARE = 0.9  # of the names that have a weight, from which on they are not names


def doubts(names: set[str]) -> list[str]:
    """A sentence for each kind of doubtful names, with an example and what to do."""
    return [*_spellings(names), *_several(names), *_weights(names), *_signed(names)]


def _spellings(names: set[str]) -> list[str]:
    by_plain: dict[str, list[str]] = {}
    for name in sorted(names):
        by_plain.setdefault(" ".join(normalize("NFKC", name).casefold().split()), []).append(name)
    spellings = [group for group in by_plain.values() if len(group) > 1]
    if not spellings:
        return []
    example = ", ".join(map(repr, spellings[0]))
    return [
        f"class names that differ only in case, blanks or Unicode form: {len(spellings)} (such as {example})"
        "; they are different classes until the table writes them in one way"
    ]


def _several(names: set[str]) -> list[str]:
    composed = [
        name
        for name in sorted(names)
        for joined in JOINED
        if joined in name and all(part.strip() in names for part in name.split(joined))
    ]
    if len(composed) < 2:
        return []
    return [
        f"class names that are made of other class names: {len(composed)} (such as {composed[0]!r}); if "
        "these are several labels, write the separator of the others between them"
    ]


def _weights(names: set[str]) -> list[str]:
    weighted = [name for name in sorted(names) if WEIGHT.fullmatch(name)]
    if len(weighted) < 2 or len(weighted) < SHARE * len(names):
        return []
    return [
        f"class names end in numbers (such as {weighted[0]!r}); if these are weights, write the names alone"
    ]


def _signed(names: set[str]) -> list[str]:
    """Numbers, a few of which occur with a minus sign, too; as many of both are a scale."""
    negative = [name for name in sorted(names) if name.startswith("-")]
    others = len(names) - len(negative)
    if not negative or others <= len(negative) + 1 or not all(map(NUMBER.fullmatch, names)):
        return []
    if not all(name[1:] in names for name in negative):
        return []
    label = negative[0][1:]
    return [
        f"class names that are other class names with a minus sign: {len(negative)} (such as {negative[0]!r})"
        f"; if it means that {label} is unknown, pass --unknown -; if absent, leave it out"
    ]
