"""A run's copies of its user's own code, `RUN/code/NAME-HASH.py`, and the consent that it takes to use them.

They are the files of its head, its options and its encoders. So a run works in any folder, and whoever gets
it can read the code. It runs only with `--trust`, and only if it has the hash in `run.json`, or if this
process trusts a file of that hash anyway.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from encode_once.cache import EncodeOnceError, UsageError, own_code
from encode_once.cache.format.atomic import replacing
from encode_once.cache.format.files import open_without_links
from encode_once.cache.format.spec_file import EncoderRecord
from encode_once.cache.own_code import Source, UntrustedError
from encode_once.cache.terminal import Log

FOLDER = "code"
HASH = re.compile(r"blake2b:[0-9a-f]{32}")
REMEDY = "read it, then pass --trust"
_folder: ContextVar[Path] = ContextVar("_folder")  # of the run inside of `using`


def check_record(recorded: Mapping[str, str], names: Any) -> None:
    """Raise ValueError unless `run.json` has paths and hashes for all code that its head and options name."""
    for path, identity in recorded.items():
        if not own_code.NAME.fullmatch(f"{path}:x") or not HASH.fullmatch(identity):
            raise ValueError(f"{path!r} with {identity!r} is no file of code with its hash")
    for name in own_code.names_in(names):
        if own_code.file_of(name).as_posix() not in recorded:
            raise ValueError(f"it names code of which it has no copy: {name}")


def of_encoders(recorded: Mapping[str, EncoderRecord]) -> dict[str, str]:
    """Path → hash of the files of encoders; runs of earlier programs have no copies of them."""
    return {
        own_code.file_of(encoder).as_posix(): identity
        for encoder, record in recorded.items()
        if own_code.NAME.fullmatch(encoder)
        for identity in record.hashes("source")
        if HASH.fullmatch(identity)
    }


def copied(folder: Path, recorded: Mapping[str, str]) -> dict[str, str]:
    """Those of which a run has a file as its copy: path → hash."""
    return {path: identity for path, identity in recorded.items() if place(folder, path, identity).exists()}


def without_copy(folder: Path, recorded: Mapping[str, str]) -> list[str]:
    """Warnings about files of encoders of which a new run in this folder will hold no copy."""
    return [
        f"{path} is not here as it was when it encoded ({identity}): the run holds no copy of it, and new "
        "rows are encoded only in a folder that has it; fit the run there"
        for path, identity in recorded.items()
        if not place(folder, path, identity).exists() and _find(path, identity) is None
    ]


def place(folder: Path, path: str, identity: str) -> Path:
    """Where a run keeps the copy of a file."""
    return folder / FOLDER / f"{Path(path).stem}-{identity.partition(':')[2][:12]}.py"


def save(folder: Path, recorded: Mapping[str, str], of_encoders: Mapping[str, str]) -> None:
    """Write the copies of files: path → hash. A name with another hash is another file.

    recorded: trusted files. of_encoders: others, which need not be here, see `without_copy`.
    """
    _unlink(folder)
    for path, identity in {**of_encoders, **recorded}.items():
        source, copy = _find(path, identity), place(folder, path, identity)
        if source is None:
            assert path not in recorded, path
            continue
        copy.parent.mkdir(exist_ok=True)
        with replacing(copy) as temporary:
            temporary.write_bytes(source.content)


def _find(path: str, identity: str) -> Source | None:
    """The file of this path and hash: if it is trusted, in its place, or as the copy of a run in `using`."""
    if source := own_code.trusted(path, identity):
        return source
    with suppress(UsageError):
        source = own_code.read(f"{path}:")
        if source.identity == identity:
            return source
    with suppress(LookupError, EncodeOnceError, OSError):
        content = _content(place(_folder.get(), path, identity))
        if own_code.bytes_identity(content) == identity:
            return Source(path, content)
    return None


def _content(copy: Path) -> bytes:
    with open_without_links(copy) as file:
        return file.read()


def forget_others(folder: Path, recorded: Mapping[str, str]) -> None:
    """Remove the copies that a replaced run had."""
    _unlink(folder)
    kept = {place(folder, path, identity) for path, identity in recorded.items()}
    for copy in (folder / FOLDER).glob("*.py"):
        if copy not in kept:
            copy.unlink()
    if not kept and (folder / FOLDER).is_dir() and not any((folder / FOLDER).iterdir()):
        (folder / FOLDER).rmdir()


def _unlink(folder: Path) -> None:
    """Remove a link in place of the folder of copies: nothing is written through it."""
    if (folder / FOLDER).is_symlink():
        (folder / FOLDER).unlink()


def approve(folder: Path, recorded: Mapping[str, str], consent: bool, log: Log) -> list[Source]:
    """The run's own code, trusted from now on.

    Raises:
        UntrustedError: without consent, or if a copy is missing or has another hash.
    """
    sources = []
    for path, identity in recorded.items():
        source = own_code.trusted(path, identity)
        if source is None:
            copy = place(folder, path, identity)
            content = b""

            def actual(copy: Path = copy) -> str:
                nonlocal content
                content = _content(copy)
                return own_code.bytes_identity(content)

            own_code.check(
                f"{folder} names code to run",
                str(copy),
                [identity],
                REMEDY,
                "copy it there, or fit the run again",
                consent=consent,
                identity=actual,
                log=log,
            )
            source = Source(path, content)
        own_code.allow(source)
        sources.append(source)
    return sources


@contextmanager
def using(folder: Path, recorded: Mapping[str, str]) -> Iterator[None]:
    """Let names mean the run's own code in the block, where runs that are saved take over its copies.

    Raises:
        UntrustedError: it is not trusted.
    """
    with own_code.meaning(approve(folder, recorded, consent=False, log=lambda line: None)):
        token = _folder.set(folder)
        try:
            yield
        finally:
            _folder.reset(token)


def approve_restoring(weights: Path, checksum: str, consent: bool, log: Log) -> None:
    """Allow a state that skops restores, see `heads.wrapped`.

    Raises:
        UntrustedError: without consent.
    """
    if not consent:
        raise UntrustedError(
            f"{weights} holds a classifier of scikit-learn, which false numbers lead out of bounds (recorded "
            f"as xxh3:{checksum}); pass --trust if you know who made it"
        )
    log(f"trusted: {weights} (xxh3:{checksum})")
