"""State of the whole process. All but `keep_freed_memory` leave it as they found it."""

import ctypes
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LARGEST_POOLED = 32 << 20  # the most glibc allows
KEPT = 512 << 20


def keep_freed_memory() -> None:
    """Let this process's allocator reuse large blocks; does nothing where the C library is not glibc.

    It cannot be undone, so only a process that is ours alone calls it: the command line.

    Pixels and activations of a few hundred kilobytes come and go all the time. By default each is mapped and
    unmapped, and the system clears every page of it again: for 600 pictures of `efficientnet-lite0` through
    torch, 2.7 s of system time and 1,600,000 page faults beside 18 s of work; with this 0.8 s and 250,000 to
    400,000. onnxruntime has a pool of its own, and is as fast without.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_POOLED)
        mallopt(M_TRIM_THRESHOLD, KEPT)


@contextmanager
def silenced(*streams: int) -> Iterator[None]:
    """No warnings, and nothing printed to those file descriptors, such as 1 and 2, by C++ either.

    The descriptors are the process's: what other threads print there meanwhile is lost, too.
    """
    _flush()
    with ExitStack() as cleanup:
        cleanup.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        nowhere = os.open(os.devnull, os.O_WRONLY)
        cleanup.callback(os.close, nowhere)
        for stream in streams:
            original = os.dup(stream)
            cleanup.callback(os.close, original)
            cleanup.callback(os.dup2, original, stream)
            os.dup2(nowhere, stream)
        cleanup.callback(_flush)
        yield


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
