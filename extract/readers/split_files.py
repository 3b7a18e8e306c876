"""Which table files are the table of which split, by their names alone."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from encode_once.cache.packed import stem_of, suffix_of
from encode_once.extract.readers.image_search import SPLIT_NAMES, SPLITS

USUAL_SPLITS = SPLIT_NAMES - {"trainval"} | {"eval", "holdout"}
VERSION = re.compile(r"(?P<split>.+?)[-_. ]v?\d+")
SHARD = re.compile(r"(?P<table>.+?)[-_.](?P<number>\d+)(-of-(?P<total>\d+))?")


def files_by_split(paths: Sequence[Path], formats: Sequence[str]) -> dict[str, list[Path]]:
    """Split → its files: one, or several shards of it.

    If a file has the usual name of a split, such as Train.csv, files with other names are left out. So are
    they if names differ in such a word only, as `photos_train.csv` and `photos_test.csv` do. Of files of one
    name in several formats, only those of the first are taken.

    Args:
        formats: suffixes, the preferred first.
    """
    tables: dict[str, list[Path]] = {}
    for suffix in formats:
        of_format = sorted(path for path in paths if suffix_of(path) == suffix)
        for name, files in _shards(of_format).items():
            tables.setdefault(name, files)
    _drop_versions(tables)
    usual = {name.lower(): files for name, files in tables.items() if name.lower() in USUAL_SPLITS}
    return usual or _by_word(tables) or tables


def _shards(paths: Sequence[Path]) -> dict[str, list[Path]]:
    """Name of a table → its files, of one format.

    Files are shards of a table if their names say of how many, or if there are several, which are numbered
    consecutively from 0 or 1. Any other number is a part of the name.
    """
    tables: dict[str, list[Path]] = {}
    for path in paths:
        tables.setdefault(stem_of(path), [path])  # not both train.csv and train.csv.gz
    shards: dict[tuple[str, str], dict[int, str]] = {}  # table and number of shards → number → name
    for name in tables:
        if match := SHARD.fullmatch(name):
            of_table = shards.setdefault((match["table"], match["total"] or ""), {})
            of_table[int(match["number"])] = name
    for (table, total), by_number in shards.items():
        n = len(by_number)
        consecutive = n > 1 and {*by_number} in ({*range(n)}, {*range(1, n + 1)})
        if table not in tables and (total or consecutive):
            tables[table] = [path for _, name in sorted(by_number.items()) for path in tables.pop(name)]
    return tables


def missing_shards(files: Sequence[Path]) -> int:
    """How many of a table's shards are not there, if their names say how many there are."""
    match = SHARD.fullmatch(stem_of(files[0]))
    return max(int(match["total"] or 0) - len(files), 0) if match else 0


def _drop_versions(tables: dict[str, list[Path]]) -> None:
    """Call the only file `train_2019` or `train_v2` train, unless there is a file of that name."""
    versions: dict[str, list[str]] = {}
    for name in tables:
        if (match := VERSION.fullmatch(name)) and match["split"].lower() in USUAL_SPLITS:
            versions.setdefault(match["split"].lower(), []).append(name)
    exact = {name.lower() for name in tables}
    for split, names in versions.items():
        if len(names) == 1 and split not in exact:
            tables[split] = tables.pop(names[0])


def _by_word(tables: Mapping[str, list[Path]]) -> dict[str, list[Path]]:
    """Split → files, if the names of two or more tables differ only in the word of a split; else empty."""
    by_rest: dict[tuple[str, ...], dict[str, list[Path]]] = {}
    for name, files in tables.items():
        words = re.split(r"[-_. ]+", name.lower())
        splits = [word for word in words if word in USUAL_SPLITS]
        if len(splits) == 1 and len(words) > 1:
            rest = tuple(word for word in words if word not in splits)
            by_rest.setdefault(rest, {})[splits[0]] = files
    complete = [of_rest for of_rest in by_rest.values() if len(_different(of_rest)) > 1]
    return complete[0] if len(complete) == 1 else {}


def _different(words: Mapping[str, object]) -> set[int]:
    """The numbers of the splits that words mean: train and training are one."""
    return {number for number, synonyms in enumerate(SPLITS) for word in words if word in synonyms}
