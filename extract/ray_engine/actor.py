"""A process of the cluster that encodes, and the plans that are sent to it."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version

from encode_once.cache import DataError, Failure, Spec, Store
from encode_once.cache.own_code import Source
from encode_once.extract.batches import encode_in_batches
from encode_once.extract.compute import ComputeOptions
from encode_once.extract.distribution import InputBlock
from encode_once.extract.encoders import custom
from encode_once.extract.encoders.base import torch_threads
from encode_once.extract.encoders.precision import PrecisionRule
from encode_once.extract.images.decode import quiet_pillow
from encode_once.extract.recorded import recorded_towers
from encode_once.extract.remote.session import allowing
from encode_once.extract.workers import EncodeSettings, Failures, Input, Job, prepared


@dataclass(frozen=True)
class JobPlan:
    """What an actor needs to make the tower of a job."""

    encoder: str
    specs: Mapping[str, Spec]  # by output
    features: Sequence[str]  # those to store
    weights: str | None
    rule: PrecisionRule
    compute: ComputeOptions  # that of the settings, with the decided backend and batch size
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
                job.tower.backend or job_plan.compute.backend,
                job.batch_size,
                job.notes,
                job.tower.provenance(),
            )
            for job, job_plan in zip(self._jobs[plan.number], plan.jobs, strict=True)
        ]

    def _load(self, plan: PassPlan, examples: Sequence[Sequence[Input]] = ()) -> None:
        if plan.program != program_version():
            raise DataError(
                f"a node has encode-once {program_version()}, and this machine {plan.program}; "
                "install the same version on all nodes"
            )
        settings, jobs = plan.settings, list[Job]()
        with torch_threads(1), custom.using(plan.code), allowing(settings.urls):
            for number, job_plan in enumerate(plan.jobs):
                encoder, weights, compute = job_plan.encoder, job_plan.weights, job_plan.compute
                (tower,) = recorded_towers(encoder, job_plan.specs, weights, compute)
                job = Job(encoder, tower, plan.store, weights)
                job.keep(job_plan.features)
                job.rule = job_plan.rule
                compared = partial(prepared, examples[number], job) if examples else None
                job.load(settings.device, settings.threads, compute.batch_size, job_plan.expected, compared)
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
        self._threads = ThreadPoolExecutor(plan.settings.threads)
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
            for _, encoded in encode_in_batches(todo, jobs, self._plan.settings.threads, self._threads):
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


def program_version() -> str:
    """The version of this project."""
    with suppress(PackageNotFoundError):
        return version("encode-once")
    return "of no version"
