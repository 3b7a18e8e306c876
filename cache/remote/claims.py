"""Claims: one writer at a time under each name, in an object store that has no locks.

A claim is an object `claims/NAME/NUMBER.json`; the greatest number counts. To take one is to create the next
number, which the server lets one of many do. The claimant rewrites its object every RENEW_SECONDS, with
another `beat`. Who finds a claim watches it: if it changes, its claimant lives, and the name is busy; if it
has not changed for DEAD_SECONDS of the watcher's own clock, the watcher takes the next number. The clocks of
two machines are never compared. A claimant that was paused for longer finds the greater number, and stops;
what it wrote meanwhile does no harm, as parts have names of their own.
"""

import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from threading import Event, Thread

from encode_once.cache.errors import StoreBusyError
from encode_once.cache.format.files import typed
from encode_once.cache.remote.folder import RemoteFolder
from encode_once.cache.terminal import print_message

FOLDER = "claims"
RENEW_SECONDS = 5.0
DEAD_SECONDS = 60.0  # time for several renewals, each with the attempts of a request
POLL_SECONDS = 1.0
WAIT_SECONDS = 600.0  # for a claim that is held for a few requests, by each of the machines before this one
UNKNOWN = "a process that is not recorded"


@dataclass(frozen=True)
class ClaimRecord:
    """The content of a claim's object."""

    claimant: str  # a random number
    copy: str  # identifies the claimant's local copy of the store, and its machine
    pid: int
    host: str
    since: str  # for people; never compared
    beat: int = 0
    released: bool = False

    @property
    def owner(self) -> str:
        """Who has the claim, in words."""
        return f"process {self.pid} on {self.host} since {self.since}"


class Claim:
    """A claim that this process has, until another one takes it for dead."""

    def __init__(self, remote: RemoteFolder, name: str, number: int, record: ClaimRecord) -> None:
        self._remote, self._name, self._number, self._record = remote, name, number, record
        self._ended = Event()
        self._lost_to: str | None = None
        self._renewed = time.monotonic()
        self._thread = Thread(target=self._keep, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise if another process has taken the claim.

        Raises:
            StoreBusyError: one has; the message names it.
            RemoteError: the claim was not renewed for so long that one may have, and cannot be renewed now.
        """
        if self._lost_to is None and time.monotonic() - self._renewed > DEAD_SECONDS:
            self._renew()
        if self._lost_to is not None:
            raise StoreBusyError(
                f"{self._remote.url}: {self._name} was taken over by {self._lost_to}, as this process had "
                f"not reached it for {DEAD_SECONDS:.0f} s. What was encoded is kept: run the same command "
                "again later"
            )

    def _keep(self) -> None:
        while self._lost_to is None and not self._ended.wait(RENEW_SECONDS):
            with suppress(OSError):  # the next time; `check` sees if there is none
                self._renew()

    def _renew(self) -> None:
        number, record = _latest(self._remote, self._name)
        if number > self._number:
            self._lost_to = record.owner if record else "another process"
        else:
            self._record = replace(self._record, beat=self._record.beat + 1)
            self._write()
            self._renewed = time.monotonic()

    def _write(self) -> None:
        self._remote.write(_object(self._name, self._number), _content(self._record))

    def release(self) -> None:
        """Let others have it at once."""
        self._ended.set()
        self._thread.join()
        if self._lost_to is None:
            self._record = replace(self._record, released=True)
            with suppress(OSError):  # others have to wait until it counts as dead
                self._write()


@contextmanager
def claimed(remote: RemoteFolder, name: str, copy: str, what: str, *, wait: bool = False) -> Iterator[Claim]:
    """Have a claim in the block.

    Args:
        name: a path below `claims`.
        copy: identifies the local copy of the store. The caller has the local lock of that name: a claim of
            the same copy is of a process that is dead.
        what: is written, for the message.
        wait: for the end of another's claim, which is short.

    Raises:
        StoreBusyError: a process that is alive has it, or has had it for WAIT_SECONDS.
    """
    claim = _take(remote, name, copy, what, wait)
    try:
        yield claim
    finally:
        claim.release()


def _take(remote: RemoteFolder, name: str, copy: str, what: str, wait: bool) -> Claim:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    own = ClaimRecord(uuid.uuid4().hex, copy, os.getpid(), socket.gethostname(), now)
    while True:
        number = _ended(remote, name, copy, what, wait)
        remote.create(_object(name, number + 1), _content(own))
        winner = _record(remote, name, number + 1)  # own, also if the answer of the first attempt was lost
        if winner and winner.claimant == own.claimant:
            for older in _numbers(remote, name):
                if older <= number:
                    remote.delete(_object(name, older))
            return Claim(remote, name, number + 1, own)
        if winner and not winner.released and not wait:
            raise _busy(what, winner.owner)


def _ended(remote: RemoteFolder, name: str, copy: str, what: str, wait: bool) -> int:
    """The number of the latest claim, which has ended; 0 if there is none. Raises as `claimed` does."""

    def counts(number: int, record: ClaimRecord | None) -> bool:
        return number > 0 and not (record and (record.released or record.copy == copy))

    end = time.monotonic() + (WAIT_SECONDS if wait else 0.0)
    number, record = _latest(remote, name)
    if counts(number, record):
        print_message(f"waiting for {record.owner if record else UNKNOWN}, which is or was writing {what}")
    while counts(number, record):
        owner = _watched(remote, name, number, record)
        if owner and time.monotonic() >= end:
            raise _busy(what, owner)
        before, (number, record) = number, _latest(remote, name)
        if not owner and number == before:
            break
    return number


def _busy(what: str, owner: str) -> StoreBusyError:
    return StoreBusyError(
        f"another process is writing {what} ({owner}): let it end, share the work with --shard, or use "
        "another --store"
    )


def _watched(remote: RemoteFolder, name: str, number: int, record: ClaimRecord | None) -> str:
    """Watch a claim of another process: its owner if it is alive, "" if it is dead or has released it."""
    end = time.monotonic() + DEAD_SECONDS
    while time.monotonic() < end:
        time.sleep(POLL_SECONDS)
        latest, current = _latest(remote, name)
        if current and current.released:
            return ""
        if latest != number or current != record:
            return current.owner if current else UNKNOWN
    return ""


def _latest(remote: RemoteFolder, name: str) -> tuple[int, ClaimRecord | None]:
    """The number of the claim that counts, 0 if there is none, and its content, None if it cannot be read."""
    number = max(_numbers(remote, name), default=0)
    return number, _record(remote, name, number) if number else None


def _numbers(remote: RemoteFolder, name: str) -> list[int]:
    stems = [path.rpartition("/")[2].removesuffix(".json") for path in remote.list(f"{FOLDER}/{name}")]
    return [int(stem) for stem in stems if stem.isdecimal()]


def _record(remote: RemoteFolder, name: str, number: int) -> ClaimRecord | None:
    with suppress(ValueError, FileNotFoundError):
        return typed(ClaimRecord, json.loads(remote.read(_object(name, number))))
    return None


def _object(name: str, number: int) -> str:
    return f"{FOLDER}/{name}/{number:010}.json"


def _content(record: ClaimRecord) -> bytes:
    return json.dumps(asdict(record)).encode()
