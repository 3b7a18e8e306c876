"""The peak memory of a function call, measured in a separate process that may have a time limit."""

import math
import resource
import signal
import threading
import tracemalloc
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

Result = TypeVar("Result")
INTERVAL = 0.005  # seconds between two readings
PATIENCE = 20  # limit by the clock, in units of that of processor seconds, of which waiting takes none


def with_peak_memory(
    work: Callable[..., Result],
    *args: Any,
    limit: float | None = None,
    memory: int | None = None,
    **options: Any,
) -> tuple[Result, int]:
    """What `work` returns when run in a new process, and the bytes by which that process grew at its peak.

    Only anonymous memory counts (Linux's RssAnon), not pages of mapped files, which the system can take back
    at any time. `work` must be a function of a module.

    Args:
        limit: processor seconds, rounded up, with the start of the process, after which it is killed. A busy
            machine makes no difference. By the clock, it may take `PATIENCE` times as long.
        memory: bytes of private memory (RLIMIT_DATA) beyond which the system gives the process none, imports
            included; it then raises. Pages of mapped files do not count.

    Raises:
        TimeoutError: it was killed.
        ChildProcessError: it ended without a result, as when the system kills it for its memory.
    """
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, (limit, memory), work, args, options))
    patience = None if limit is None else PATIENCE * limit
    process.start()
    sender.close()
    try:
        if not receiver.poll(patience):
            raise TimeoutError(f"killed after {patience:g} s by the clock")
        outcome = receiver.recv()
        process.join()
    except EOFError:
        process.join()
        if process.exitcode == -signal.SIGXCPU:
            raise TimeoutError(f"killed after {limit:g} processor seconds") from None
        raise ChildProcessError(f"the process ended with status {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
    if isinstance(outcome, BaseException):
        raise outcome
    result: tuple[Result, int] = outcome
    return result


def _send(
    sender: Connection,
    limits: tuple[float | None, int | None],
    work: Callable[..., Any],
    args: Any,
    options: Any,
) -> None:
    seconds, memory = limits
    if seconds is not None:
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds), resource.RLIM_INFINITY))
    if memory is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    try:
        sender.send(peak_memory_of(lambda: work(*args, **options)))
    except Exception as error:  # raised again by the process that asked for the work
        sender.send(error)


def peak_memory_of(work: Callable[[], Result]) -> tuple[Result, int]:
    """What `work` returns, and the bytes by which this process grew at its peak."""
    before = _resident().anonymous
    result, peaks = peaks_of(work)
    return result, peaks.anonymous - before


class Peaks(NamedTuple):
    """Bytes of a process at its peak: private ones, and pages of mapped files, which the system may take."""

    anonymous: int
    files: int


def peaks_of(work: Callable[[], Result]) -> tuple[Result, Peaks]:
    """What `work` returns, and the most memory that this process had meanwhile, imports included."""
    peaks = _resident()
    ended = threading.Event()

    def watch() -> None:
        nonlocal peaks
        while not ended.wait(INTERVAL):
            peaks = Peaks(*map(max, peaks, _resident()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        result = work()
    finally:
        ended.set()
        watcher.join()
    return result, Peaks(*map(max, peaks, _resident()))


def peak_traced(work: Callable[[], object]) -> int:
    """The bytes that objects of Python and arrays take at the peak of a call: the same in every run."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _resident() -> Peaks:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    sizes = dict(line.partition(":")[::2] for line in lines)
    return Peaks(*(int(sizes[kind].split()[0]) * 1024 for kind in ("RssAnon", "RssFile")))
