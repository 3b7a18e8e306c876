"""The inner loop of stage 1: open each input once, prepare and encode it for every tower, store the rows.

Each worker thread takes a batch of inputs from file to vectors, for every tower. On a CPU each core then does
one thing at a time: networks run with a single thread and do not compete with decoding. With a GPU, other
workers decode while one waits for the GPU. The main thread stores the results in the order of the inputs.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import BoundedSemaphore
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from encode_once.cache import Failure, Feature, Keys, Shard, Store, Table, content_key, spec_key
from encode_once.cache.format.feature_writer import FeatureWriter
from encode_once.cache.keys import KeyIndex, first_occurrences, pack, present
from encode_once.cache.names import FeatureName
from encode_once.cache.progress import ProgressBar
from encode_once.extract.encoders import check_reachable
from encode_once.extract.encoders.base import Modality, Tower, torch_threads
from encode_once.extract.encoders.weights import quiet_downloads
from encode_once.extract.errors import InputError, TooManyFailuresError
from encode_once.extract.images.decode import decode, quiet_pillow, reduction
from encode_once.extract.images.hashing import hash_again, read_file

STORED = np.float16
CHANGED = "changed"  # the reason of an image whose content no longer has its key
COMMIT_SECONDS = 1.0  # rows are buffered so long: each commit waits for the disk
ON_GPU = 2  # batches at a time: one is computed while the next is copied
AHEAD = 2  # batches submitted per worker, so that a slow batch does not block the others

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Input:
    """A distinct image or caption: `source` is the path of the file, or the text."""

    key: bytes
    source: str
    modality: Modality

    def open(self) -> "DecodedInput":
        """Read the input for towers to prepare.

        Raises:
            InputError: the file cannot be read, or its content no longer has this key.
        """
        if self.modality == "caption":
            return DecodedInput(text=self.source)
        content = read_file(self.source)
        if content_key(content) != self.key:
            raise InputError(CHANGED, "the file changed during extraction: run extract again")
        return DecodedInput(content=content)


@dataclass
class DecodedInput:
    """A text, or the bytes of an image, decoded when needed and once for all towers if possible."""

    text: str | None = None
    content: bytes = b""
    _pictures: dict[tuple[int | None, int], Any] = field(default_factory=dict)  # by shorter side, bit depth

    def prepared(self, tower: Tower) -> Any:
        """The input preprocessed for a tower.

        Raises:
            InputError: it cannot be decoded, or the tower cannot encode it.
        """
        return tower.prepare(self._picture(tower) if self.text is None else self.text)

    def _picture(self, tower: Tower) -> Any:
        side, depth = tower.shorter_side, tower.bit_depth
        for (other, other_depth), picture in self._pictures.items():
            same_size = other == side or reduction(self.content, other) == reduction(self.content, side)
            if same_size and other_depth == depth:
                return picture
        self._pictures[side, depth] = decode(self.content, side, depth)
        return self._pictures[side, depth]


@dataclass(frozen=True)
class EncodeSettings:
    """Settings for one extraction."""

    device: str
    workers: int  # threads
    batch_size: int | None = None  # None: depends on the device
    shard: Shard = field(default_factory=Shard)  # the part of the contents to encode
    retry_failed: bool = False
    max_failures: float = math.inf  # per encoder
    progress: bool = False


def distinct_inputs(tables: Sequence[Table], modality: Modality, shard: Shard) -> tuple[Keys, list[Input]]:
    """The keys (n, 16) of all contents of a modality in the shard, and the distinct contents as inputs."""
    keys = np.concatenate([keys for table in tables for keys in table.all_keys(modality)])
    sources = [source for table in tables for source in table.contents(modality)]
    requested = np.flatnonzero(present(keys) & shard.has(keys))
    first = requested[first_occurrences(keys[requested])]
    return keys[requested], [Input(keys[i].tobytes(), sources[i], modality) for i in first]


def pace(tower: Tower, device: str, workers: int) -> tuple[int, int]:
    """A tower's batch size on a device, and the maximum number of concurrent batches."""
    on_gpu = device.startswith("cuda")
    size, concurrent = (tower.gpu_batch, ON_GPU) if on_gpu else (tower.cpu_batch, workers)
    return size, concurrent if tower.parallel else 1


# output → inputs, each with its row, (d,) or (length, d), or its error
Results = dict[str, list[tuple[Input, NDArray[Any] | InputError]]]


class Job:
    """A tower that encodes the inputs missing in its features, which are declared once it is loaded.

    Raises:
        SpecMismatchError: the store has rows of a feature with another spec.
    """

    def __init__(self, encoder: str, tower: Tower, store: Store, weights: str | None) -> None:
        self.encoder, self.tower, self.weights, self._store = encoder, tower, weights, store
        self.names = {output: str(FeatureName(encoder, output)) for output in tower.specs}
        self._find_features()
        self._writers: dict[str, FeatureWriter] = {}
        self._buffer: dict[str, list[tuple[Input, NDArray[Any]]]] = {output: [] for output in tower.specs}
        self._committed = time.monotonic()
        self.failed = 0

    def _find_features(self) -> None:
        self._features: dict[str, Feature] = {}  # output → its feature, if the store has it
        stored = self._store.features()
        for output, spec in self.tower.specs.items():
            if self.names[output] in stored:
                feature = self._store.feature(self.names[output])
                if len(feature) or feature.key == spec_key(spec):  # else it may be declared with this spec
                    feature.check(spec)
                    self._features[output] = feature

    @property
    def has_rows(self) -> bool:
        """Whether the store has rows of the encoder."""
        return any(map(len, self._features.values()))

    def set_bit_depth(self, bits: int) -> None:
        """Set that of the tower; as it changes the spec, the store must not have rows."""
        self.tower.set_bit_depth(bits)
        self._find_features()

    def has(self, keys: Keys) -> dict[str, NDArray[np.bool_]]:
        """Feature name → whether it has each key, (n,)."""
        nothing = np.zeros(len(keys), np.bool_)
        return {
            name: self._features[output].has(keys) if output in self._features else nothing
            for output, name in self.names.items()
        }

    def failures(self) -> dict[str, dict[bytes, Failure]]:
        """Feature name → key → failure."""
        return {feature.name: feature.failures() for feature in self._features.values()}

    def lacks(self, inputs: Sequence[Input], *, retry_failed: bool) -> NDArray[np.bool_]:
        """Whether each input is missing in a feature, (n,), and did not fail before (or is to be retried)."""
        failures = {} if retry_failed else self.failures()
        lacking = np.zeros(len(inputs), np.bool_)
        for name, has in self.has(pack(item.key for item in inputs)).items():
            errors = failures.get(name, {})
            failed = {key for key, failure in errors.items() if failure.reason != CHANGED}
            lacking |= ~has & np.array([item.key not in failed for item in inputs], np.bool_)
        return lacking

    def load(self, settings: EncodeSettings, expected: int) -> None:
        """Load the tower to encode about `expected` inputs."""
        self.tower.expected = expected
        if self.weights is None:
            check_reachable(self.encoder)
        with quiet_downloads():
            self.tower.load(settings.device)
        default_size, concurrent = pace(self.tower, settings.device, settings.workers)
        self.batch_size = settings.batch_size or default_size
        self._slots = BoundedSemaphore(concurrent)
        self._threads = 1 if self.tower.parallel else settings.workers

    def open(self, settings: EncodeSettings, cleanup: ExitStack) -> None:
        """Declare the features, and open them for writing."""
        provenance = self.tower.provenance()
        first = provenance | ({"weights_file": self.weights} if self.weights else {})
        for output, spec in self.tower.specs.items():
            feature = self._features[output] = self._store.declare(self.names[output], spec, first)
            feature.add_provenance(provenance)
            writer = feature.writer(self.tower.expected, settings.shard)
            self._writers[output] = cleanup.enter_context(writer)
        cleanup.callback(self.commit)  # keep encoded rows even after an error

    def encode(self, inputs: Sequence[tuple[Input, Any]]) -> Results:
        """Encode prepared inputs; inputs with an error keep it as their result. Thread-safe."""
        failed = [(item, prepared) for item, prepared in inputs if isinstance(prepared, InputError)]
        results: Results = {output: [*failed] for output in self.names}
        remaining = [(item, prepared) for item, prepared in inputs if not isinstance(prepared, InputError)]
        while remaining:
            batch = remaining[: self.batch_size]
            try:
                with self._slots, torch_threads(self._threads):
                    outputs = self.tower.encode([prepared for _, prepared in batch])
            except Exception as error:
                if not _out_of_memory(error) or len(batch) == 1:
                    raise
                self.batch_size = min(self.batch_size, len(batch) // 2)
                continue
            remaining = remaining[len(batch) :]
            for output, rows in outputs.items():
                items = (item for item, _ in batch)
                results[output] += [(item, _as_stored(row)) for item, row in zip(items, rows, strict=True)]
        return results

    def store(self, results: Results) -> None:
        """Buffer results; write them if the last commit was more than COMMIT_SECONDS ago."""
        failed: dict[Input, InputError] = {}
        for output, rows in results.items():
            self._buffer[output] += [(item, row) for item, row in rows if not isinstance(row, InputError)]
            errors = [(item, error) for item, error in rows if isinstance(error, InputError)]
            self._features[output].record_failures([_failure(item, error) for item, error in errors])
            failed |= dict(errors)
        if changed := [item.source for item, error in failed.items() if error.reason == CHANGED]:
            hash_again(changed, self._store.files)
        self.failed += len(failed)
        if time.monotonic() - self._committed > COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Write the buffered rows."""
        for output, writer in self._writers.items():
            rows, self._buffer[output] = self._buffer[output], []
            if not rows:
                continue
            keys = pack(item.key for item, _ in rows)
            vectors = [row for _, row in rows]
            if vectors[0].ndim == 1:
                writer.append(keys, np.stack(vectors))
            else:
                writer.append(keys, np.concatenate(vectors), np.array([len(row) for row in vectors]))
        self._committed = time.monotonic()


def _as_stored(row: Any) -> NDArray[Any] | InputError:
    """Convert a row to the stored precision."""
    values: NDArray[Any] = np.asarray(row)
    if values.dtype == np.uint8:  # the bytes of a text
        return values
    with np.errstate(over="ignore"):  # too large values become infinite, which is checked below
        values = values.astype(STORED)
    if not np.isfinite(values).all():
        return InputError("not-finite", f"its vector has values out of the range of {STORED.__name__}")
    return values


def _failure(item: Input, error: InputError) -> Failure:
    return Failure(item.key.hex(), error.reason, str(error), item.source)


def _out_of_memory(error: Exception) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError)


class EncodingPass:
    """The distinct contents of tables in one modality, and the jobs that encode those that are missing.

    Args:
        tables: with keys.
        jobs: of the modality, at least one.
    """

    def __init__(self, tables: Sequence[Table], jobs: Sequence[Job], settings: EncodeSettings) -> None:
        self.tables, self.jobs, self._settings = tables, jobs, settings
        self.modality: Modality = jobs[0].tower.modality
        self.keys, self.inputs = distinct_inputs(tables, self.modality, settings.shard)  # keys: (n, 16)
        lacking = [job.lacks(self.inputs, retry_failed=settings.retry_failed) for job in jobs]
        self._missing = [
            (self.inputs[i], [job for job, lacks in zip(jobs, lacking, strict=True) if lacks[i]])
            for i in np.flatnonzero(np.any(lacking, axis=0)).tolist()
        ]
        counts = [(job, int(lacks.sum())) for job, lacks in zip(jobs, lacking, strict=True)]
        self._expected = {job: count for job, count in counts if count}  # of the jobs with missing inputs

    def sources(self, keys: Collection[bytes]) -> dict[tuple[str, bytes], None]:
        """Source and key of all inputs with these keys; of equal images each file, in the tables' order."""
        if not keys:
            return {}
        index = KeyIndex(pack(keys))
        sources: dict[tuple[str, bytes], None] = {}
        for table in self.tables:
            all_keys = np.concatenate(table.all_keys(self.modality))
            contents = table.contents(self.modality)
            for row in np.flatnonzero(index.find(all_keys) >= 0):
                sources[contents[row], all_keys[row].tobytes()] = None
        return sources

    def _progress(self, description: str) -> ProgressBar:
        shown = self._settings.progress and self._missing
        return ProgressBar(
            total=len(self._missing), unit=self.modality, desc=description, disable=None if shown else True
        )

    def load(self) -> None:
        """Load the towers that have inputs to encode. Nothing is written to the store.

        Raises:
            WeightsError: an encoder's weights are missing or do not fit.
        """
        if not self._expected:
            return
        with torch_threads(1), self._progress("loading") as bar:  # more threads would only compete
            for job, expected in self._expected.items():
                bar.set_description(f"loading {', '.join(job.names.values())}")
                job.load(self._settings, expected)

    def encode(self) -> None:
        """Encode and store the missing inputs.

        Raises:
            TooManyFailuresError: more inputs than `settings.max_failures` failed for an encoder; encoded rows
                are kept.
        """
        todo, settings = self._missing, self._settings
        if not todo:
            return
        with ExitStack() as cleanup:
            cleanup.enter_context(torch_threads(1))
            cleanup.enter_context(quiet_pillow())
            bar = cleanup.enter_context(self._progress("encoding"))
            for job in self._expected:
                job.open(settings, cleanup)
            pool = cleanup.enter_context(ThreadPoolExecutor(settings.workers))
            cleanup.callback(pool.shutdown, cancel_futures=True)
            largest = max(job.batch_size for job in self._expected)
            size = max(
                1, min(largest, len(todo) // (AHEAD * settings.workers))
            )  # few inputs: smaller batches
            batches = (todo[start : start + size] for start in range(0, len(todo), size))
            for number, encoded in _in_order(pool, _encode_batch, batches, AHEAD * settings.workers):
                for job, results in encoded:
                    job.store(results)
                    if job.failed > settings.max_failures:
                        raise TooManyFailuresError(
                            f"{job.encoder}: {job.failed} inputs failed, more than --max-failures allows; "
                            "failures.jsonl in the store's features lists them; encoded rows are kept"
                        )
                bar.update(number)
                if failed := sum(job.failed for job in self._expected):
                    bar.set_postfix(failed=failed, refresh=False)


def _in_order(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterator[Item], ahead: int
) -> Iterator[Result]:
    """Results in the order of the items; at most `ahead` further items are submitted at a time."""
    futures: deque[Future[Result]] = deque()
    for item in items:
        futures.append(pool.submit(function, item))
        if len(futures) > ahead:
            yield futures.popleft().result()
    while futures:
        yield futures.popleft().result()


def _encode_batch(batch: Sequence[tuple[Input, list[Job]]]) -> tuple[int, list[tuple[Job, Results]]]:
    """Open, prepare and encode inputs, each opened once; return their number and each job's results."""
    by_job: dict[Job, list[tuple[Input, Any]]] = {}
    for item, jobs in batch:
        decoded = _or_error(item.open)
        for job in jobs:
            failed = isinstance(decoded, InputError)
            prepared = decoded if failed else _or_error(decoded.prepared, job.tower)
            by_job.setdefault(job, []).append((item, prepared))
    return len(batch), [(job, job.encode(inputs)) for job, inputs in by_job.items()]


def _or_error(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except InputError as error:
        return error
