"""Encode on a Ray cluster. Of Ray only actors are used, and nothing else in this project knows it.

The driver, which is the process that the user started, reads the table, looks up what is missing in the
store, and hands blocks of inputs to actors (see `distribution`). An actor reads and encodes them as the local
engine does, commits the rows to parts of its own each second, and returns only which inputs failed. So no
vector goes through the cluster, and what a lost node had committed is not encoded again: the driver looks it
up in the store. It also records the failures, so that their journal has one writer.

What may depend on the machine (precision, backend, batch size) is decided once, by the first actor.
"""

import logging
import math
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import Any

from encode_once.cache import DataError, Failure, Spec, Store, Table, UsageError
from encode_once.cache.errors import StoreBusyError, brief
from encode_once.cache.keys import pack
from encode_once.cache.own_code import Source
from encode_once.extract.batches import encode_in_batches
from encode_once.extract.distribution import (
    AT_ONCE,
    DEATHS_IN_VAIN,
    PATIENCE,
    BlockFinished,
    Distribution,
    Event,
    InputBlock,
    Missing,
    Worker,
    WorkerDied,
    WorkerJoined,
)
from encode_once.extract.encoders import custom
from encode_once.extract.encoders.base import RANDOM, summed_remarks, torch_threads
from encode_once.extract.encoders.precision import PrecisionRule
from encode_once.extract.errors import WorkersDiedError
from encode_once.extract.images.decode import quiet_pillow
from encode_once.extract.recorded import recorded_towers
from encode_once.extract.remote.files import allowing
from encode_once.extract.workers import (
    EncodeSettings,
    EncodingPass,
    Failures,
    Input,
    Job,
    prepared,
)

THREADS = 4  # of an actor without a GPU, if its node has as many cores: each further actor loads the weights
LEAVE_SECONDS = 60.0  # to seal the parts of an actor
PAUSE = 0.2  # seconds between two looks at the store
KILLER = "kills-worker"  # the reason of an input with which workers die
EXTRA = "--engine ray needs Ray: pip install 'encode-once[ray]'"


@dataclass(frozen=True)
class JobPlan:
    """What an actor needs to make the tower of a job."""

    encoder: str
    specs: Mapping[str, Spec]  # by output
    features: Sequence[str]  # those to store
    weights: str | None
    rule: PrecisionRule
    backend: str
    batch_size: int | None
    expected: int


@dataclass(frozen=True)
class PassPlan:
    """What an actor needs for its part of a pass."""

    number: int
    program: str  # the version of this project
    store: Store
    jobs: tuple[JobPlan, ...]
    settings: EncodeSettings
    code: tuple[Source, ...]  # of the user's own encoders


@dataclass(frozen=True)
class TowerDecision:
    """What the first actor decided for a job."""

    specs: Mapping[str, Spec]
    backend: str
    batch_size: int
    notes: list[str]
    provenance: dict[str, str]


class EncodingActor:
    """A process of the cluster that encodes blocks, several at once in the same threads."""

    def __init__(self) -> None:
        self._jobs: dict[int, list[Job]] = {}  # loaded, by the number of their pass
        self._cleanup = ExitStack()
        self._running, self._leaving = 0, False
        self._state = threading.Condition()  # guards these two
        self._writing = threading.Lock()

    def decide(self, plan: PassPlan, examples: Sequence[Sequence[Input]]) -> list[TowerDecision]:
        """Load the jobs of a pass, and decide what may depend on the machine.

        examples: for each job, inputs on which precisions are compared.
        """
        self._load(plan, examples)
        return [
            TowerDecision(
                job.tower.specs,
                job.tower.backend or job_plan.backend,
                job.batch_size,
                job.notes,
                job.tower.provenance(),
            )
            for job, job_plan in zip(self._jobs[plan.number], plan.jobs, strict=True)
        ]

    def _load(self, plan: PassPlan, examples: Sequence[Sequence[Input]] = ()) -> None:
        if plan.program != _program():
            raise DataError(
                f"a node of the cluster has encode-once {_program()}, and this machine {plan.program}: "
                "install the same version on all nodes"
            )
        settings, jobs = plan.settings, list[Job]()
        with torch_threads(1), custom.using(plan.code), allowing(settings.urls):
            for number, job_plan in enumerate(plan.jobs):
                encoder, weights, backend = job_plan.encoder, job_plan.weights, job_plan.backend
                (tower,) = recorded_towers(
                    encoder, job_plan.specs, weights, backend, compiled=settings.compiled
                )
                job = Job(encoder, tower, plan.store, weights)
                job.keep(job_plan.features)
                job.rule = job_plan.rule
                compared = partial(prepared, examples[number], job) if examples else None
                job.load(settings.device, settings.workers, job_plan.batch_size, job_plan.expected, compared)
                job.find_features()
                jobs.append(job)
        self._jobs[plan.number] = jobs

    def join(self, plan: PassPlan) -> dict[str, str]:
        """Open the features of a pass for writing; returns the name under which the actor writes each."""
        if plan.number not in self._jobs:
            self._load(plan)
        self._plan, self._leaving = plan, False
        self._cleanup = ExitStack()
        self._cleanup.enter_context(allowing(plan.settings.urls))
        self._cleanup.enter_context(torch_threads(1))
        self._cleanup.enter_context(quiet_pillow())
        for job in self._jobs[plan.number]:
            job.open(plan.settings, self._cleanup)
        self._threads = ThreadPoolExecutor(plan.settings.workers)
        self._cleanup.callback(self._threads.shutdown, cancel_futures=True)
        return {
            feature: name for job in self._jobs[plan.number] for feature, name in job.writer_names().items()
        }

    def encode(self, block: InputBlock) -> list[Failures]:
        """Encode a block and commit its rows; returns the failures of each job."""
        jobs = self._jobs[self._plan.number]
        failures: list[dict[str, list[Failure]]] = [{} for _ in jobs]
        with self._busy():
            todo = [(item, [jobs[number] for number in numbers]) for item, numbers in block.inputs]
            for _, encoded in encode_in_batches(todo, jobs, self._plan.settings.workers, self._threads):
                with self._writing:
                    for job, inputs, results in encoded:
                        for output, errors in job.store(inputs, results).items():
                            failures[jobs.index(job)].setdefault(output, []).extend(errors)
                if self._leaving:
                    break
            with self._writing:
                for job in jobs:
                    job.commit()
        return list(failures)

    @contextmanager
    def _busy(self) -> Iterator[None]:
        with self._state:
            self._running += 1
        try:
            yield
        finally:
            with self._state:
                self._running -= 1
                self._state.notify_all()

    def leave(self) -> list[list[str]]:
        """Stop, and seal what is committed; returns the remarks of each job's tower."""
        self._leaving = True
        with self._state:
            self._state.wait_for(lambda: not self._running)
        self._cleanup.close()
        return [job.tower.remarks() for job in self._jobs.pop(self._plan.number)]


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
        self._calls = {call: of for call, of in self._calls.items() if of[0] != worker}
        return brief(error)

    def _end(self, worker: Worker) -> None:
        self._joining.discard(worker)
        self._ray.kill(self._actors.pop(worker))


class RayPass(EncodingPass):
    """A pass whose missing inputs are encoded by actors."""

    def __init__(
        self, tables: Sequence[Table], jobs: Sequence[Job], settings: EncodeSettings, pool: ActorPool
    ) -> None:
        super().__init__(tables, jobs, settings)
        self._pool = pool
        self._provenance: dict[Job, dict[str, str]] = {}
        self._plan: PassPlan | None = None
        self._remarks: dict[Job, list[str]] = {}
        self._left_behind: dict[Worker, list[Path]] = {}  # parts of dead actors

    def load(self) -> None:
        """Let the first actor load the towers and decide for all. Nothing is written to the store.

        Raises:
            WeightsError: an encoder's weights are missing on its node, or do not fit.
        """
        if not self.expected:
            return
        jobs = [*self.expected]
        names = ", ".join(name for job in jobs for name in job.names.values())
        with self.progress(f"loading {names} on the cluster"):
            plan = self._first_plan()
            decisions = self._pool.decide(plan, [self.examples(job) for job in jobs])
        for job, decision in zip(jobs, decisions, strict=True):
            if decision.specs != job.tower.specs:
                job.tower.set_precision(str(next(iter(decision.specs.values()))["precision"]))
            job.notes = decision.notes
            job.find_features()
            self._provenance[job] = decision.provenance
        decided = [
            replace(
                job_plan,
                specs=decision.specs,
                rule=PrecisionRule.decided(job.rule.least_cosine),
                backend=decision.backend,
                batch_size=decision.batch_size,
            )
            for job, job_plan, decision in zip(jobs, plan.jobs, decisions, strict=True)
        ]
        self._plan = replace(plan, jobs=tuple(decided))

    def _first_plan(self) -> PassPlan:
        settings, store = self.settings, self.jobs[0].into
        if store.mirror:
            raise UsageError(
                f"--engine ray writes into a folder that all nodes have, not into {store.location}: name a "
                f"--store DIR, then add it by store merge DIR --store {store.location}"
            )
        plans = [
            JobPlan(
                job.encoder,
                job.tower.specs,
                tuple(job.names.values()),
                str(Path(job.weights).resolve()) if job.weights not in (None, RANDOM) else job.weights,
                job.rule,
                settings.backend,
                settings.batch_size,
                expected,
            )
            for job, expected in self.expected.items()
        ]
        own = {custom.file_of(plan.encoder): plan.encoder for plan in plans if custom.is_custom(plan.encoder)}
        return PassPlan(
            number=id(self),
            program=_program(),
            store=Store(store.path.absolute()),
            jobs=tuple(plans),
            settings=replace(settings, is_helper=True, max_failures=math.inf, progress=False),
            code=tuple(custom.source_of(name) for name in own.values()),
        )

    def encode(self) -> None:
        """Let actors encode and store the missing inputs.

        Raises:
            TooManyFailuresError: as for the local engine.
            WorkersDiedError: actors keep dying.
            StoreBusyError: the rows that a lost node committed cannot be read yet.
        """
        if not self.missing:
            return
        assert self._plan is not None
        jobs = [*self.expected]
        with ExitStack() as cleanup:
            bar = cleanup.enter_context(self.progress("encoding"))
            for job in jobs:
                job.open(self.settings, cleanup, self._provenance[job])
            cleanup.callback(self._leave)

            def finished(number: int, failures: Sequence[Failures] | None) -> None:
                for job, errors in zip(jobs, failures or [], strict=False):
                    job.record(errors, self.settings.max_failures)
                self.show(bar, number)

            def give_up(missing: Missing) -> None:
                item, numbers = missing
                failure = Failure(item.key.hex(), KILLER, "workers die when they encode it", item.source)
                for number in numbers:
                    job = jobs[number]
                    job.record({output: [failure] for output in job.names}, self.settings.max_failures)
                self.show(bar, 1)

            self._pool.begin(self._plan)
            Distribution(
                len(self.missing),
                lambda place: [
                    (item, tuple(map(jobs.index, lacking))) for item, lacking in self.missing[place]
                ],
                self._pool,
                finished,
                self._is_settled,
                self._remaining,
                give_up,
            ).run()

    def _leave(self) -> None:
        """End the pass in the actors, and wait until all that they committed can be read."""
        before = {*self._pool.names}
        for by_job in self._pool.leave():
            for job, lines in zip(self.expected, by_job, strict=True):
                self._remarks[job] = self._remarks.get(job, []) + lines
        deadline = time.monotonic() + PATIENCE
        while not all(map(self._is_settled, before)):
            if time.monotonic() > deadline:
                raise StoreBusyError(
                    "rows that a lost node committed are still locked: run extract again in a minute"
                )
            time.sleep(PAUSE)

    def remarks(self, job: Job) -> list[str]:
        """Those of all actors that have not died."""
        return summed_remarks(self._remarks.get(job, []))

    def _is_settled(self, worker: Worker) -> bool:
        """Seal what dead actors committed; whether that of this one is."""
        if worker not in self._left_behind:
            names = self._pool.names.get(worker, {})
            parts = [job.unfinished_helpers(self.settings.shard, names) for job in self.expected]
            self._left_behind[worker] = [*chain(*parts)]
        for job in self.expected:
            job.recover()
        return not any(path.exists() for path in self._left_behind[worker])

    def _remaining(self, block: InputBlock) -> list[Missing]:
        """Those inputs of a block that are not committed, each with the jobs that lack it."""
        keys, jobs = pack(item.key for item, _ in block.inputs), [*self.expected]
        lacking = [job.lacks(keys, retry_failed=True) for job in jobs]
        remaining = [
            (item, tuple(number for number in numbers if lacking[number][row]))
            for row, (item, numbers) in enumerate(block.inputs)
        ]
        return [(item, numbers) for item, numbers in remaining if numbers]


class RayEngine:
    """Encodes in actors of the cluster of RAY_ADDRESS, of the one that runs here, or of one on this machine.

    An actor has a thread for each core that it reserves, and each thread takes inputs from the file to the
    network; so cores for reading are reserved with a GPU, too.

    Args:
        actors: at most; None: as many as fit, also those for which there is room later.

    Raises:
        DataError: Ray is not installed, or there is no cluster at the address.
    """

    def __init__(self, actors: int | None) -> None:
        self._ray, self._is_own = _connect()
        self._most = actors
        self._on_gpus = False
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        self._nodes = [node for node in nodes if node.get("CPU")]
        self._pool: ActorPool | None = None

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
            needs = {"CPU": settings.workers, "GPU": int(self._on_gpus)}
            self._pool = ActorPool(self._ray, self._most, needs)
        deadline = time.monotonic() + PATIENCE
        while any(job.unfinished_helpers(settings.shard) for job in jobs) and time.monotonic() < deadline:
            time.sleep(PAUSE)
            for job in jobs:
                job.recover()
        return RayPass(tables, jobs, settings, self._pool)

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None:
        if self._pool:
            self._pool.end()
        if self._is_own:
            self._ray.shutdown()


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


def _program() -> str:
    """The version of this project."""
    with suppress(PackageNotFoundError):
        return version("encode-once")
    return "of no version"
