"""`checksums.json` of a run: the files that decide its labels and figures are those that were saved.

A flipped bit in a threshold or a weight gives wrong labels that nothing else notices. This is no protection
against people: who changes a file can change its checksum.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from encode_once.cache.format.atomic import write_json
from encode_once.cache.format.files import open_without_links, typed
from encode_once.cache.format.header import file_checksum
from encode_once.cache.format.replacement import Replacement
from encode_once.classify.runs.reading import RunError, read_json, reading

CHECKSUMS = "checksums.json"
METRICS = "metrics.json"


def write_checksums(replacement: Replacement, without: str = "") -> None:
    """Add the checksums of the files that are replaced to those of the others, but that of `without`."""
    path = replacement.folder / CHECKSUMS
    before = _read(replacement.folder) if path.exists() else {}
    now = {}
    for name in replacement.names:
        with replacement(name).open("rb") as file:
            now[name] = file_checksum(file)
    write_json(
        replacement(CHECKSUMS), {name: sum_ for name, sum_ in (before | now).items() if name != without}
    )


def check_files(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Compare files of a run with their checksums; return those of all its files.

    Raises:
        RunError: one is missing, or not the one that was saved.
    """
    recorded = _read(folder)
    for name in names:
        check_file(folder / name, recorded.get(name))
    return recorded


def check_file(path: Path, recorded: str | None) -> None:
    """Compare a file with its checksum.

    Raises:
        RunError: it is missing, or not the one that was saved.
    """
    with reading(path), open_without_links(path) as file:
        checksum = file_checksum(file)
    if checksum != recorded:
        raise RunError(f"{path} has changed since it was saved: restore it, or fit it again")


def is_as_saved(path: Path) -> bool:
    """Whether a file of a run is the one that was saved."""
    try:
        check_file(path, _read(path.parent).get(path.name))
    except RunError:
        return False
    return True


def read_metrics(folder: Path) -> dict[str, Any]:
    """The content of a run's `metrics.json`; nothing if it has none.

    Raises:
        RunError: it is not the one that was saved.
    """
    path = folder / METRICS
    if not path.exists():
        return {}
    if (folder / CHECKSUMS).exists():  # versions before 7 have none
        check_files(folder, [METRICS])
    return read_json(path)


def _read(folder: Path) -> dict[str, str]:
    content = read_json(folder / CHECKSUMS)
    with reading(folder / CHECKSUMS):
        return typed(dict[str, str], content)
