"""What the processor, the memory and the disk allow."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from encode_once.cache import process
from encode_once.cache.doctor import Check
from encode_once.cache.remote.location import is_url
from encode_once.cache.remote.mirror import cache_folder

CORE_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds, and of how many
LITTLE_MEMORY = 2e9  # bytes; torch and one encoder take about half of it
LITTLE_SPACE = 2e9  # bytes; a million vectors of 768 numbers take 1.5e9
SLOW_DISK = 20e6  # bytes per second; eight cores write about as much
TRIAL = 32 << 20  # bytes written to measure the speed


def checks(store: str) -> Iterator[Check]:
    """Processor, cores, memory, and the disk that a store, or its local copy, is on."""
    yield processor(process.system_file(process.CPU_INFO))
    yield cores(os.cpu_count() or 1, _core_limit())
    yield memory()
    yield from disk(cache_folder() if is_url(store) else Path(store))


def processor(cpu_info: str) -> Check:
    """The instructions that decide the speed of networks; cpu_info: the text of /proc/cpuinfo, or ""."""
    finding = process.processor_name(cpu_info)
    if process.lacks_vectors(cpu_info):
        remedy = "networks take several times as long: choose a small encoder, as efficientnet-lite0"
        return Check("processor", "WARN", finding, remedy)
    return Check("processor", "PASS", finding)


def cores(count: int, limit: float) -> Check:
    """How many cores there are, and how many this process may use."""
    if limit < count:
        finding = f"{limit:g} of {count} may be used"
        return Check("cores", "WARN", finding, f"extract --workers {max(1, int(limit))}; OMP_NUM_THREADS=1")
    return Check("cores", "PASS", str(count))


def _core_limit() -> float:
    """How many cores the scheduler and the container allow."""
    allowed = process.cores()
    with suppress(ValueError):  # "max": there is no quota
        quota, period = map(float, process.system_file(CORE_QUOTA).split())
        return min(allowed, quota / period)
    return allowed


def memory() -> Check:
    """The memory that is available."""
    available = process.available_memory()
    if available == float("inf"):
        return Check("memory", "PASS", "how much is available is not known on this system")
    finding = f"{available / 1e9:.1f} GB available"
    if available < LITTLE_MEMORY:
        return Check("memory", "WARN", finding, "extract --workers 1 --batch-size 4; end other programs")
    return Check("memory", "PASS", finding)


def disk(store: Path) -> Iterator[Check]:
    """The free space of the store's folder, and how fast it is written."""
    folder = next(path for path in (store.absolute(), *store.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    few = free < LITTLE_SPACE
    remedy = "a million vectors take 1.5 GB: free some space, or choose another --store" if few else ""
    yield Check("disk", "WARN" if few else "PASS", f"{free / 1e9:.1f} GB free in {folder}", remedy)
    try:
        speed = write_speed(folder)
    except OSError as error:
        finding = f"{folder} cannot be written: {error.strerror}"
        yield Check("store folder", "FAIL", finding, "change its permissions, or choose another --store")
        return
    slow = speed < SLOW_DISK
    remedy = "extract waits for it every second: a local disk is faster" if slow else ""
    yield Check("store folder", "WARN" if slow else "PASS", f"written at {speed / 1e6:,.0f} MB/s", remedy)


def write_speed(folder: Path) -> float:
    """Bytes per second that a file in a folder is written and synced with.

    Raises:
        OSError: it cannot be written.
    """
    content = os.urandom(1 << 20)  # zeros may be compressed
    with tempfile.TemporaryFile(dir=folder) as file:
        start = time.perf_counter()
        for _ in range(TRIAL // len(content)):
            file.write(content)
        file.flush()
        os.fsync(file.fileno())
        return TRIAL / (time.perf_counter() - start)
