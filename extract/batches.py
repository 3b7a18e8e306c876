"""Encode inputs in batches: open each once, prepare and encode it for every tower, on several threads.

Each worker thread takes a batch of inputs from file to vectors, for every tower. On a CPU each core then does
one thing at a time: networks run with a single thread and do not compete with decoding. With a GPU, other
workers decode while one waits for the GPU. Results come in the order of the inputs.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from encode_once.cache.names import FeatureName
from encode_once.extract.encoders import check_reachable
from encode_once.extract.encoders.base import Tower, torch_threads
from encode_once.extract.encoders.batch_size import grown_batch, out_of_memory
from encode_once.extract.encoders.precision import EXAMPLES, Examples, PrecisionRule, loaded
from encode_once.extract.encoders.weights import quiet_downloads
from encode_once.extract.errors import InputError
from encode_once.extract.images.decode import decode, reduction, to_rgb

STORED = np.float16
ON_GPU = 2  # batches at a time, each in a CUDA stream: one is computed while the next is copied
FIRST_BATCH, LARGEST_BATCH = 32, 4096  # between which a GPU's batch size is looked for
MANY = 2000  # inputs, for which looking for a CPU's batch size pays
AHEAD = 2  # batches submitted per worker, so that a slow batch does not block the others

Row = NDArray[Any]  # (d,) or (length, d), as it is stored
Results = Mapping[str, Sequence[Row | InputError]]  # output → the row of each input, or its error
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class DecodedInput:
    """A text, or an image, decoded when needed and once for all towers if possible."""

    text: str | None = None
    content: bytes = b""  # of an image's file
    image: Image | None = None  # an image of which there is no file, only the pixels
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
            same_size = other == side or self._reduction(other) == self._reduction(side)
            if same_size and other_depth == depth:
                return picture
        picture = decode(self.content, side, depth) if self.image is None else to_rgb(self.image, depth)
        self._pictures[side, depth] = picture
        return picture

    def _reduction(self, shorter_side: int | None) -> int:
        return reduction(self.content, shorter_side) if self.image is None else 1


class Openable(Protocol):
    """An image or a caption that can be read."""

    def open(self) -> DecodedInput:
        """Read it for towers to prepare.

        Raises:
            InputError: it cannot be read.
        """
        ...


class TowerRunner:
    """A tower of an encoder on a device: how many inputs it takes at a time, and from how many threads.

    weights: the local weights of its encoder, as in `Options`.
    """

    def __init__(self, encoder: str, tower: Tower, weights: str | None) -> None:
        self.encoder, self.tower, self.weights = encoder, tower, weights
        self.names = {output: str(FeatureName(encoder, output)) for output in tower.specs}
        self.rule = PrecisionRule()
        self.notes: list[str] = []  # on the precision, once loaded

    def load(
        self,
        device: str,
        workers: int,
        batch_size: int | None,
        expected: int,
        examples: Examples | None = None,
    ) -> None:
        """Load the tower to encode about `expected` inputs with this number of threads.

        examples: inputs on which reduced precision is compared with float32, see `precision.loaded`.

        Raises:
            WeightsError: the encoder's weights are missing or do not fit, or fail that comparison.
        """
        self.tower.expected = expected
        if self.weights is None:
            check_reachable(self.encoder)
        with quiet_downloads():
            names = ", ".join(self.names.values())
            self.tower, self.notes = loaded(self.tower, device, self.rule, examples, workers, names)
        self.set_pace(device, workers, batch_size)
        if examples and batch_size is None:
            if device.startswith("cuda"):
                self._grow(examples(), FIRST_BATCH, min(LARGEST_BATCH, expected), time.perf_counter)
            # Small batches suit float32, whose arithmetic is slow, but not weights in bfloat16: with AMX,
            # CLIP B/32 encodes 33 images a second in batches of 4, and 50 in batches of 64.
            elif self.tower.is_cast and self.tower.parallel and expected >= MANY:
                with torch_threads(1):
                    self._grow(examples(), self.batch_size, EXAMPLES, time.thread_time)

    def _grow(self, ready: Sequence[Any], first: int, most: int, clock: Callable[[], float]) -> None:
        """Use the batch size that encodes the most inputs per second."""

        def seconds(size: int) -> float:
            batch = [ready[row % len(ready)] for row in range(size)]
            self.tower.encode(batch)  # the first batch of a size takes longer
            started = clock()
            self.tower.encode(batch)
            return clock() - started

        if ready:
            self.batch_size = grown_batch(seconds, first, most)

    def set_pace(self, device: str, workers: int, batch_size: int | None = None) -> None:
        """Decide how many inputs a loaded tower takes at a time, and from how many threads."""
        default_size, concurrent = pace(self.tower, device, workers)
        self.batch_size = batch_size or default_size
        self._slots = Slots([_stream(device) for _ in range(concurrent)])
        self._threads = 1 if self.tower.parallel else workers

    def encode(self, prepared: Sequence[Any], *, alone: bool = False) -> Results:
        """Encode prepared inputs; those that are an error keep it as their result. Thread-safe.

        alone: nothing else is encoded meanwhile, so that torch may use all its threads.
        """
        results = {output: list(prepared) for output in self.names}
        remaining = [i for i, item in enumerate(prepared) if not isinstance(item, InputError)]
        while remaining:
            batch = remaining[: self.batch_size]
            try:
                with self._slots.taken(), nullcontext() if alone else torch_threads(self._threads):
                    outputs = self.tower.encode([prepared[i] for i in batch])
            except Exception as error:
                if not out_of_memory(error) or len(batch) == 1:
                    raise
                self.batch_size = min(self.batch_size, len(batch) // 2)
                continue
            remaining = remaining[len(batch) :]
            for output in results:
                for i, row in zip(batch, outputs[output], strict=True):
                    results[output][i] = _as_stored(row)
        return results


class Slots:
    """Places for concurrent batches, each in a context of its own: on a GPU, a CUDA stream."""

    def __init__(self, contexts: Sequence[Callable[[], AbstractContextManager[Any]]]) -> None:
        self._free: SimpleQueue[Callable[[], AbstractContextManager[Any]]] = SimpleQueue()
        for context in contexts:
            self._free.put(context)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """A context manager in which a place is taken; waits until one is free. Thread-safe."""
        context = self._free.get()
        try:
            with context():
                yield
        finally:
            self._free.put(context)


def _stream(device: str) -> Callable[[], AbstractContextManager[Any]]:
    if not device.startswith("cuda"):
        return nullcontext
    import torch

    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))  # in which the weights were copied
    return partial(torch.cuda.stream, stream)


Input = TypeVar("Input", bound=Openable)
Runner = TypeVar("Runner", bound=TowerRunner)


def pace(tower: Tower, device: str, workers: int) -> tuple[int, int]:
    """A tower's batch size on a device, and the maximum number of concurrent batches."""
    on_gpu = device.startswith("cuda")
    size, concurrent = (tower.gpu_batch, ON_GPU) if on_gpu else (tower.cpu_batch, workers)
    return size, concurrent if tower.parallel else 1


def encode_in_batches(
    inputs: Sequence[tuple[Input, Sequence[Runner]]],
    runners: Iterable[TowerRunner],
    workers: int,
    pool: ThreadPoolExecutor,
) -> Iterator[tuple[int, list[tuple[Runner, list[Input], Results]]]]:
    """Encode inputs, each with loaded towers, some of `runners`; the pool has `workers` threads.

    Yields for each batch, in order, the number of inputs, and each tower with its inputs and results.
    """
    largest = max((runner.batch_size for runner in runners), default=1)
    size = max(1, min(largest, len(inputs) // (AHEAD * workers)))  # few inputs: smaller batches
    batches = (inputs[start : start + size] for start in range(0, len(inputs), size))
    yield from _in_order(pool, encode_batch, batches, AHEAD * workers)


def encode_batch(
    batch: Sequence[tuple[Input, Sequence[Runner]]], *, alone: bool = False
) -> tuple[int, list[tuple[Runner, list[Input], Results]]]:
    """Encode one batch in the calling thread, as `encode_in_batches`; `alone`: see `TowerRunner.encode`."""
    by_runner: dict[Runner, tuple[list[Input], list[Any]]] = {}
    for item, runners in batch:
        decoded = _or_error(item.open)
        for runner in runners:
            failed = isinstance(decoded, InputError)
            inputs, prepared = by_runner.setdefault(runner, ([], []))
            inputs.append(item)
            prepared.append(decoded if failed else _or_error(decoded.prepared, runner.tower))
    return len(batch), [
        (runner, inputs, runner.encode(prepared, alone=alone))
        for runner, (inputs, prepared) in by_runner.items()
    ]


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


def _or_error(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except InputError as error:
        return error


def _as_stored(row: Any) -> Row | InputError:
    """Convert a row to the stored precision."""
    values: Row = np.asarray(row)
    if values.dtype == np.uint8:  # the bytes of a text
        return values
    with np.errstate(over="ignore"):  # too large values become infinite, which is checked below
        values = values.astype(STORED)
    if not np.isfinite(values).all():
        return InputError("not-finite", f"its vector has values out of the range of {STORED.__name__}")
    return values
