"""Which engine encodes, what it reserves, and what it says where it cannot; without a cluster."""

import sys
from unittest.mock import MagicMock

import pytest

from encode_once.cache import DataError, UsageError
from encode_once.extract import encode, ray_engine
from encode_once.extract.encoders.base import cut_remarks, summed_remarks
from encode_once.extract.engines import LocalEngine, engine_named
from encode_once.extract.ray_engine import RayEngine


def test_a_missing_library_is_named_with_the_command_that_installs_it(folder, monkeypatch, run):
    monkeypatch.setitem(sys.modules, "ray", None)
    folder()
    result = run("extract", "--encoder", "efficientnet-lite0", "--engine", "ray", status=1)
    assert result.stderr.splitlines()[-1] == ("Error: --engine ray needs Ray: pip install 'encode-once[ray]'")


def test_unknown_engines_and_actors_without_a_cluster_are_refused(folder):
    with pytest.raises(UsageError, match="unknown engine 'rey': did you mean 'ray'"):
        encode(folder(), ["efficientnet-lite0"], engine="rey")
    with pytest.raises(UsageError, match="--actors is for --engine ray"):
        engine_named("local", 3)
    assert isinstance(engine_named("local"), LocalEngine)


class FakeRay:
    def __init__(self, nodes):
        self._nodes = nodes

    def nodes(self):
        return [{"Alive": alive, "Resources": resources} for alive, resources in self._nodes]


class FakeCluster:
    """A cluster with free resources, in which actors start and never join."""

    def __init__(self, **free):
        self.free, self.reserved = free, []

    def available_resources(self):
        return self.free

    def remote(self, **options):
        self.reserved.append((options["num_cpus"], options["num_gpus"]))
        return lambda actor: MagicMock()


@pytest.mark.parametrize(
    ("free", "needs", "most", "useful", "expected"),
    [
        ({"CPU": 17.0}, {"CPU": 4, "GPU": 0}, None, 100, [4, 4]),
        ({"CPU": 17.0}, {"CPU": 4, "GPU": 0}, None, 3, [3, 3]),  # no more than have something to do
        ({"CPU": 64.0, "GPU": 3.0}, {"CPU": 8, "GPU": 1}, None, 100, [3, 3]),
        ({"CPU": 64.0}, {"CPU": 8, "GPU": 1}, None, 100, [0, 0]),
        ({}, {"CPU": 8, "GPU": 1}, 5, 100, [5, 5]),  # an autoscaler sees what is missing
    ],
)
def test_actors_start_where_there_is_room(free, needs, most, useful, expected):
    cluster = FakeCluster(**free)
    pool = ray_engine.ActorPool(cluster, most, needs)
    started = []
    for _ in range(2):  # the second time, the first actors are still joining
        pool.grow(useful)
        started.append(len(cluster.reserved))
    assert started == expected
    assert {*cluster.reserved} <= {(needs["CPU"], needs["GPU"])}
    cluster.free = {"CPU": 1000.0, "GPU": 1000.0}  # nodes join
    pool.grow(useful)
    assert len(cluster.reserved) == (most or min(useful, 1000 // max(needs["CPU"], needs["GPU"])))


CPUS = [(True, {"CPU": 64.0}), (True, {"CPU": 3.0}), (True, {}), (False, {"CPU": 1.0})]
GPUS = [(True, {"CPU": 16.0}), (True, {"CPU": 32.0, "GPU": 4.0}), (True, {"CPU": 48.0, "GPU": 8.0})]


@pytest.mark.parametrize(
    ("nodes", "device", "workers", "expected"),
    [
        (CPUS, "auto", None, ("cpu", 3)),
        (CPUS[:1], "cpu", None, ("cpu", ray_engine.THREADS)),
        (CPUS, "auto", 16, ("cpu", 16)),
        (GPUS, "auto", None, ("cuda", 6)),
        (GPUS, "cuda", 2, ("cuda", 2)),
        (GPUS, "cpu", None, ("cpu", ray_engine.THREADS)),
        ([], "cuda", None, ("cuda", ray_engine.THREADS)),  # nodes that are yet to come
    ],
)
def test_an_actor_reserves_a_core_for_each_of_its_threads(monkeypatch, nodes, device, workers, expected):
    monkeypatch.setattr(ray_engine, "_connect", lambda: (FakeRay(nodes), False))
    engine = RayEngine(None)
    assert (engine.device(device), engine.threads(workers)) == expected


@pytest.mark.parametrize(
    ("device", "workers", "message"),
    [
        ("cuda:1", None, "Ray chooses the GPUs: use auto, cpu or cuda"),
        ("cuda", None, "no node of the cluster has a GPU"),
        ("cpu", 65, "no node of the cluster has more than 64 cores"),
    ],
)
def test_what_no_node_has_is_refused(monkeypatch, device, workers, message):
    monkeypatch.setattr(ray_engine, "_connect", lambda: (FakeRay(CPUS), False))
    engine = RayEngine(None)
    with pytest.raises(UsageError, match=message):
        engine.threads(workers) if engine.device(device) else None


def test_an_address_where_no_cluster_answers_is_named(monkeypatch):
    import ray

    def init(**options):
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(DataError, match=r"no Ray cluster answers at RAY_ADDRESS=10\.0\.0\.1:6379 .Could not"):
        RayEngine(None)
    monkeypatch.delenv("RAY_ADDRESS")
    with pytest.raises(DataError, match="ray start --head"):
        RayEngine(None)


def test_remarks_of_several_actors_are_added_up():
    remarks = [*cut_remarks(1, 77), "damaged line 3", *cut_remarks(4, 77), "damaged line 3"]
    assert summed_remarks(remarks) == ["damaged line 3", *cut_remarks(5, 77)]
    assert summed_remarks([]) == []
