"""The inner loop of stage 1: open each input once, prepare it for every tower, encode in batches, store."""

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from cache import Failure, Feature, Keys, Shard, Store, Table, content_key
from cache.keys import first_occurrences, pack, present
from cache.writer import FeatureWriter
from extract.contents import read_file
from extract.encoders.base import Modality, Tower
from extract.errors import InputError, TooManyFailuresError
from extract.images import decode
from extract.memory import keep_freed_memory

STORED = np.float16
CHUNK = 128  # inputs prepared side by side


@dataclass(frozen=True, slots=True)
class Input:
    """One distinct image or caption: `source` is the file's path or the text itself."""

    key: bytes
    source: str
    modality: Modality

    def open(self) -> Any:
        """What towers prepare: the decoded picture, or the text.

        Raises:
            InputError: the file cannot be read or decoded, or is no longer the one with this key.
        """
        if self.modality == "caption":
            return self.source
        content = read_file(self.source)
        if content_key(content) != self.key:
            raise InputError("changed", "the file changed while this ran: extract again")
        return decode(content)


def distinct_inputs(tables: Sequence[Table], modality: Modality, shard: Shard) -> tuple[Keys, list[Input]]:
    """The keys (n, 16) of all such contents of the rows, in the shard, and the distinct ones as inputs."""
    keys = np.concatenate([keys for table in tables for keys in table.all_keys(modality)])
    sources = [source for table in tables for source in table.contents(modality)]
    asked = np.flatnonzero(present(keys) & shard.has(keys))
    first = asked[first_occurrences(keys[asked])]
    return keys[asked], [Input(keys[i].tobytes(), sources[i], modality) for i in first]


class Job:
    """One tower at work: it collects prepared inputs, encodes them in batches and stores the rows."""

    def __init__(self, encoder: str, tower: Tower, store: Store, weights: str | None) -> None:
        self.encoder, self.tower = encoder, tower
        provenance = tower.provenance() | ({"weights_file": weights} if weights else {})
        self.features: dict[str, Feature] = {
            output: store.declare(f"{encoder}/{output}", spec, provenance)
            for output, spec in tower.specs.items()
        }
        self._writers: dict[str, FeatureWriter] = {}
        self._batch: list[tuple[Input, Any]] = []
        self.failed = 0

    def lacks(self, inputs: Sequence[Input], *, retry_failed: bool) -> NDArray[np.bool_]:
        """Which inputs some feature has no row of, (n,); not those that failed before, unless asked."""
        keys = pack(one.key for one in inputs)
        lacking = np.zeros(len(inputs), np.bool_)
        for feature in self.features.values():
            failed = {} if retry_failed else feature.failures()
            lacking |= ~feature.has(keys) & np.array([one.key not in failed for one in inputs], np.bool_)
        return lacking

    def start(
        self, device: str, batch_size: int | None, expected: int, shard: Shard, cleanup: ExitStack
    ) -> None:
        """Open the features for `expected` more rows, and load the tower."""
        for output, feature in self.features.items():
            self._writers[output] = cleanup.enter_context(feature.writer(expected, shard))
        tqdm.write(f"loading {', '.join(f.name for f in self.features.values())} …", file=sys.stderr)
        self.tower.expected = expected
        self.tower.load(device)
        on_gpu = device.startswith("cuda")
        self._batch_size = batch_size or (self.tower.gpu_batch if on_gpu else self.tower.cpu_batch)

    def add(self, one: Input, prepared: Any) -> None:
        """Take one prepared input, or the error that kept it from being prepared."""
        if isinstance(prepared, InputError):
            self.failed += 1
            for feature in self.features.values():
                feature.record_failures([_failure(one, prepared)])
            return
        self._batch.append((one, prepared))
        if len(self._batch) == self._batch_size:
            self.flush()

    def flush(self) -> None:
        """Encode and store what has been collected."""
        if not self._batch:
            return
        inputs, prepared = zip(*self._batch, strict=True)
        self._batch = []
        for output, rows in self.tower.encode(prepared).items():
            with np.errstate(over="ignore"):  # what float16 cannot hold becomes infinite, and is caught here
                stored = [np.asarray(row).astype(STORED) for row in rows]
            finite = [bool(np.isfinite(row).all()) for row in stored]
            bad = InputError("not-finite", f"its vector has numbers that {STORED.__name__} cannot hold")
            failed = [_failure(one, bad) for one, good in zip(inputs, finite, strict=True) if not good]
            self.features[output].record_failures(failed)
            self.failed += len(failed)
            kept = [row for row, good in zip(stored, finite, strict=True) if good]
            if kept:
                keys = pack(one.key for one, good in zip(inputs, finite, strict=True) if good)
                if kept[0].ndim == 1:
                    self._writers[output].append(keys, np.stack(kept))
                else:
                    lengths = np.array([len(row) for row in kept])
                    self._writers[output].append(keys, np.concatenate(kept), lengths)


def _failure(one: Input, error: InputError) -> Failure:
    return Failure(one.key.hex(), error.reason, str(error), one.source)


def encode_inputs(
    inputs: Sequence[Input],
    jobs: Sequence[Job],
    device: str,
    *,
    batch_size: int | None,
    workers: int,
    retry_failed: bool,
    max_failures: float,
    shard: Shard,
    progress: bool,
) -> None:
    """Give every job's features the rows they lack of these inputs, all of one modality and shard.

    Raises:
        TooManyFailuresError: more than `max_failures` failed for one encoder; what was encoded is kept.
    """
    lacking = [job.lacks(inputs, retry_failed=retry_failed) for job in jobs]
    todo = [
        (inputs[i], [job for job, lacks in zip(jobs, lacking, strict=True) if lacks[i]])
        for i in np.flatnonzero(np.any(lacking, axis=0)).tolist()
    ]
    if not todo:
        return
    keep_freed_memory()
    with ExitStack() as cleanup:
        for job, lacks in zip(jobs, lacking, strict=True):
            if lacks.any():
                job.start(device, batch_size, int(lacks.sum()), shard, cleanup)
        pool = cleanup.enter_context(ThreadPoolExecutor(workers))
        cleanup.callback(pool.shutdown, cancel_futures=True)
        bar = tqdm(
            total=len(todo), unit=todo[0][0].modality, desc="encoding", disable=None if progress else True
        )
        cleanup.enter_context(bar)
        # A GPU computes while the next chunk is prepared. A CPU cannot: its cores would only fight.
        for one, prepared in _in_order(pool, todo, ahead=1 if device.startswith("cuda") else 0):
            for job, ready in prepared:
                job.add(one, ready)
                if job.failed > max_failures:
                    raise TooManyFailuresError(
                        f"{job.encoder}: {job.failed} inputs failed, more than --max-failures allows; "
                        "failures.jsonl in the store's features names them, and what was encoded is kept"
                    )
            bar.update()
        for job in jobs:
            job.flush()


def _in_order(
    pool: ThreadPoolExecutor, todo: Sequence[tuple[Input, list[Job]]], ahead: int
) -> Iterator[tuple[Input, list[tuple[Job, Any]]]]:
    """Prepare inputs in threads, a chunk at a time and `ahead` chunks in advance; yield them in order."""
    chunks: deque[list[Future[tuple[Input, list[tuple[Job, Any]]]]]] = deque()
    for start in range(0, len(todo), CHUNK):
        chunks.append([pool.submit(_prepare, *one) for one in todo[start : start + CHUNK]])
        if len(chunks) > ahead:
            yield from [future.result() for future in chunks.popleft()]
    for chunk in chunks:
        yield from [future.result() for future in chunk]


def _prepare(one: Input, jobs: Iterable[Job]) -> tuple[Input, list[tuple[Job, Any]]]:
    """Open an input once and make it ready for each job: an item for a batch, or the error."""
    try:
        opened = one.open()
    except InputError as error:
        return one, [(job, error) for job in jobs]
    return one, [(job, _prepared(job.tower, opened)) for job in jobs]


def _prepared(tower: Tower, opened: Any) -> Any:
    try:
        return tower.prepare(opened)
    except InputError as error:
        return error
