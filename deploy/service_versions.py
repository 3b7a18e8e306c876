"""The versions of a run in one folder, and which of them is in service, by aliases: see `cache.aliases`."""

import os
import re
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from shutil import rmtree
from typing import Any, NamedTuple

from encode_once.cache import DataError, MissingDataError, UsageError
from encode_once.cache.aliases import (
    CHAMPION,
    FILE,
    AliasEntry,
    Aliases,
    changing_aliases,
    check_alias,
    parsed,
    read_aliases,
    resolved,
)
from encode_once.cache.errors import collected
from encode_once.cache.format.atomic import sync_folder
from encode_once.cache.text_table import table_text
from encode_once.classify.evaluation.metrics import SUMMARY
from encode_once.classify.runs.checksums import check_files, read_metrics
from encode_once.classify.runs.loading import load_run
from encode_once.classify.runs.reading import read_json
from encode_once.classify.runs.run import CHECKED, WEIGHTS
from encode_once.classify.runs.upgrades import WITH_CHECKSUMS

VERSION = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ(-\d+)?")  # the folders that `update` makes
REMOVED = ".removed-"  # before the name of a version that is being removed


class Switch(NamedTuple):
    """What an alias names now, and what it named before."""

    alias: str  # FOLDER@ALIAS
    before: str | None
    now: str


def promote(run: Path, alias: str = CHAMPION, *, instead_of: str | None = None) -> Switch:
    """Let an alias name a run, once all files of the run are whole.

    Args:
        instead_of: the run that it has to name until then.

    Raises:
        UsageError: the alias has other characters than names have.
        DataError: the alias names another run than `instead_of`.
        EncodeOnceError: the run cannot be read.
    """
    check_alias(alias)
    folder, name = run.parent, run.name
    if name != run.resolve().name:
        raise UsageError(f"{run} has no name of its own: name the folder of a run")
    _check_whole(run)
    with changing_aliases(folder) as aliases:
        before = aliases.current(alias)
        if instead_of not in (None, before):
            raise DataError(f"{folder}@{alias} is now {before}, not {instead_of}: nothing is promoted")
        aliases.assign(name, alias)
    return Switch(f"{folder}@{alias}", before, name)


def _check_whole(run: Path) -> None:
    """Refuse a run that cannot be read, or with a changed file; those of old versions have no checksums.

    Raises:
        EncodeOnceError: it is one.
    """
    if load_run(run).version >= WITH_CHECKSUMS:
        check_files(run, (*CHECKED, WEIGHTS))


def in_service(text: str) -> tuple[Path, str]:
    """FOLDER@ALIAS, or FOLDER for its champion → folder and alias.

    Raises:
        UsageError: it is something else.
    """
    folder, alias = parsed(text)
    if folder == Path(text):
        path = folder
        if (path / FILE).exists() and not (path / "run.json").exists():
            return in_service(f"{path}@{CHAMPION}")
        hint = ""
        if (path / "run.json").exists():
            hint = f": first promote {path}, then name {path.parent}@{CHAMPION}"
        raise UsageError(f"{text} is not FOLDER@ALIAS, as promote makes it{hint}")
    resolved(f"{folder}@{alias}")  # raises for an unknown alias
    return folder, alias


def rollback(text: str) -> Switch:
    """Let an alias name the run that it named before.

    Raises:
        UsageError: the text is not FOLDER@ALIAS.
        DataError: the alias has named no other run, or not one that is still there.
    """
    folder, alias = in_service(text)
    with changing_aliases(folder) as aliases:
        *history, current = aliases.aliases[alias]
        while history and (history[-1].run == current.run or not (folder / history[-1].run).is_dir()):
            history.pop()
        if not history:
            raise DataError(f"{folder}@{alias} named no run before {current.run} that is still there")
        now = history[-1].run
        _check_whole(folder / now)
        aliases.aliases[alias] = history
        withdrawn = [name for name in aliases.withdrawn if name not in (now, current.run)]
        aliases.withdrawn = [*withdrawn, current.run]
    return Switch(f"{folder}@{alias}", current.run, now)


def new_version(folder: Path) -> Path:
    """A folder for a version of now that does not exist."""
    name = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    names = (name if number == 1 else f"{name}-{number}" for number in count(1))
    return next(folder / name for name in names if not os.path.lexists(folder / name))


def versions(folder: Path) -> list[Path]:
    """The runs that `update` made in a folder, the oldest first."""
    return sorted(path for path in folder.glob("*") if VERSION.fullmatch(path.name) and path.is_dir())


def remove_old(folder: Path, keep: int) -> list[str]:
    """Remove all but the newest versions; those that an alias names, or named last before, stay.

    Their names are removed from the aliases' histories first: after a kill, the next call removes the rest.

    Returns:
        The names of the versions that were removed.
    """
    with changing_aliases(folder) as aliases:
        old = {path.name for path in versions(folder)[:-keep]}
        for history in aliases.aliases.values():
            old -= _last_two(history)
        for alias, history in aliases.aliases.items():
            aliases.aliases[alias] = [named for named in history if named.run not in old]
        aliases.withdrawn = [name for name in aliases.withdrawn if name not in old]
    for name in sorted(old):
        (folder / name).rename(folder / f"{REMOVED}{name}")
    for path in folder.glob(f"{REMOVED}*"):
        rmtree(path)
    sync_folder(folder)
    return sorted(old)


def _last_two(history: list[AliasEntry]) -> set[str]:
    """The run that an alias names, and the one that it named before."""
    names = list(dict.fromkeys(named.run for named in history[::-1]))
    return {*names[:2]}


def listed(folder: Path) -> list[dict[str, Any]]:
    """The runs in a folder and its subfolders, the oldest first: aliases, dates and main metrics.

    Raises:
        MissingDataError: there is none.
    """
    rows = []
    for path in sorted(file.parent for file in folder.rglob("run.json")):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue  # of an update that has not ended
        aliases, problems = Aliases(), list[str]()
        record, metrics = dict[str, Any](), dict[str, Any]()
        with collected(problems):
            aliases = read_aliases(path.parent)
        with collected(problems):
            record, metrics = read_json(path / "run.json"), read_metrics(path)
        row: dict[str, Any] = {"run": str(path), "aliases": aliases.names_of(path.name)}
        row["problem"] = "; ".join(problems)
        row |= {"withdrawn": path.name in aliases.withdrawn, "created": str(record.get("created", ""))}
        row |= {"head": str(record.get("head", "")), "eval_rows": metrics.get("n")}
        rows.append(row | {name: metrics.get(name) for name in SUMMARY})
    if not rows:
        raise MissingDataError(f"{folder} holds no run: fit one, or name the folder of the runs")
    return sorted(rows, key=lambda row: (row["created"], row["run"]))


def listing(rows: list[dict[str, Any]]) -> str:
    """The same as a table."""
    shown = [
        {
            "run": row["run"],
            "aliases": ", ".join([*row["aliases"], *(["withdrawn"] if row["withdrawn"] else [])]) or "–",
            "created": row["created"][:19].replace("T", " ") or "–",
            "head": row["head"] or "–",
            "rows": row["eval_rows"],
            **{name: row[name] for name in SUMMARY[:5]},
        }
        for row in rows
    ]
    return table_text(shown)
