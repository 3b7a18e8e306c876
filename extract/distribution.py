"""Divide inputs among workers that join and die at any time. What runs the workers is the pool's business."""

import math
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from encode_once.extract.errors import WorkersDiedError
from encode_once.extract.workers import Input

AT_ONCE = 2  # blocks at a worker: its threads begin one while the last batches of the other are encoded
SECONDS = 8.0  # that a block should take
FIRST, SMALLEST, LARGEST = 64, 16, 4096  # inputs of a block: before its pace is seen, and the limits
TICK = 0.5  # seconds between two looks for room in the cluster
PATIENCE = 10.0  # seconds that a dead worker may still seem to write
MAX_DEATHS = 3  # of workers that had nothing but an input: then it is not tried again
DEATHS_IN_VAIN = 5  # of workers in a row, before the cluster is given up

Worker = Hashable
Missing = tuple[Input, tuple[int, ...]]  # with the numbers of the jobs that lack it


@dataclass(frozen=True, eq=False)
class InputBlock:
    """Inputs that one worker encodes."""

    inputs: Sequence[Missing]
    is_returned: bool = False  # by a worker that died: the next worker has nothing else
    deaths: int = 0  # of workers that had nothing but its one input


@dataclass(frozen=True)
class WorkerJoined:
    """A worker is ready for blocks."""

    worker: Worker


@dataclass(frozen=True)
class BlockFinished:
    """A worker has committed all inputs of a block but those that failed, which the result has."""

    worker: Worker
    block: InputBlock
    result: Any


@dataclass(frozen=True)
class WorkerDied:
    """A worker ended, with all its blocks."""

    worker: Worker
    reason: str


Event = WorkerJoined | BlockFinished | WorkerDied


class Pool(Protocol):
    """The workers."""

    def grow(self, most: int) -> None:
        """Start further workers where there is room, at most this many."""
        ...

    def submit(self, worker: Worker, block: InputBlock) -> None:
        """Let a worker encode a block; it may have several at a time."""
        ...

    def events(self, timeout: float) -> Iterable[Event]:
        """What has happened; waits for the first event, at most so many seconds."""
        ...


@dataclass
class Distribution:
    """Inputs, their way to the workers of a pool, and back into the queue if a worker dies with them.

    The blocks of a dead worker come back in halves, without what it committed, and each half is the only
    block of the next worker that takes it. So an input that kills workers ends up alone, and all others are
    encoded. A death counts against an input only if the worker had no other: nodes may be taken away.

    Args:
        number: of the inputs to encode.
        inputs: those in a slice of them.
        finished: called with the number of inputs and the result of each block.
        is_settled: whether all that a dead worker committed can be seen.
        remaining: those of a block's inputs that are not committed.
        give_up: called with each input that MAX_DEATHS workers died with, when they had nothing else.
    """

    number: int
    inputs: Callable[[slice], Sequence[Missing]]
    pool: Pool
    finished: Callable[[int, Any], None]
    is_settled: Callable[[Worker], bool]
    remaining: Callable[[InputBlock], Sequence[Missing]]
    give_up: Callable[[Missing], None]

    _next: int = 0  # the first input that no worker has had
    _returned: deque[InputBlock] = field(default_factory=deque)
    _blocks: dict[Worker, dict[InputBlock, float]] = field(default_factory=dict)  # with times of submission
    _sizes: dict[Worker, int] = field(default_factory=dict)  # of the next block
    _dead: list[tuple[Worker, float, list[InputBlock]]] = field(default_factory=list)  # with times of death
    _in_vain: int = 0  # deaths in a row, but for those that one input explains

    def run(self) -> None:
        """Return when every input is committed, has failed, or was given up.

        Raises:
            WorkersDiedError: DEATHS_IN_VAIN workers died in a row.
        """
        while self._waiting or self._dead or any(self._blocks.values()):
            if self._waiting:
                self.pool.grow(math.ceil(self._waiting / FIRST))
            self._hand_out()
            for event in self.pool.events(TICK):
                self._handle(event)
            self._return_blocks()

    @property
    def _waiting(self) -> int:
        """The number of inputs that no worker has."""
        return self.number - self._next + sum(len(block.inputs) for block in self._returned)

    def _hand_out(self) -> None:
        for worker, blocks in self._blocks.items():
            while block := self._block_for(worker):
                blocks[block] = time.monotonic()
                self.pool.submit(worker, block)

    def _block_for(self, worker: Worker) -> InputBlock | None:
        """The next block for a worker, if it should get a further one."""
        blocks = self._blocks[worker]
        if len(blocks) >= AT_ONCE or any(block.is_returned for block in blocks):
            return None
        if self._returned and not blocks:
            return self._returned.popleft()
        left = self.number - self._next
        share = math.ceil(left / (AT_ONCE * len(self._blocks)))  # so that all end at about the same time
        size = min(self._sizes.get(worker, FIRST), max(SMALLEST, share))
        inputs = self.inputs(slice(self._next, self._next + size))
        self._next += len(inputs)
        return InputBlock(inputs) if inputs else None

    def _handle(self, event: Event) -> None:
        if isinstance(event, WorkerJoined):
            self._blocks[event.worker] = {}
        elif isinstance(event, BlockFinished):
            seconds = time.monotonic() - self._blocks[event.worker].pop(event.block)
            size = int(len(event.block.inputs) * SECONDS / max(seconds, 1e-3))
            self._sizes[event.worker] = min(LARGEST, max(SMALLEST, size))
            self._in_vain = 0
            self.finished(len(event.block.inputs), event.result)
        else:
            blocks = [*self._blocks.pop(event.worker, {})]
            self._dead.append((event.worker, time.monotonic(), blocks))
            self._in_vain += not _is_one_input(blocks)
            if self._in_vain >= DEATHS_IN_VAIN:
                raise WorkersDiedError(
                    f"{self._in_vain} workers died in a row, the last one because: {event.reason}; "
                    "see the logs of the cluster, and run extract again: what is committed is kept"
                )

    def _return_blocks(self) -> None:
        """Put the blocks of dead workers back into the queue, once it can be seen what they committed."""
        for entry in [*self._dead]:
            worker, died, blocks = entry
            if self.is_settled(worker) or time.monotonic() - died > PATIENCE:
                self._dead.remove(entry)
                for block in blocks:
                    self._return(block, block.deaths + _is_one_input(blocks))

    def _return(self, block: InputBlock, deaths: int) -> None:
        inputs = self.remaining(block)
        if committed := len(block.inputs) - len(inputs):
            self._in_vain = 0
            self.finished(committed, None)
        if inputs and deaths >= MAX_DEATHS:
            self.give_up(inputs[0])
            return
        half = math.ceil(len(inputs) / 2)
        halves = inputs[:half], inputs[half:]
        self._returned += [InputBlock(part, is_returned=True, deaths=deaths) for part in halves if part]


def _is_one_input(blocks: Sequence[InputBlock]) -> bool:
    """Whether the blocks of a worker are a single input."""
    return sum(len(block.inputs) for block in blocks) == 1
