"""The actors of a Ray cluster: start and call them, and notice which died."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from encode_once.cache.errors import brief
from encode_once.cache.terminal import print_message
from encode_once.extract.distribution import (
    AT_ONCE,
    DEATHS_IN_VAIN,
    BlockFinished,
    Event,
    InputBlock,
    Worker,
    WorkerDied,
    WorkerJoined,
)
from encode_once.extract.errors import WorkersDiedError
from encode_once.extract.ray_engine.actor import EncodingActor, PassPlan, TowerDecision
from encode_once.extract.workers import Input

LEAVE_SECONDS = 60.0  # to seal the parts of an actor
QUIET_SECONDS = 20.0  # without an actor, before the user reads what is waited for


class ActorPool:
    """The actors of a cluster.

    most: actors; None: as many as fit.
    needs: what each actor reserves, by the names that Ray has for it.
    """

    def __init__(self, ray: Any, most: int | None, needs: Mapping[str, float]) -> None:
        self._ray, self._most, self._needs = ray, most, needs
        self._actors: dict[Worker, Any] = {}  # by number
        self._started = 0
        self._joining: set[Worker] = set()
        self._calls: dict[Any, tuple[Worker, InputBlock | None]] = {}  # None: of an actor that joins
        self.names: dict[Worker, dict[str, str]] = {}  # feature → the actor's name as a writer
        self.plan: PassPlan | None = None
        self._last_seen = 0.0  # when an actor could encode
        errors = ray.exceptions
        self._death = (  # an actor's; an exception of its code is a RayTaskError
            errors.RayActorError,
            errors.WorkerCrashedError,
            errors.NodeDiedError,
            errors.ObjectLostError,
            errors.OutOfMemoryError,
        )

    def decide(self, plan: PassPlan, examples: Sequence[Sequence[Input]]) -> list[TowerDecision]:
        """Let an actor decide for all.

        Raises:
            WeightsError: an encoder cannot be loaded.
            WorkersDiedError: actors keep dying.
        """
        reason = ""
        for _ in range(DEATHS_IN_VAIN):
            worker = next(iter(self._actors), None) or self._create()
            started = self._actors[worker].__ray_ready__.remote()
            if not self._ray.wait([started], num_returns=1, timeout=QUIET_SECONDS)[0]:
                self._say_waiting()
            try:
                decisions: list[TowerDecision] = self._result(
                    self._actors[worker].decide.remote(plan, examples)
                )
                return decisions
            except self._death as error:
                reason = self._forget(worker, error)
        raise WorkersDiedError(f"{DEATHS_IN_VAIN} actors died before they encoded anything: {reason}")

    def begin(self, plan: PassPlan) -> None:
        """Let all actors join a pass, and those that are started from now on."""
        self.plan = plan
        self._last_seen = time.monotonic()
        for worker in self._actors:
            self._join(worker)

    def grow(self, most: int) -> None:
        """Start actors: as many as the user asked for, or as fit now, but no more than can have a block."""
        if self._most is None:
            free = self._ray.available_resources()
            room = [int(free.get(name, 0) // amount) for name, amount in self._needs.items() if amount]
            count = min(room, default=0) - len(self._joining)
        else:
            count = self._most - len(self._actors)
        for _ in range(min(count, most - len(self._joining))):
            self._join(self._create())

    def submit(self, worker: Worker, block: InputBlock) -> None:
        """Let an actor encode a block."""
        self._calls[self._actors[worker].encode.remote(block)] = worker, block

    def events(self, timeout: float) -> Iterable[Event]:
        """What has happened; waits for the first event.

        Raises:
            Exception: what an actor's code raised, such as that the disk is full.
        """
        if self._actors.keys() - self._joining:
            self._last_seen = time.monotonic()
        elif time.monotonic() - self._last_seen > QUIET_SECONDS:
            self._say_waiting()
            self._last_seen = math.inf  # only once
        if not self._calls:
            time.sleep(timeout)
            return
        calls = [*self._calls]
        ready, _ = self._ray.wait(calls, num_returns=1, timeout=timeout)
        for call in ready:
            worker, block = self._calls.pop(call)
            try:
                result = self._result(call)
            except self._death as error:
                yield WorkerDied(worker, self._forget(worker, error))
                continue
            if block:
                yield BlockFinished(worker, block, result)
            else:
                self._joining.discard(worker)
                self.names[worker] = result
                yield WorkerJoined(worker)

    def leave(self) -> list[list[list[str]]]:
        """End the pass in all actors; returns for each of them the remarks of each job's tower.

        Raises:
            Exception: an actor could not seal its parts.
        """
        for worker in [*self._joining]:
            self._end(worker)
        calls = {actor.leave.remote(): worker for worker, actor in self._actors.items()}
        self._calls.clear()
        remarks: list[list[list[str]]] = []
        ready, late = (
            self._ray.wait([*calls], num_returns=len(calls), timeout=LEAVE_SECONDS) if calls else ((), ())
        )
        for call in late:
            self._end(calls[call])
        for call in ready:
            try:
                remarks.append(self._result(call))
            except self._death as error:
                self._forget(calls[call], error)
        return remarks

    def end(self) -> None:
        """End all actors."""
        for worker in [*self._actors]:
            self._end(worker)

    def _say_waiting(self) -> None:
        free = self._ray.available_resources()
        needs = [f"{n:g} {name} ({free.get(name, 0):g} free)" for name, n in self._needs.items() if n]
        print_message(
            f"waiting for the cluster, as no actor runs yet; each needs {' and '.join(needs)} on one node: "
            "ray status shows what else runs there"
        )

    def _create(self) -> Worker:
        self._started += 1
        options = {"num_cpus": self._needs["CPU"], "num_gpus": self._needs["GPU"]}
        actor = self._ray.remote(**options, max_concurrency=AT_ONCE + 1, max_restarts=0)(EncodingActor)
        self._actors[self._started] = actor.remote()
        return self._started

    def _join(self, worker: Worker) -> None:
        self._joining.add(worker)
        self._calls[self._actors[worker].join.remote(self.plan)] = worker, None

    def _result(self, call: Any) -> Any:
        """The result of a call.

        Raises:
            Exception: what the actor's code raised; one of `self._death` if the actor is dead.
        """
        try:
            return self._ray.get(call)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error

    def _forget(self, worker: Worker, error: Exception) -> str:
        """Remove an actor that died, with its calls; returns the reason."""
        self._actors.pop(worker, None)
        self._joining.discard(worker)
        self._calls = {call: sent for call, sent in self._calls.items() if sent[0] != worker}
        return brief(error)

    def _end(self, worker: Worker) -> None:
        self._joining.discard(worker)
        self._ray.kill(self._actors.pop(worker))
