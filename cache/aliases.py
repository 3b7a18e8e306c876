"""Names for the runs of a folder that can be switched: FOLDER@ALIAS is one of the runs in FOLDER.

`FOLDER/.aliases.json`, which patterns such as FOLDER/* leave out, has, for each alias, the runs it
has named, the current one last. It is replaced by one rename, so that a reader sees the run of before or the
run of after, and never none. Links are not needed. FOLDER alone is its champion where one run is taken.
"""

import fcntl
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from encode_once.cache.errors import MissingDataError, UsageError, unknown_name
from encode_once.cache.format.atomic import write_json
from encode_once.cache.format.files import read_json, reading, typed
from encode_once.cache.format.replacement import folder_locked

FILE = ".aliases.json"
CHAMPION = "champion"  # the alias of the run in service, unless another one is named
NAME = re.compile(r"[A-Za-z0-9_][\w.-]*", re.ASCII)


@dataclass(frozen=True)
class AliasEntry:
    """A run that an alias named from a time on."""

    run: str  # its folder's name
    since: str  # UTC, ISO 8601


@dataclass
class Aliases:
    """The content of `.aliases.json`."""

    aliases: dict[str, list[AliasEntry]] = field(default_factory=dict)  # each history has one entry or more
    withdrawn: list[str] = field(default_factory=list)  # runs that `rollback` left: `update` names none again

    def current(self, alias: str) -> str | None:
        """The run that an alias names."""
        history = self.aliases.get(alias)
        return history[-1].run if history else None

    def assign(self, run: str, alias: str) -> None:
        """Let an alias name a run; its history goes on."""
        self.withdrawn = [name for name in self.withdrawn if name != run]
        if self.current(alias) != run:
            since = datetime.now(UTC).isoformat(timespec="seconds")
            self.aliases.setdefault(alias, []).append(AliasEntry(run, since))

    def names_of(self, run: str) -> list[str]:
        """The aliases that name a run."""
        return [alias for alias in self.aliases if self.current(alias) == run]


def read_aliases(folder: Path) -> Aliases:
    """The aliases of a folder; none if it has no `.aliases.json`.

    Raises:
        DamagedError: it is not a list of aliases, or names something outside of the folder.
    """
    path = folder / FILE
    if not path.exists():
        return Aliases()
    content = read_json(path)
    with reading(path):
        aliases = typed(Aliases, content)
        names = [named.run for history in aliases.aliases.values() for named in history]
        if not all(aliases.aliases.values()):
            raise ValueError("an alias names no run")
        for name in [*names, *aliases.aliases]:
            if Path(name).name != name or name in ("", "..") or "\0" in name:
                raise ValueError(f"{name!r} is not the name of a folder in it")
        return aliases


@contextmanager
def changing_aliases(folder: Path) -> Iterator[Aliases]:
    """Yield the aliases of a folder to be changed; they are written at the end, but not after an error.

    Other writers of the folder wait.
    """
    with folder_locked(folder, fcntl.LOCK_EX):
        aliases = read_aliases(folder)
        before = asdict(aliases)
        yield aliases
        if asdict(aliases) != before:
            write_json(folder / FILE, asdict(aliases))


def parsed(text: str | Path) -> tuple[Path, str]:
    """FOLDER@ALIAS → the folder and the alias; a path without an alias → the path and ""."""
    folder, alias = _divided(text)
    return (folder, alias) if folder and (folder / FILE).exists() else (Path(text), "")


def _divided(text: str | Path) -> tuple[Path | None, str]:
    """What is before the last @ of the last name, if that may be a folder, and what follows."""
    folder, at, alias = str(text).rpartition("@")
    return (Path(folder) if at and folder and folder[-1] != "/" and "/" not in alias else None), alias


def resolved(text: str | Path) -> Path:
    """The folder of the run that FOLDER@ALIAS names now, or FOLDER of its champion; another path as it is.

    Raises:
        UsageError: the folder has no such alias.
        MissingDataError: it has no aliases at all.
    """
    folder, alias = parsed(text)
    path = Path(text)
    if alias or folder != path:
        aliases = read_aliases(folder)
        run = aliases.current(alias)
        if run is None:
            raise unknown_name(f"alias of {folder}", alias, aliases.aliases)
        return folder / run
    if not path.exists() and (missing := _without_aliases(path)):
        raise missing
    if (path / FILE).exists() and not (path / "run.json").exists():
        champion = read_aliases(path).current(CHAMPION)
        return path / champion if champion else path
    return path


def _without_aliases(path: Path) -> MissingDataError | None:
    """The error for FOLDER@ALIAS of a folder that has no aliases; None for another path."""
    folder, alias = _divided(path)
    if folder is None or not folder.is_dir() or not NAME.fullmatch(alias):
        return None
    if (folder / "run.json").exists():
        return MissingDataError(f"{folder} is a run: name it without @{alias}")
    return MissingDataError(f"{folder} has no aliases: promote one of its runs --as {alias}")


def check_no_alias(path: Path) -> None:
    """Refuse a new folder whose name would be taken for FOLDER@ALIAS, now or after a `promote`.

    Next to a run without aliases in it, as recipes write NAME@SPLIT next to NAME, it would not.

    Raises:
        UsageError: there is such a folder.
    """
    folder, alias = _divided(path)
    if folder is None or not folder.is_dir() or not NAME.fullmatch(alias):
        return
    if (folder / FILE).exists() or not (folder / "run.json").exists():
        raise UsageError(f"{path} would be an alias of {folder}, not a new folder: choose a name without @")


def check_alias(alias: str) -> None:
    """Refuse a name that could not follow an @.

    Raises:
        UsageError: it has other characters than letters, digits, and . _ - inside.
    """
    if not NAME.fullmatch(alias):
        raise UsageError(f"{alias!r} is not a valid alias: use letters, digits, and . _ - inside")
