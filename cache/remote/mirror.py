"""The local copy of a store at a URL: everything is read and written there, and sent to the URL in order.

It is a store as any other (see SPEC.md), and so are the objects below the URL: but `files.sqlite`, locks and
parts in progress are only here, and claims (see `claims`) are only there.
"""

import fcntl
import hashlib
import json
import os
import re
import socket
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from encode_once.cache.errors import DamagedError, RemoteError, StoreError
from encode_once.cache.format.atomic import replacing, write_json, writing
from encode_once.cache.format.failures import read_failures, write_failures
from encode_once.cache.format.feature_writer import FeatureWriter
from encode_once.cache.format.files import JSON_BYTES, read_json, typed
from encode_once.cache.format.header import read_stamp
from encode_once.cache.format.part import KIND as PART
from encode_once.cache.format.part import Lengths, Values
from encode_once.cache.format.replacement import folder_locked
from encode_once.cache.keys import Keys, Shard
from encode_once.cache.remote.claims import FOLDER as CLAIMS
from encode_once.cache.remote.claims import Claim, claimed
from encode_once.cache.remote.folder import RemoteFile, RemoteFolder
from encode_once.cache.remote.parts import STATE, STORE, PartCache, is_head

ROOT = "ENCODE_ONCE_STORE_CACHE"  # variable: the folder of all local copies
FETCHING = "fetching"  # a folder of a local copy, which is locked while parts are fetched
TABLES = "tables/"
COMPONENT = r"\w[\w.:+=@-]*"
# What a store has, in the order in which it is sent: what a file needs comes before it. Other names, which a
# stranger's bucket may have, are ignored.
KINDS = [
    re.compile(pattern, re.ASCII)
    for pattern in (
        r"store\.json",
        rf"features(/{COMPONENT}){{2,}}/spec\.json",
        rf"inventory(/{COMPONENT}){{2,}}/spec\.json",
        rf"features(/{COMPONENT}){{2,}}/[\w-]+\.h5",
        rf"inventory(/{COMPONENT}){{2,}}/[\w-]+\.h5\.json",
        rf"features(/{COMPONENT}){{2,}}/failures\.jsonl",
        rf"tables/{COMPONENT}\.h5",
    )
]
STORE_JSON, SPEC, SPEC_COPY, PART_FILE, NOTE, FAILURES, TABLE = range(len(KINDS))
# Variable and default of the seconds after which a part is sealed and sent: what a machine may lose. In a
# long run it is more, a share of the time since its start, so that there are not thousands of parts.
EVERY = "ENCODE_ONCE_UPLOAD_SECONDS", 60.0
SHARE, MOST_SECONDS = 0.1, 600.0


@dataclass(frozen=True)
class Synced:
    """A file that the URL has, too: its version and size there, and the time of the file here."""

    version: str
    size: int
    mtime_ns: int


@dataclass
class Uploads:
    """What this process has sent."""

    parts: int = 0
    rows: int = 0
    nbytes: int = 0

    def __str__(self) -> str:
        return f"{self.rows:,} rows in {self.parts} part{'s' if self.parts != 1 else ''}"


def cache_folder() -> Path:
    """The folder of the local copies of all stores."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get(ROOT) or Path(home, "encode-once", "stores"))


def upload_seconds() -> float:
    """The least time between two parts that are sent."""
    with suppress(ValueError):
        return float(os.environ.get(EVERY[0], EVERY[1]))
    return EVERY[1]


def _batches(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Names of files that together are not too large to be in memory."""
    batch, total = list[str](), 0
    for name, size in sizes.items():
        if batch and total + size > JSON_BYTES:
            yield batch
            batch, total = [], 0
        batch.append(name)
        total += size
    if batch:
        yield batch


def kind_of(name: str) -> int | None:
    """Which of the files of a store a name is; None if none."""
    return next((kind for kind, pattern in enumerate(KINDS) if pattern.fullmatch(name)), None)


class Mirror:
    """The local copy of the store at a URL, and what is sent and fetched.

    Raises:
        RemoteError: the URL cannot be reached.
        StoreError: there are other files and no store, or the local disk fails.
    """

    def __init__(self, url: str) -> None:
        self.remote = RemoteFolder(url)
        words = re.sub(r"[^\w.-]+", "-", self.remote.url, flags=re.ASCII)[-60:]
        root = cache_folder().absolute()
        identity = f"{self.remote.url} {self.remote.server}".encode()
        self._folder = root / f"{words}-{hashlib.blake2b(identity, digest_size=8).hexdigest()}"
        self.path = self._folder / STORE
        self.uploads = Uploads()
        self._parts = PartCache(self.remote, root, self.path)
        self._listing: dict[str, RemoteFile] = {}
        self._is_checked = self._has_tables = False
        self._sending: Future[Uploads] | None = None
        with writing(self.path):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.path.mkdir(exist_ok=True)
            for folder in ((self._folder / STATE).parent, self._folder / FETCHING):
                folder.mkdir(exist_ok=True)
        self.pull()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_sending": None}

    # What is fetched

    def pull(self, below: str = "") -> None:
        """Bring the files of the store, or of one of its folders, up to date here.

        Not parts, and tables only if it is called with `TABLES`.
        """
        synced = self._read_state()  # before the listing: what is sent in between is not taken for deleted
        listing = self.remote.list(below)
        files = {name: file for name, file in listing.items() if kind_of(name) is not None}
        if not below and files.keys() < listing.keys() and "store.json" not in files:
            others = [name for name in listing if not name.startswith((*files, f"{CLAIMS}/"))]
            if others:
                raise StoreError(
                    f"{self.remote.url} contains other files, such as {others[0]}, and no store.json: choose "
                    "an empty or new prefix"
                )
        self._listing = {
            **{name: file for name, file in self._listing.items() if not name.startswith(below)},
            **files,
        }
        gone = [name for name in synced if name.startswith(below) and name not in files]
        for name in gone:
            with writing(self.path / name):
                (self.path / name).unlink(missing_ok=True)
        outdated = {
            name: file
            for name, file in files.items()
            if kind_of(name) not in ((PART_FILE,) if below == TABLES else (PART_FILE, TABLE))
            and not self._is_here(name, file, synced)
        }
        self._fetch_files(outdated)
        self._update(gone, outdated)
        self._has_tables |= below == TABLES

    def _is_here(self, name: str, file: RemoteFile, synced: Mapping[str, Synced]) -> bool:
        return name in synced and synced[name].version == file.version and (self.path / name).exists()

    def fetch_tables(self) -> None:
        """Bring the tables up to date, once."""
        if not self._has_tables:
            self.pull(TABLES)

    def _fetch_files(self, files: Mapping[str, RemoteFile]) -> None:
        large = [name for name in files if kind_of(name) in (TABLE, FAILURES)]
        small = {name: file.size for name, file in files.items() if name not in large}
        for name, size in small.items():
            if size > JSON_BYTES:
                raise DamagedError(f"{self.remote.url}/{name} has more than {JSON_BYTES:,} bytes")
        for names in _batches(small):
            for name, content in self.remote.read_all(names).items():
                with replacing(self.path / name) as temporary:
                    temporary.write_bytes(content)
        for name in large:
            with suppress(FileNotFoundError):  # another machine has removed it since
                self._download(name, files[name].size)

    def _download(self, name: str, size: int) -> None:
        """Fetch a file of any size; of failures, those that are only here are kept."""
        path = self.path / name
        is_journal = kind_of(name) == FAILURES
        with (
            self.journal_locked(path.parent) if is_journal else nullcontext(),
            replacing(path) as temporary,
        ):
            with temporary.open("wb") as file:
                file.writelines(self.remote.download(name, 0, size))
            own = read_failures(path) if is_journal else {}
            if own.keys() - (theirs := read_failures(temporary) if own else {}).keys():
                write_failures(temporary, (own | theirs).values())

    @contextmanager
    def journal_locked(self, folder: Path) -> Iterator[None]:
        """Change the failures in a feature's folder in the block, while no other thread or process does."""
        folder.mkdir(parents=True, exist_ok=True)
        with folder_locked(folder, fcntl.LOCK_EX):
            yield

    def fetch_parts(self, feature: str) -> None:
        """Fetch the heads of a feature's parts, and small parts."""
        if not self._lacking(feature, self._read_state()):
            return
        # One of several processes fetches: to replace a file that another one has mapped would empty it.
        with folder_locked(self._folder / FETCHING, fcntl.LOCK_EX):
            synced = self._read_state()
            lacking = self._lacking(feature, synced)
            to_fetch = {
                name: file for name, file in lacking.items() if name in synced or not self._was_sent(name)
            }
            with ThreadPoolExecutor(8) as pool:
                for _ in pool.map(self._parts.fetch, to_fetch, to_fetch.values()):
                    pass
            self._update((), lacking)

    def _lacking(self, feature: str, synced: Mapping[str, Synced]) -> dict[str, RemoteFile]:
        """The parts of a feature at the URL that are not here."""
        return {
            name: file
            for name, file in self._listing.items()
            if kind_of(name) == PART_FILE
            and name.rpartition("/")[0] == f"features/{feature}"
            and not self._is_here(name, file, synced)
        }

    def fetch_again(self, path: Path) -> bool:
        """Replace a damaged file here by the part or table at the URL; False if it was not sent yet."""
        name = path.relative_to(self.path).as_posix()
        if name not in self._listing:
            return False
        with writing(path):
            path.unlink(missing_ok=True)
        self._update([name], {})
        folder = name.rpartition("/")[0]
        if kind_of(name) == PART_FILE:
            self.fetch_parts(folder.removeprefix("features/"))
        else:
            self.pull(f"{folder}/")
        return True

    def _was_sent(self, name: str) -> bool:
        """Whether a part is here and at the URL, although a kill kept that from being noted."""
        path, file = self.path / name, self._listing.get(name)
        if file is None or kind_of(name) != PART_FILE:
            return False
        return path.exists() and path.stat().st_size == file.size

    @property
    def parts(self) -> PartCache:
        """Fetches the vectors of parts."""
        return self._parts

    # What is sent

    def push(self) -> Uploads:
        """Send what is new here, in an order in which the store is whole at any moment; what was sent.

        Raises:
            RemoteError: the URL cannot be reached; the message says that the rest is kept here.
        """
        uploads = Uploads()
        with folder_locked(self._folder, fcntl.LOCK_EX):
            synced = self._read_state()
            names = [name for name in self._own_files() if self._has_changed(name, synced)]
            done = {name: self._listing[name] for name in names if self._was_sent(name)}
            names = [name for name in names if name not in done]
            try:
                if names:
                    self._check_server()
                for name in names:
                    done[name] = self._send(name, synced, uploads)
                    if kind_of(name) == PART_FILE:  # so that it is not sent again after a kill
                        self._update((), done)
                        done = {}
            except RemoteError as error:
                raise RemoteError(
                    f"{error}. What was encoded and not sent is kept in {self.path}: run the same command "
                    "here again to send it"
                ) from error
            finally:
                self._update((), done)
        self.uploads.parts += uploads.parts
        self.uploads.rows += uploads.rows
        self.uploads.nbytes += uploads.nbytes
        return uploads

    def _own_files(self) -> list[str]:
        paths = [path for path in self.path.rglob("*") if path.is_file() and not is_head(path)]
        kinds = {name: kind_of(name) for name in (path.relative_to(self.path).as_posix() for path in paths)}
        return sorted(
            (name for name, kind in kinds.items() if kind is not None), key=lambda name: (kinds[name], name)
        )

    def _has_changed(self, name: str, synced: Mapping[str, Synced]) -> bool:
        if name not in synced:
            return True
        stat = (self.path / name).stat()
        changes = kind_of(name) not in (PART_FILE, NOTE)
        return changes and (stat.st_size, stat.st_mtime_ns) != (synced[name].size, synced[name].mtime_ns)

    def _check_server(self) -> None:
        """Refuse a server that overwrites a file which was to be created: it would let two writers win."""
        if self._is_checked:
            return
        probe = f"{CLAIMS}/probe-{uuid.uuid4().hex}"
        self.remote.create(probe, b"1")
        is_refused = not self.remote.create(probe, b"2") and self.remote.read(probe) == b"1"
        self.remote.delete(probe)
        if not is_refused:
            raise StoreError(
                f"{self.remote.url}: the server ignores If-None-Match, so that two writers would overwrite "
                "each other: extract into a local --store, and copy it there"
            )
        self._is_checked = True

    def _send(self, name: str, synced: Mapping[str, Synced], uploads: Uploads) -> RemoteFile:
        """Send a file; returns what the URL has then."""
        path, kind = self.path / name, kind_of(name)
        size = path.stat().st_size
        if kind == PART_FILE:
            try:
                stamp = read_stamp(path, PART)
            except DamagedError as error:
                raise DamagedError(f"{error}. It is not sent: store verify --repair sets it aside") from error
            if self.remote.upload(name, path):
                uploads.parts += 1
                uploads.rows += stamp["rows"]
                uploads.nbytes += size
            elif self.remote.info(name).size != size:
                raise StoreError(f"{self.remote.url}/{name} is another file than {path}: remove one of them")
        elif kind == FAILURES:
            with claimed(self.remote, name, self.identity, name, wait=True):
                with suppress(FileNotFoundError):
                    theirs = self.remote.info(name)
                    if name not in synced or theirs.version != synced[name].version:
                        self._download(name, theirs.size)
                with self.journal_locked(path.parent):
                    write_failures(path, read_failures(path).values())  # the last line of each input
                    content = path.read_bytes()
                self.remote.write(name, content)
                return self.remote.info(name)
        elif name in synced and self.remote.info(name).version == synced[name].version:
            self.remote.replace(name, path)
        elif not self.remote.upload(name, path):
            self._download(name, self.remote.info(name).size)  # another machine's came first
        return self.remote.info(name)

    @contextmanager
    def changing_tables(self) -> Iterator[None]:
        """Change the store's tables in the block, while no other machine does; then they are sent."""
        self._check_server()
        with claimed(self.remote, "tables", self.identity, f"the tables of {self.remote.url}", wait=True):
            self.pull(TABLES)
            before = {name for name in self._listing if kind_of(name) == TABLE}
            yield
            self.push()
            deleted = [name for name in before if not (self.path / name).exists()]
            for name in deleted:
                self.remote.delete(name)
            self._update(deleted, {})

    # Writers

    @contextmanager
    def writing(self, feature: str, shard: Shard | None) -> Iterator["Callable[..., FeatureWriter]"]:
        """Claim a shard of a feature, and yield what makes a writer for it; the caller has the local lock.

        At the end everything is sent.

        Args:
            shard: None for a helper of a writer that has the claim, on this machine or another one.

        Raises:
            StoreBusyError: another process is writing it.
        """
        self._check_server()
        what, sends = f"{feature} in {self.remote.url}", True
        name = f"features/{feature}/{shard}"
        with claimed(self.remote, name, self.identity, what) if shard else nullcontext() as claim:
            self.pull(f"features/{feature}/")  # parts that another writer has finished since
            self.fetch_parts(feature)
            try:
                yield partial(UploadingWriter, mirror=self, claim=claim)
            except RemoteError:
                sends = False  # to try once more would take as long again
                raise
            finally:
                if sends:
                    self.wait()
                    self.push()

    def push_soon(self) -> None:
        """Send what is new in the background; the next call, or `wait`, raises what went wrong."""
        if self._sending is None or self._sending.done():
            self.wait()
            pool = ThreadPoolExecutor(1)
            self._sending = pool.submit(self.push)
            pool.shutdown(wait=False)

    def check(self) -> None:
        """Raise what went wrong in the background."""
        if self._sending and self._sending.done():
            self.wait()

    def wait(self) -> None:
        """Wait for what is being sent.

        Raises:
            RemoteError: it could not be sent.
        """
        sending, self._sending = self._sending, None
        if sending:
            sending.result()

    @property
    def identity(self) -> str:
        """Of this local copy on this machine: its writers exclude each other by local locks."""
        file = self._folder / "id"
        if not file.exists():
            write_json(file, uuid.uuid4().hex)
        return f"{read_json(file)} {socket.gethostname()}"

    # The list of what is the same here and there

    def _read_state(self) -> dict[str, Synced]:
        with suppress(FileNotFoundError, DamagedError):  # without it, files are compared again
            return typed(dict[str, Synced], read_json(self._folder / STATE))
        return {}

    def _update(self, gone: Collection[str], files: Mapping[str, RemoteFile]) -> None:
        """Note that files were sent or fetched, or are gone."""
        if not (gone or files):
            return
        with folder_locked((self._folder / STATE).parent, fcntl.LOCK_EX):
            state = self._read_state()
            for name in gone:
                state.pop(name, None)
            for name, file in files.items():
                with suppress(FileNotFoundError):
                    time_ns = (self.path / name).stat().st_mtime_ns
                    state[name] = Synced(file.version, file.size, time_ns)
            content = {name: vars(entry) for name, entry in state.items()}
            with replacing(self._folder / STATE) as temporary:
                temporary.write_text(json.dumps(content), encoding="utf-8")


class UploadingWriter(FeatureWriter):
    """A writer that seals its part and sends it every minute, later less often."""

    def __init__(self, *args: object, mirror: Mirror, claim: Claim | None) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._mirror, self._claim = mirror, claim
        self._started = self._sealed = time.monotonic()

    def append(self, keys: Keys, values: Values, lengths: Lengths | None = None) -> None:
        """Add rows; raises also what went wrong with the rows before."""
        if self._claim:
            self._claim.check()
        self._mirror.check()
        super().append(keys, values, lengths)
        now = time.monotonic()
        if now - self._sealed > max(upload_seconds(), min(MOST_SECONDS, SHARE * (now - self._started))):
            self.close()
            self._mirror.push_soon()
            self._sealed = time.monotonic()
