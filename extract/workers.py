"""The inner loop of stage 1: open each input once, prepare and encode it for every tower, store the rows.

A worker thread carries a few inputs all the way from file to vectors, for every tower. On a CPU that keeps
each core at one thing at a time: networks compute with one thread each, and neither wait for decoding nor
fight with it. Beside a GPU, other workers decode while one has it compute. The main thread takes the results
in the inputs' order and stores them.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import BoundedSemaphore
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from encode_once.cache import Failure, Feature, Keys, Shard, Store, Table, content_key
from encode_once.cache.format.feature_writer import FeatureWriter
from encode_once.cache.keys import first_occurrences, pack, present
from encode_once.extract.encoders.base import Modality, Tower, torch_threads
from encode_once.extract.errors import InputError, TooManyFailuresError
from encode_once.extract.images.decode import decode, reduction
from encode_once.extract.images.hashing import hash_again, read_file
from encode_once.extract.process import keep_freed_memory

STORED = np.float16
CHANGED = "changed"  # why an image is not encoded whose bytes are not those that its key is of
COMMIT_SECONDS = 1.0  # rows are written together that long: each commit waits for the disk
ON_GPU = 2  # batches at a time: one computes while the next is copied
AHEAD = 2  # batches under way for each worker, so that a slow one holds nobody up

Item = TypeVar("Item")
Done = TypeVar("Done")


@dataclass(frozen=True, slots=True)
class Input:
    """One distinct image or caption: `source` is the file's path or the text itself."""

    key: bytes
    source: str
    modality: Modality

    def open(self) -> "Opened":
        """What towers prepare.

        Raises:
            InputError: the file cannot be read, or is no longer the one with this key.
        """
        if self.modality == "caption":
            return Opened(text=self.source)
        content = read_file(self.source)
        if content_key(content) != self.key:
            raise InputError(CHANGED, "the file changed while this ran: extract again")
        return Opened(content=content)


@dataclass
class Opened:
    """A text, or an image: its bytes, and the pictures decoded from them, one for all towers if possible."""

    text: str | None = None
    content: bytes = b""
    _pictures: dict[int | None, Any] = field(default_factory=dict)  # by the shorter side they were needed for

    def prepared(self, tower: Tower) -> Any:
        """This input, made ready for a tower's batch.

        Raises:
            InputError: it cannot be decoded, or not be encoded by this tower.
        """
        return tower.prepare(self._picture(tower.shorter_side) if self.text is None else self.text)

    def _picture(self, needed: int | None) -> Any:
        for side, picture in self._pictures.items():
            if side == needed or reduction(self.content, side) == reduction(self.content, needed):
                return picture
        self._pictures[needed] = decode(self.content, needed)
        return self._pictures[needed]


@dataclass(frozen=True)
class How:
    """The circumstances of an encoding."""

    device: str
    workers: int  # threads
    batch_size: int | None = None  # None: what suits the device
    shard: Shard = field(default_factory=Shard)  # the share of the contents to encode
    retry_failed: bool = False
    max_failures: float = math.inf  # of an encoder
    progress: bool = False


def distinct_inputs(tables: Sequence[Table], modality: Modality, shard: Shard) -> tuple[Keys, list[Input]]:
    """The keys (n, 16) of all such contents of the rows, in the shard, and the distinct ones as inputs."""
    keys = np.concatenate([keys for table in tables for keys in table.all_keys(modality)])
    sources = [source for table in tables for source in table.contents(modality)]
    asked = np.flatnonzero(present(keys) & shard.has(keys))
    first = asked[first_occurrences(keys[asked])]
    return keys[asked], [Input(keys[i].tobytes(), sources[i], modality) for i in first]


def pace(tower: Tower, device: str, workers: int) -> tuple[int, int]:
    """The batch size of a tower that suits the device, and how many batches it is given at a time."""
    on_gpu = device.startswith("cuda")
    size, at_once = (tower.gpu_batch, ON_GPU) if on_gpu else (tower.cpu_batch, workers)
    return size, at_once if tower.parallel else 1


# output → each input with its row, (d,) or (length, d), or why it has none
Results = dict[str, list[tuple[Input, NDArray[Any] | InputError]]]


class Job:
    """One tower at work on the inputs that its features lack."""

    def __init__(self, encoder: str, tower: Tower, store: Store, weights: str | None) -> None:
        self.encoder, self.tower, self._files = encoder, tower, store.files
        provenance = tower.provenance() | ({"weights_file": weights} if weights else {})
        self.features: dict[str, Feature] = {
            output: store.declare(f"{encoder}/{output}", spec, provenance)
            for output, spec in tower.specs.items()
        }
        self._writers: dict[str, FeatureWriter] = {}
        self._waiting: dict[str, list[tuple[Input, NDArray[Any]]]] = {output: [] for output in tower.specs}
        self._committed = time.monotonic()
        self.failed = 0

    def lacks(self, inputs: Sequence[Input], *, retry_failed: bool) -> NDArray[np.bool_]:
        """Which inputs some feature has no row of, (n,); not those that failed before, unless asked."""
        keys = pack(one.key for one in inputs)
        lacking = np.zeros(len(inputs), np.bool_)
        for feature in self.features.values():
            failures = {} if retry_failed else feature.failures()
            failed = {key for key, failure in failures.items() if failure.reason != CHANGED}
            lacking |= ~feature.has(keys) & np.array([one.key not in failed for one in inputs], np.bool_)
        return lacking

    def start(self, how: How, expected: int, cleanup: ExitStack) -> None:
        """Open the features for `expected` more rows, and load the tower."""
        for output, feature in self.features.items():
            self._writers[output] = cleanup.enter_context(feature.writer(expected, how.shard))
        cleanup.callback(self.commit)  # whatever ends the work, what is encoded is kept
        self.tower.expected = expected
        self.tower.load(how.device)
        for feature in self.features.values():
            feature.note(self.tower.provenance())
        usual, at_once = pace(self.tower, how.device, how.workers)
        self.batch_size = how.batch_size or usual
        self._turns, self._threads = BoundedSemaphore(at_once), 1 if self.tower.parallel else how.workers

    def encode(self, inputs: Sequence[tuple[Input, Any]]) -> Results:
        """Rows of inputs that are prepared, or could not be. Called in any thread."""
        failed = [(one, ready) for one, ready in inputs if isinstance(ready, InputError)]
        results: Results = {output: [*failed] for output in self.features}
        good = [(one, ready) for one, ready in inputs if not isinstance(ready, InputError)]
        while good:
            some = good[: self.batch_size]
            try:
                with self._turns, torch_threads(self._threads):
                    found = self.tower.encode([ready for _, ready in some])
            except Exception as error:
                if not _out_of_memory(error) or len(some) == 1:
                    raise
                self.batch_size = min(self.batch_size, len(some) // 2)
                continue
            good = good[len(some) :]
            for output, rows in found.items():
                results[output] += [(one, _as_stored(row)) for (one, _), row in zip(some, rows, strict=True)]
        return results

    def store(self, results: Results) -> None:
        """Take what was encoded; it is written at once, or with what comes within the second."""
        failed: dict[Input, InputError] = {}
        for output, found in results.items():
            self._waiting[output] += [(one, row) for one, row in found if not isinstance(row, InputError)]
            errors = [(one, error) for one, error in found if isinstance(error, InputError)]
            self.features[output].record_failures([_failure(one, error) for one, error in errors])
            failed |= dict(errors)
        if changed := [one.source for one, error in failed.items() if error.reason == CHANGED]:
            hash_again(changed, self._files)
        self.failed += len(failed)
        if time.monotonic() - self._committed > COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Write what was stored."""
        for output, writer in self._writers.items():
            rows, self._waiting[output] = self._waiting[output], []
            if not rows:
                continue
            keys = pack(one.key for one, _ in rows)
            vectors = [row for _, row in rows]
            if vectors[0].ndim == 1:
                writer.append(keys, np.stack(vectors))
            else:
                writer.append(keys, np.concatenate(vectors), np.array([len(row) for row in vectors]))
        self._committed = time.monotonic()


def _as_stored(row: Any) -> NDArray[Any] | InputError:
    """A row in the precision it is stored in."""
    values: NDArray[Any] = np.asarray(row)
    if values.dtype == np.uint8:  # the bytes of a text
        return values
    with np.errstate(over="ignore"):  # what float16 cannot hold becomes infinite, and is caught here
        values = values.astype(STORED)
    if not np.isfinite(values).all():
        return InputError("not-finite", f"its vector has numbers that {STORED.__name__} cannot hold")
    return values


def _failure(one: Input, error: InputError) -> Failure:
    return Failure(one.key.hex(), error.reason, str(error), one.source)


def _out_of_memory(error: Exception) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError)


def encode_inputs(inputs: Sequence[Input], jobs: Sequence[Job], how: How) -> float:
    """Give every job's features the rows they lack of these inputs, all of one modality and shard.

    Returns:
        The seconds it took to load the towers.

    Raises:
        TooManyFailuresError: more than `how.max_failures` failed for one encoder; what was encoded is kept.
    """
    lacking = [job.lacks(inputs, retry_failed=how.retry_failed) for job in jobs]
    todo = [
        (inputs[i], [job for job, lacks in zip(jobs, lacking, strict=True) if lacks[i]])
        for i in np.flatnonzero(np.any(lacking, axis=0)).tolist()
    ]
    if not todo:
        return 0.0
    busy = [(job, int(lacks.sum())) for job, lacks in zip(jobs, lacking, strict=True) if lacks.any()]
    keep_freed_memory()
    with ExitStack() as cleanup:
        cleanup.enter_context(torch_threads(1))  # more would only wait for one another
        bar = tqdm(total=len(todo), unit=todo[0][0].modality, disable=None if how.progress else True)
        cleanup.enter_context(bar)
        started = time.perf_counter()
        for job, expected in busy:
            bar.set_description(f"loading {', '.join(one.name for one in job.features.values())}")
            job.start(how, expected, cleanup)
        loading = time.perf_counter() - started
        bar.set_description("encoding")
        bar.unpause()  # its rate is of the encoding
        pool = cleanup.enter_context(ThreadPoolExecutor(how.workers))
        cleanup.callback(pool.shutdown, cancel_futures=True)
        largest = max(job.batch_size for job, _ in busy)
        size = max(1, min(largest, len(todo) // (AHEAD * how.workers)))  # few inputs: a share for each worker
        batches = (todo[start : start + size] for start in range(0, len(todo), size))
        for number, done in _in_order(pool, _carry, batches, AHEAD * how.workers):
            for job, results in done:
                job.store(results)
                if job.failed > how.max_failures:
                    raise TooManyFailuresError(
                        f"{job.encoder}: {job.failed} inputs failed, more than --max-failures allows; "
                        "failures.jsonl in the store's features names them, and what was encoded is kept"
                    )
            bar.update(number)
    return loading


def _in_order(
    pool: ThreadPoolExecutor, function: Callable[[Item], Done], items: Iterator[Item], ahead: int
) -> Iterator[Done]:
    """The results for all items in their order, at most `ahead` of them begun beforehand."""
    begun: deque[Future[Done]] = deque()
    for item in items:
        begun.append(pool.submit(function, item))
        if len(begun) > ahead:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


def _carry(batch: Sequence[tuple[Input, list[Job]]]) -> tuple[int, list[tuple[Job, Results]]]:
    """Some inputs all the way, each opened once: how many, and what each job made of them."""
    ready: dict[Job, list[tuple[Input, Any]]] = {}
    for one, jobs in batch:
        opened = _or_error(one.open)
        for job in jobs:
            failed = isinstance(opened, InputError)
            prepared = opened if failed else _or_error(opened.prepared, job.tower)
            ready.setdefault(job, []).append((one, prepared))
    return len(batch), [(job, job.encode(mine)) for job, mine in ready.items()]


def _or_error(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except InputError as error:
        return error
