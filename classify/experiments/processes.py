"""Work on items in several processes that share the cores, and end with the process that started them."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process
from typing import Any, TypeVar

from encode_once.cache import DataError
from encode_once.cache.process import keep_freed_memory

Item = TypeVar("Item")
Work = Callable[
    [Item, Callable[[Any], None]], None
]  # (item, send) → None; `send` takes what is to be yielded
# What the libraries read that start threads: OpenMP (torch, LightGBM), BLAS, and joblib (scikit-learn).
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LOKY_MAX_CPU_COUNT")


def in_processes(
    setup: Callable[[], Work[Item]], items: Sequence[Item], jobs: int
) -> Iterator[tuple[int, Any]]:
    """The number of an item with each message that the work on it sends, and with None when it ends.

    Each process calls `setup` once, and takes the next item when it is free. Its libraries use as many
    threads as are its share of the cores.

    Raises:
        DataError: a process ended.
    """
    waiting = [*reversed([*enumerate(items)])]
    workers = _started(setup, jobs)
    number_of: dict[Any, int] = {}  # connection to a process → the number of its item

    def send_next(pipe: Any) -> None:
        number_of[pipe], item = waiting.pop()
        pipe.send(item)

    try:
        for pipe in workers:
            send_next(pipe)
        while number_of:
            for pipe in _ready(number_of):
                message = _received(pipe)
                yield number_of[pipe], message
                if message is None:
                    del number_of[pipe]
                    send_next(pipe) if waiting else pipe.close()  # which ends the process
    except BaseException:
        for process in workers.values():
            process.terminate()
        raise
    finally:
        for process in workers.values():
            process.join()


def _started(setup: Any, jobs: int) -> dict[Any, Any]:
    """Processes by the connections to them."""
    context = get_context("spawn")  # a fork would copy the threads' locks, but not the threads
    workers = {}
    with environment({name: str(max(cores() // jobs, 1)) for name in THREADS}):
        for _ in range(jobs):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, setup), daemon=True)
            process.start()
            theirs.close()
            workers[ours] = process
    return workers


def _ready(pipes: Mapping[Any, int]) -> list[Any]:
    return connection.wait([*pipes])


def _received(pipe: Any) -> Any:
    try:
        return pipe.recv()
    except EOFError as error:
        raise DataError("a process of --jobs ended: use fewer, if memory ran out") from error


def _work(pipe: Any, setup: Any) -> None:
    """Work on the items that come through a pipe, until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that libraries remove their semaphores
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.disable()  # as `cli.own_process`
    keep_freed_memory()
    work = setup()
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        work(item, pipe.send)
        pipe.send(None)


def _end_with_parent() -> None:
    """A parent that is killed cannot end its processes."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """A context manager in which variables of the environment have these values, for new processes."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
