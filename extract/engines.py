"""What runs the encoders of an extraction: this process, or a cluster."""

import os
from collections.abc import Sequence
from typing import Literal, Protocol, Self, get_args

from encode_once.cache import Store, Table
from encode_once.cache.device import device_name
from encode_once.cache.errors import UsageError, unknown_name
from encode_once.extract.workers import EncodeSettings, EncodingPass, Job

EngineName = Literal["local", "ray"]


class Engine(Protocol):
    """A context in which passes are loaded and encode; what it started ends with it."""

    def device(self, name: str) -> str:
        """The device of encoders, for "auto" or a device's name.

        Raises:
            UsageError: there is no such device.
        """
        ...

    def threads(self, workers: int | None) -> int:
        """The threads of each process that encodes, if the user asks for `workers`."""
        ...

    def start(self, tables: Sequence[Table], jobs: Sequence[Job], settings: EncodeSettings) -> EncodingPass:
        """A pass of jobs of one modality over the tables."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


class LocalEngine:
    """Encodes in threads of this process."""

    def device(self, name: str) -> str:
        """That of this machine."""
        return device_name(name)

    def threads(self, workers: int | None) -> int:
        """By default one per core."""
        return workers or os.cpu_count() or 1

    def start(self, tables: Sequence[Table], jobs: Sequence[Job], settings: EncodeSettings) -> EncodingPass:
        """A pass of jobs of one modality over the tables."""
        return EncodingPass(tables, jobs, settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None: ...


def engine_named(name: str, actors: int | None, store: Store) -> Engine:
    """The engine of that name, which is not started yet.

    Args:
        actors: with "ray", the most processes that encode.
        store: that will be written.

    Raises:
        UsageError: there is none of that name, it has no actors, or it does not write to such a store.
    """
    if name not in get_args(EngineName):
        raise unknown_name("engine", name, get_args(EngineName))
    if name == "local":
        if actors:
            raise UsageError("--actors is for --engine ray")
        return LocalEngine()
    if store.mirror:
        raise UsageError(
            f"--engine ray writes into a folder that all nodes have, not into {store.location}: name a "
            f"--store DIR, then add it by store merge DIR --store {store.location}"
        )
    from encode_once.extract.ray_engine.engine import RayEngine

    return RayEngine(actors)
