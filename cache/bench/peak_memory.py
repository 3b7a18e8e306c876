"""The peak memory of a function call, measured in a separate process."""

import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")
INTERVAL = 0.005  # seconds between two readings


def with_peak_memory(work: Callable[..., Result], *args: Any, **options: Any) -> tuple[Result, int]:
    """What `work` returns when run in a new process, and the bytes by which that process grew at its peak.

    Only anonymous memory counts (Linux's RssAnon), not pages of mapped files, which the system can take back
    at any time. `work` must be a function of a module.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(_measured, work, args, options).result()


def _measured(work: Callable[..., Result], args: Any, options: Any) -> tuple[Result, int]:
    before = peak = _anonymous()
    ended = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(INTERVAL):
            peak = max(peak, _anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        result = work(*args, **options)
    finally:
        ended.set()
        watcher.join()
    return result, max(peak, _anonymous()) - before


def _anonymous() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024
