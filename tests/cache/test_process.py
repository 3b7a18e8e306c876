"""State of the process that several threads change at once."""

import resource
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier

import pytest

from encode_once.cache.process import SharedContext, allow_many_open_files


def ignored():
    """A context that changes the warnings filters, which belong to the process."""

    @contextmanager
    def context():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield

    return context()


@pytest.mark.parametrize("threaded", [False, True])
def test_what_the_first_found_is_restored_by_the_last(threaded):
    shared, barrier, before = SharedContext(ignored, threaded=threaded), Barrier(4), [*warnings.filters]

    def work(number):
        barrier.wait()
        for _ in range(50):
            with shared():
                assert warnings.filters[0][0] == "ignore"

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert [*warnings.filters] == before


def test_an_error_inside_is_raised_and_the_context_left():
    shared, before = SharedContext(ignored), [*warnings.filters]
    with pytest.raises(KeyError), shared():
        raise KeyError
    assert [*warnings.filters] == before


@pytest.mark.parametrize(
    ("soft", "hard", "limit"),
    [
        (1024, 4096, 4096),
        (1024, 1 << 20, 1 << 16),
        (1024, resource.RLIM_INFINITY, 1 << 16),
        (1 << 20, 1 << 20, 1 << 20),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, resource.RLIM_INFINITY),
    ],
)
def test_as_many_files_as_allowed_may_be_open(monkeypatch, soft, hard, limit):
    limits = [(soft, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda kind, pair: limits.append(pair))
    allow_many_open_files()
    assert limits[-1] == (limit, hard)
