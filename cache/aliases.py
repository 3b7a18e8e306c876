"""Names for the runs of a folder that can be switched: FOLDER@ALIAS is one of the runs in FOLDER.

`FOLDER/aliases.json` has, for each alias, the runs it has named, the current one last. It is replaced by one
rename, so that a reader sees the run of before or the run of after, and never none. Links are not needed.
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

FILE = "aliases.json"
CHAMPION = "champion"  # the alias of the run in service, unless another one is named
NAME = re.compile(r"[A-Za-z0-9_][\w.-]*", re.ASCII)


@dataclass(frozen=True)
class Named:
    """A run that an alias named from a time on."""

    run: str  # its folder's name
    since: str  # UTC, ISO 8601


@dataclass
class Aliases:
    """The content of `aliases.json`."""

    aliases: dict[str, list[Named]] = field(default_factory=dict)  # each history has one entry or more
    withdrawn: list[str] = field(default_factory=list)  # runs that `rollback` left: `update` names none again

    def current(self, alias: str) -> str | None:
        """The run that an alias names."""
        history = self.aliases.get(alias)
        return history[-1].run if history else None

    def name(self, run: str, alias: str) -> None:
        """Let an alias name a run; its history goes on."""
        self.withdrawn = [name for name in self.withdrawn if name != run]
        if self.current(alias) != run:
            since = datetime.now(UTC).isoformat(timespec="seconds")
            self.aliases.setdefault(alias, []).append(Named(run, since))

    def of(self, run: str) -> list[str]:
        """The aliases that name a run."""
        return [alias for alias in self.aliases if self.current(alias) == run]


def read_aliases(folder: Path) -> Aliases:
    """The aliases of a folder; none if it has no `aliases.json`.

    Raises:
        DamagedError: the file is none, or names something outside of the folder.
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
                raise ValueError(f"{name!r} is no name in the folder")
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
    """FOLDER@ALIAS → the folder and the alias, "" without one; a folder that has aliases means `CHAMPION`."""
    path = Path(text)
    name, at, alias = path.name.rpartition("@")
    if at and name and (path.with_name(name) / FILE).exists():
        return path.with_name(name), alias
    return path, CHAMPION if (path / FILE).exists() and not (path / "run.json").exists() else ""


def resolved(text: str | Path) -> Path:
    """The folder of the run that FOLDER@ALIAS names now; another path as it is.

    Raises:
        UsageError: the folder has no such alias.
        MissingDataError: it has no aliases at all.
    """
    path = Path(text)
    folder, alias = parsed(path)
    if folder == path:
        name, at, alias = path.name.rpartition("@")
        if at and NAME.fullmatch(alias) and not path.exists() and path.with_name(name).is_dir():
            folder = path.with_name(name)
            raise MissingDataError(f"{folder} has no aliases: promote one of its runs --as {alias}")
        return path
    aliases = read_aliases(folder)
    run = aliases.current(alias)
    if run is None:
        raise unknown_name(f"alias of {folder}", alias, aliases.aliases)
    return folder / run


def check_alias(alias: str) -> None:
    """Refuse a name that could not follow an @.

    Raises:
        UsageError: it has other characters than letters, digits, and . _ - inside.
    """
    if not NAME.fullmatch(alias):
        raise UsageError(f"{alias!r} is no alias: letters, digits, and . _ - inside")
