"""Inputs are divided among workers that join and die at any time, here those of a fake pool."""

import itertools
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encode_once.extract import distribution
from encode_once.extract.distribution import BlockFinished, Distribution, InputBlock, WorkerDied, WorkerJoined
from encode_once.extract.errors import WorkersDiedError
from encode_once.extract.workers import Input
from tests.conftest import examples

JOBS = (0,)


def inputs(number):
    return [(Input(row.to_bytes(16, "big"), f"{row}.png", "image"), JOBS) for row in range(number)]


class FakePool:
    """Workers that encode in the order of a random generator, and die of some inputs, or by chance.

    Args:
        room: workers at the same time.
        deaths: by chance, at most; never two in a row.
        deadly: inputs of which workers die; those before them in a block are committed.
        joins: whether workers live until they have joined.
    """

    def __init__(self, seed=0, room=3, deaths=0, deadly=(), joins=True):
        self.random, self.room, self.deaths = random.Random(seed), room, deaths
        self.deadly, self.joins = {*deadly}, joins
        self.numbers, self.joining, self.blocks = itertools.count(), [], {}
        self.encoded, self.committed, self.finished, self.given_up = Counter(), set(), 0, []
        self.seen = []  # (worker, block)
        self.died_before = True
        self.looks = Counter()

    def run(self, missing):
        take = missing.__getitem__
        Distribution(
            len(missing),
            take,
            self,
            self.add,
            self.is_settled,
            self.remaining,
            lambda item: self.given_up.append(item),
        ).run()

    def add(self, number, result):
        self.finished += number

    def is_settled(self, worker):
        self.looks[worker] += 1
        return self.looks[worker] > 2

    def remaining(self, block):
        return [item for item in block.inputs if item not in self.committed]

    def grow(self, most):
        for _ in range(min(most, self.room - len(self.joining) - len(self.blocks))):
            self.joining.append(next(self.numbers))

    def submit(self, worker, block):
        self.seen.append((worker, block))
        self.blocks[worker].append(block)
        assert len(self.blocks[worker]) <= distribution.AT_ONCE

    def events(self, timeout):
        if self.joining and (self.random.random() < 0.5 or not any(self.blocks.values())):
            worker = self.joining.pop()
            if self.joins:
                self.blocks[worker] = []
            yield WorkerJoined(worker) if self.joins else WorkerDied(worker, "no memory")
            return
        busy = [worker for worker, blocks in self.blocks.items() if blocks]
        if not busy:
            return
        worker = self.random.choice(busy)
        block = self.blocks[worker].pop(0)
        by_chance = self.deaths > 0 and not self.died_before and self.random.random() < 0.4
        self.died_before = by_chance
        self.deaths -= by_chance
        end = self.random.randrange(len(block.inputs) + 1) if by_chance else len(block.inputs)
        fatal = [row for row, item in enumerate(block.inputs[:end]) if item in self.deadly]
        done = block.inputs[: fatal[0] if fatal else end]
        self.encoded.update(done)
        self.committed |= {*done}
        if by_chance or fatal:
            self.encoded.update(block.inputs[len(done) : len(done) + 5])  # encoded, and not committed
            del self.blocks[worker]
            yield WorkerDied(worker, "node lost")
        else:
            yield BlockFinished(worker, block, None)


@given(st.integers(0, 2**32), st.integers(0, 700), st.integers(0, 6), st.integers(1, 4))
@examples(40)
def test_every_input_is_encoded_once_but_for_what_dead_workers_had_not_committed(seed, number, deaths, room):
    pool = FakePool(seed, room, deaths)
    missing = inputs(number)
    pool.run(missing)
    assert pool.committed == {*missing}
    assert pool.finished == number
    assert pool.given_up == []
    again = sum(pool.encoded.values()) - number
    assert again <= 5 * (deaths - pool.deaths)


@given(st.integers(0, 2**32), st.sets(st.integers(0, 399), min_size=1, max_size=3), st.integers(1, 3))
@examples(40)
def test_an_input_that_kills_workers_is_given_up_and_all_others_are_encoded(seed, deadly, room):
    missing = inputs(400)
    pool = FakePool(seed, room, deadly=[missing[row] for row in deadly])
    pool.run(missing)
    assert {item.source for item, _ in pool.given_up} == {f"{row}.png" for row in deadly}
    assert pool.committed == {*missing} - pool.deadly


def test_what_a_dead_worker_had_is_the_only_block_of_the_next():
    missing = inputs(200)
    pool = FakePool(room=1, deadly=[missing[70]])
    alone = []
    original = pool.submit

    def submit(worker, block):
        alone.append((block.is_returned, len(pool.blocks[worker])))
        original(worker, block)

    pool.submit = submit
    pool.run(missing)
    assert {others for suspect, others in alone if suspect} == {0}
    assert max(others for suspect, others in alone if not suspect) == 1


def test_an_input_is_given_up_only_if_workers_die_that_have_nothing_else():
    """Each second block is lost with its node, but none more than twice when it is a single input."""
    missing, alone = inputs(64), Counter()

    class Spot(FakePool):
        def events(self, timeout):
            yield from super().events(timeout) if self.joining else map(self.event, [*self.blocks])

        def event(self, worker):
            block = self.blocks[worker].pop(0)
            is_single = len(block.inputs) == 1
            self.died_before = not self.died_before and (not is_single or alone[block.inputs[0]] < 2)
            if self.died_before:
                alone.update(block.inputs if is_single else ())
                del self.blocks[worker]
                return WorkerDied(worker, "taken away")
            self.committed |= {*block.inputs}
            return BlockFinished(worker, block, None)

    pool = Spot(room=1)
    pool.run(missing)
    assert pool.given_up == []
    assert pool.committed == {*missing}
    assert max(alone.values()) == distribution.MAX_DEATHS - 1


def test_workers_that_die_before_they_join_end_the_command():
    with pytest.raises(WorkersDiedError, match=r"5 workers died in a row, .*: no memory"):
        FakePool(joins=False).run(inputs(3))


def test_a_dead_worker_that_still_seems_to_write_is_not_waited_for_forever(monkeypatch):
    monkeypatch.setattr(distribution, "PATIENCE", 0.02)
    pool = FakePool(seed=1, deaths=2)
    pool.is_settled = lambda worker: False
    pool.run(inputs(3000))
    assert pool.deaths < 2
    assert len(pool.committed) == 3000


def test_blocks_take_about_the_same_time_and_become_small_at_the_end(monkeypatch):
    """One worker encodes 1,000 inputs per second, and one 10."""
    clock, rates, order = [0.0], {0: 1000, 1: 10}, []
    monkeypatch.setattr(distribution.time, "monotonic", lambda: clock[0])

    class Timed(FakePool):
        def grow(self, most):
            pass

        def events(self, timeout):
            if not self.blocks:
                self.blocks = {worker: [] for worker in rates}
                self.free = dict.fromkeys(rates, 0.0)
                yield from map(WorkerJoined, rates)
                return
            ends = {
                worker: max(self.free[worker], 0) + len(blocks[0].inputs) / rates[worker]
                for worker, blocks in self.blocks.items()
                if blocks
            }
            worker = min(ends, key=ends.get)
            clock[0] = self.free[worker] = ends[worker]
            block = self.blocks[worker].pop(0)
            order.append((worker, len(block.inputs)))
            yield BlockFinished(worker, block, None)

    pool = Timed()
    pool.run(inputs(60_000))
    fast = [size for worker, size in order if worker == 0]
    slow = [size for worker, size in order if worker == 1]
    assert max(fast) == distribution.LARGEST
    assert distribution.SMALLEST <= max(slow[1:]) <= 10 * distribution.SECONDS
    assert fast[-1] <= 4 * distribution.SMALLEST
    assert abs(pool.free[0] - pool.free[1]) < 2 * distribution.SECONDS
    assert sum(fast) + sum(slow) == 60_000


def test_nothing_missing_starts_no_worker():
    pool = FakePool()
    pool.run([])
    assert (pool.joining, pool.blocks) == ([], {})


def test_a_block_is_itself_only():
    """Two blocks of equal inputs can be at one worker."""
    assert len({InputBlock(()), InputBlock(())}) == 2
