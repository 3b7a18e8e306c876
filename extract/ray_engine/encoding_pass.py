"""A pass whose missing inputs are encoded by actors."""

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
from pathlib import Path

from encode_once.cache import Failure, Store, Table
from encode_once.cache.errors import StoreBusyError
from encode_once.cache.keys import pack
from encode_once.extract.compute import BACKENDS, ComputeOptions
from encode_once.extract.distribution import PATIENCE, Distribution, InputBlock, Missing, Worker
from encode_once.extract.encoders import custom
from encode_once.extract.encoders.base import RANDOM, summed_remarks
from encode_once.extract.encoders.precision import PrecisionRule
from encode_once.extract.ray_engine.actor import JobPlan, PassPlan, TowerDecision, program_version
from encode_once.extract.ray_engine.pool import ActorPool
from encode_once.extract.workers import EncodeSettings, EncodingPass, Failures, Job

PAUSE = 0.2  # seconds between two looks at the store
KILLER = "kills-worker"  # the reason of an input with which workers die


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
                compute=_decided(job_plan.compute, decision),
            )
            for job, job_plan, decision in zip(jobs, plan.jobs, decisions, strict=True)
        ]
        self._plan = replace(plan, jobs=tuple(decided))

    def _first_plan(self) -> PassPlan:
        settings, store = self.settings, self.jobs[0].into
        plans = [
            JobPlan(
                encoder=job.encoder,
                specs=job.tower.specs,
                features=tuple(job.names.values()),
                weights=str(Path(job.weights).resolve())
                if job.weights not in (None, RANDOM)
                else job.weights,
                rule=job.rule,
                compute=settings.compute,
                expected=expected,
            )
            for job, expected in self.expected.items()
        ]
        own = {custom.file_of(plan.encoder): plan.encoder for plan in plans if custom.is_custom(plan.encoder)}
        return PassPlan(
            number=id(self),
            program=program_version(),
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
        """Seal what dead actors committed; returns whether all parts of this one are sealed."""
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


def _decided(compute: ComputeOptions, decision: TowerDecision) -> ComputeOptions:
    """How all actors compute; a backend of the user's own encoder is no option, and its own choice."""
    backend = decision.backend if decision.backend in BACKENDS else compute.backend
    return replace(compute, backend=backend, batch_size=decision.batch_size)
