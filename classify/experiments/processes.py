"""Work on items in several processes that share the cores, and end with the process that started them."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process
from typing import Any, TypeVar

from encode_once.cache import DataError
from encode_once.cache.process import allow_many_open_files, cores, keep_freed_memory

Item = TypeVar("Item")
Work = Callable[[Item], Iterable[Any]]  # item → messages
# What the libraries read that start threads: OpenMP (torch, LightGBM), BLAS, and joblib (scikit-learn).
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LOKY_MAX_CPU_COUNT")


def in_processes(
    setup: Callable[[], Work[Item]],
    items: Sequence[Item],
    jobs: int,
    needs: Sequence[Collection[Hashable]] = (),
) -> Iterator[tuple[int, Any]]:
    """The number of an item with each message that the work on it yields, and with None when it ends.

    Each process calls `setup` once, and takes the next item when it is free. Its libraries use as many
    threads as are its share of the cores.

    Args:
        needs: for each item, what no other may use at the same time; by default nothing.

    Raises:
        DataError: a process ended.
    """
    waiting, needs = [*range(len(items))], needs or [()] * len(items)
    number_of: dict[Any, int] = {}  # connection to a process → the number of its item
    workers = _started(setup, jobs)
    free = [*workers]
    try:
        while waiting or number_of:
            in_use = {need for number in number_of.values() for need in needs[number]}
            for number in [*waiting]:
                if free and in_use.isdisjoint(needs[number]):
                    pipe = free.pop()
                    number_of[pipe] = number
                    in_use.update(needs[number])
                    waiting.remove(number)
                    pipe.send(items[number])
            ready: list[Any] = connection.wait([*number_of])
            for pipe in ready:
                message = pipe.recv()
                yield number_of[pipe], message
                if message is None:
                    free.append(pipe)
                    del number_of[pipe]
    except (EOFError, ConnectionError) as error:
        raise DataError("a process of --jobs ended: use fewer, if memory ran out") from error
    finally:
        for process in workers.values():
            process.terminate()
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


def _work(pipe: Any, setup: Any) -> None:
    """Work on the items that come through a pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that libraries remove their semaphores
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.disable()  # as `cli.own_process`
    keep_freed_memory()
    allow_many_open_files()
    work = setup()
    while True:
        for message in work(pipe.recv()):
            pipe.send(message)
        pipe.send(None)


def _end_with_parent() -> None:
    """A parent that is killed cannot end its processes."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


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
