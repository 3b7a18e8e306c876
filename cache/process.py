"""The process: its processor, cores and memory; changes of its state."""

import ctypes
import os
import platform
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Lock, Thread
from typing import Any

CPU_INFO = Path("/proc/cpuinfo")  # of Linux
# Of x86-64 processors
VECTOR_FLAGS = {"AVX2": "avx2", "AVX-512": "avx512f", "AVX512-BF16": "avx512_bf16", "AMX": "amx_tile"}
MEMORY_INFO = Path("/proc/meminfo")  # of Linux
CONTAINER = Path("/sys/fs/cgroup")  # with the memory that it may use, and uses, in bytes
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
MAX_POOLED_BLOCK = 32 << 20  # bytes, the maximum that glibc allows
MAX_POOL = 512 << 20  # bytes
MAX_FILES = 1 << 16  # a part of a store that is mapped takes one or two; Linux maps no more


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor_name(cpu_info: str | None = None) -> str:
    """The model of a processor, and which instructions for vectors it has; by default of this machine's.

    cpu_info: the text of /proc/cpuinfo, or "".
    """
    model, flags = _processor(system_file(CPU_INFO) if cpu_info is None else cpu_info)
    if not flags:
        return model
    has = [name for name, flag in VECTOR_FLAGS.items() if flag in flags]
    lacks = [name for name in VECTOR_FLAGS if name not in has]
    return f"{model}: {', '.join(has) or 'no AVX2'}" + (
        f", no {', no '.join(lacks)}" if has and lacks else ""
    )


def lacks_vectors(cpu_info: str) -> bool:
    """Whether a processor says that it has no instructions for vectors."""
    _, flags = _processor(cpu_info)
    return bool(flags) and not any(flag in flags for flag in VECTOR_FLAGS.values())


def _processor(cpu_info: str) -> tuple[str, list[str]]:
    """Model and flags of the first processor."""
    fields = dict(line.partition(":")[::2] for line in reversed(cpu_info.splitlines()))
    values = {name.strip(): value.strip() for name, value in fields.items()}
    return values.get("model name", platform.machine()), values.get("flags", "").split()


def available_memory() -> float:
    """Bytes that the machine and the container leave; infinite where the system does not say."""
    sizes = dict(line.partition(":")[::2] for line in system_file(MEMORY_INFO).splitlines())
    available = float(sizes.get("MemAvailable", "inf").removesuffix("kB")) * 1024
    return min(available, _left_by_container())


def _left_by_container() -> float:
    """The bytes that the container's limit leaves; copies of files in memory give way, and do not count."""
    with suppress(ValueError):  # "max", or no such file: there is no limit
        limit, current = (float(system_file(CONTAINER / name)) for name in ("memory.max", "memory.current"))
        uses = dict(line.split() for line in system_file(CONTAINER / "memory.stat").splitlines())
        return max(limit - current + float(uses.get("inactive_file", 0)), 0)
    return float("inf")


def system_file(path: Path) -> str:
    """The content of a file of the system; "" if there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def keep_freed_memory() -> None:
    """Let the allocator of this process reuse large blocks; does nothing without glibc.

    It cannot be undone, so only the command line, which has a process of its own, calls it.

    Arrays of pixels and activations, a few hundred kilobytes each, are allocated and freed all the time. By
    default each is mapped and unmapped, and the system clears all its pages. For 600 images of
    `efficientnet-lite0` with torch that took 2.7 s of system time and 1,600,000 page faults, in addition to
    18 s of work; with this, 0.8 s and 250,000 to 400,000. onnxruntime has its own pool and gains nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, MAX_POOLED_BLOCK)
        mallopt(M_TRIM_THRESHOLD, MAX_POOL)


def allow_many_open_files() -> None:
    """Let this process open MAX_FILES files, or as many as the system allows.

    Like `keep_freed_memory`, this is for a process of our own.
    """
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MAX_FILES if hard == resource.RLIM_INFINITY else min(MAX_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(ValueError, OSError):  # some systems allow fewer than they say
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


@contextmanager
def silenced(*streams: int) -> Iterator[None]:
    """Suppress warnings and all output to these file descriptors, such as 1 and 2, also that of C++ code.

    The descriptors belong to the process: output of other threads to them is lost too.
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


class SharedContext:
    """A context of the process for code that several threads run at once.

    The first thread that enters it enters the context, and the last one that leaves it leaves it: contexts
    that restore what they found would otherwise restore what another thread had set.

    Args:
        make: makes the context.
        threaded: enter and leave it in a thread of its own, if it also changes the state of its thread.
    """

    def __init__(self, make: Callable[[], AbstractContextManager[Any]], *, threaded: bool = False) -> None:
        self._make, self._run = make, _in_a_thread if threaded else _at_once
        self._lock, self._inside = Lock(), 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """The context manager of one thread."""
        with self._lock:
            if not self._inside:
                self._context = self._make()
                self._run(self._context.__enter__)
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._run(lambda: self._context.__exit__(None, None, None))


def _at_once(function: Callable[[], object]) -> None:
    function()


def _in_a_thread(function: Callable[[], object]) -> None:
    thread = Thread(target=function)
    thread.start()
    thread.join()
