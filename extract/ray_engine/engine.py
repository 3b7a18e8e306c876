"""Connect to a Ray cluster, and decide what each actor reserves."""

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Self

from encode_once.cache import DataError, Table, UsageError
from encode_once.cache.errors import brief
from encode_once.extract.distribution import PATIENCE
from encode_once.extract.ray_engine.encoding_pass import PAUSE, RayPass
from encode_once.extract.ray_engine.pool import ActorPool
from encode_once.extract.workers import EncodeSettings, Job

THREADS = 4  # of an actor without a GPU, if its node has as many cores: each further actor loads the weights
EXTRA = "--engine ray needs Ray: pip install 'encode-once[ray]'"


class RayEngine:
    """Encodes in actors of the cluster of RAY_ADDRESS, of the one that runs here, or of one on this machine.

    An actor has a thread for each core that it reserves, and each thread takes inputs from the file to the
    network; so cores for reading are reserved with a GPU, too.

    Args:
        actors: at most; None: as many as fit, also those for which there is room later.

    Raises:
        DataError: on entry: Ray is not installed, or there is no cluster at the address.
    """

    def __init__(self, actors: int | None) -> None:
        self._most = actors
        self._on_gpus = False
        self._pool: ActorPool | None = None

    def __enter__(self) -> Self:
        self._ray, self._is_own = _connect()
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool:
            self._pool.end()
        if self._is_own:
            self._ray.shutdown()

    @cached_property
    def _nodes(self) -> list[dict[str, float]]:
        """What each node with cores has."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return [node for node in nodes if node.get("CPU")]

    def device(self, name: str) -> str:
        """A GPU of each actor's own if the cluster has any, or its CPUs."""
        gpus = sum(node.get("GPU", 0) for node in self._nodes)
        if name not in ("auto", "cpu", "cuda"):
            raise UsageError(f"--device {name}: Ray chooses the GPUs: use auto, cpu or cuda")
        if name == "cuda" and self._nodes and not gpus:
            raise UsageError(
                "--device cuda: no node of the cluster has a GPU that Ray knows; use auto or cpu"
            )
        self._on_gpus = name == "cuda" or (name == "auto" and gpus > 0)
        return "cuda" if self._on_gpus else "cpu"

    def threads(self, workers: int | None) -> int:
        """By default the cores per GPU of the node with the fewest, or, without GPUs, up to THREADS."""
        cores = [int(node["CPU"]) for node in self._nodes]
        if workers and cores and workers > max(cores):
            raise UsageError(f"--workers {workers}: no node of the cluster has more than {max(cores)} cores")
        if workers:
            return workers
        if self._on_gpus:
            shares = [int(node["CPU"] // node["GPU"]) for node in self._nodes if node.get("GPU")]
            return max(1, min(shares, default=THREADS))
        return min([THREADS, *cores])

    def start(self, tables: Sequence[Table], jobs: Sequence[Job], settings: EncodeSettings) -> RayPass:
        """A pass over the tables, after the actors of a driver that was killed have ended."""
        if self._pool is None:
            needs = {"CPU": settings.threads, "GPU": int(self._on_gpus)}
            self._pool = ActorPool(self._ray, self._most, needs)
        deadline = time.monotonic() + PATIENCE
        while any(job.unfinished_helpers(settings.shard) for job in jobs) and time.monotonic() < deadline:
            time.sleep(PAUSE)
            for job in jobs:
                job.recover()
        return RayPass(tables, jobs, settings, self._pool)


def _connect() -> tuple[Any, bool]:
    """Ray, connected to a cluster, and whether this call has connected it."""
    try:
        import ray
    except ImportError as error:
        raise DataError(EXTRA) from error
    if ray.is_initialized():
        return ray, False
    address = os.environ.get("RAY_ADDRESS")
    try:
        with _without_statistics():
            ray.init(log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
    except Exception as error:  # of many types: a node that is slow to start is an Exception
        advice = (
            f"no Ray cluster answers at RAY_ADDRESS={address}"
            if address
            else "Ray does not start on this machine: ray start --head starts it by itself"
        )
        raise DataError(f"--engine ray: {advice} ({brief(error)})") from error
    return ray, True


@contextmanager
def _without_statistics() -> Iterator[None]:
    """A Ray that is started here sends no statistics, unless the user allows it."""
    name = "RAY_USAGE_STATS_ENABLED"
    before = os.environ.get(name)
    os.environ.setdefault(name, "0")
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name)
