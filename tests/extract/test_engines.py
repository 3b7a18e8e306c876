"""Which engine encodes, what it reserves, and what it says where it cannot; without a cluster."""

import pickle
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pandas as pd
import pytest

from encode_once.cache import DataError, Store, UsageError
from encode_once.extract import ComputeOptions, ReadOptions, encode, pipeline
from encode_once.extract.encoders.base import cut_remarks, summed_remarks
from encode_once.extract.engines import LocalEngine, engine_named
from encode_once.extract.errors import UnknownEncoderError
from encode_once.extract.ray_engine import engine as ray_engine
from encode_once.extract.ray_engine.engine import RayEngine
from encode_once.extract.ray_engine.pool import ActorPool
from encode_once.extract.remote import session
from tests.conftest import vectors_file
from tests.extract.remote.test_files import site  # noqa: F401 — a fixture
from tests.test_captions import CAPTIONER, CAPTIONS


def test_a_missing_library_is_named_with_the_command_that_installs_it(folder, monkeypatch, run):
    monkeypatch.setitem(sys.modules, "ray", None)
    folder()
    result = run("extract", "--encoder", "efficientnet-lite0", "--engine", "ray", status=1)
    assert result.stderr.splitlines()[-1] == ("Error: --engine ray needs Ray: pip install 'encode-once[ray]'")


def test_unknown_engines_and_actors_without_a_cluster_are_refused(folder):
    with pytest.raises(UsageError, match="unknown engine 'rey': did you mean 'ray'"):
        encode(folder(), ["efficientnet-lite0"], engine="rey")
    with pytest.raises(UsageError, match="--actors is for --engine ray"):
        engine_named("local", 3, Store("store"))
    assert isinstance(engine_named("local", None, Store("store")), LocalEngine)


def test_a_store_at_a_url_is_refused_before_anything_is_read(memory, monkeypatch):
    monkeypatch.setattr(ray_engine, "_connect", lambda: pytest.fail("a cluster was started"))
    with pytest.raises(UsageError, match=f"writes into a folder that all nodes have, not into {memory}"):
        encode("no such data", ["efficientnet-lite0"], memory, engine="ray")


def test_a_cluster_that_was_started_ends_with_an_error_before_encoding(folder, monkeypatch):
    ray = MagicMock()
    monkeypatch.setattr(ray_engine, "_connect", lambda: (ray, True))
    with pytest.raises(UnknownEncoderError):
        encode(folder(), ["no such encoder"], engine="ray", device="cpu", compute=ComputeOptions(workers=1))
    ray.shutdown.assert_called_once_with()


class FakeRay:
    def __init__(self, nodes):
        self._nodes = nodes

    def nodes(self):
        return [{"Alive": alive, "Resources": resources} for alive, resources in self._nodes]


class RayErrors:
    """As `ray.exceptions`."""

    class RayError(Exception): ...

    class RayTaskError(RayError):
        def __init__(self, cause):
            self.cause = cause

        def as_instanceof_cause(self):
            return type("Dual", (type(self), type(self.cause)), {})(self.cause)

    class RayActorError(RayError): ...

    WorkerCrashedError = NodeDiedError = ObjectLostError = OutOfMemoryError = RayActorError


class InProcess:
    """A stand-in for Ray whose actors run in this process; what they are sent, return or raise is pickled."""

    exceptions = RayErrors

    def __init__(self, cores=2):
        self.cores, self.actors, self.sessions = cores, [], {}

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": float(self.cores)}}]

    def available_resources(self):
        return {"CPU": float(self.cores - len(self.actors))}

    def remote(self, **options):
        def make(kind):
            actor = kind()
            self.actors.append(actor)
            calls = {
                name: SimpleNamespace(remote=partial(self._call, getattr(actor, name)))
                for name in ("decide", "join", "encode", "leave")
            }
            calls["__ray_ready__"] = SimpleNamespace(remote=object)
            return SimpleNamespace(**calls)

        return lambda kind: SimpleNamespace(remote=lambda: make(kind))

    def _call(self, method, *args):
        sessions = self.sessions.setdefault(id(method.__self__), [])  # of URLs: an actor has its own
        driver, session._sessions[:] = [*session._sessions], sessions
        try:
            result = method(*pickle.loads(pickle.dumps(args)))
        except Exception as error:
            result = error
        finally:
            sessions[:], session._sessions[:] = session._sessions, driver
        return pickle.dumps(result), object()  # no two are equal

    def get(self, call):
        result = pickle.loads(call[0])
        if isinstance(result, Exception):
            raise RayErrors.RayTaskError(result).as_instanceof_cause()
        return result

    def wait(self, calls, num_returns, timeout):
        return calls[:num_returns], calls[num_returns:]

    def kill(self, actor):
        pass


def test_actors_store_what_the_local_engine_stores(folder, tmp_path, monkeypatch, site):  # noqa: F811
    """Both passes of a captioner, an encoder of one's own, images at URLs, failures and remarks."""
    ray = InProcess()
    monkeypatch.setattr(ray_engine, "_connect", lambda: (ray, False))
    monkeypatch.chdir(tmp_path)
    Path("captioner.py").write_text(CAPTIONER)
    root = folder(30)
    (root / "data" / "5.png").write_bytes(b"no image")
    url = site.put("/7.png", (root / "data" / "7.png").read_bytes(), ETag="a")
    (root / "data" / "7.png").unlink()
    rows = pd.read_csv(root / "train.csv")
    rows["ImageID"] = rows["ImageID"].replace("7.png", url)
    rows.loc[3, "Caption"] = "dog " * 10_000
    rows.to_csv(root / "train.csv", index=False)
    reports = {}
    for engine in ("local", "ray"):
        reports[engine] = encode(
            root,
            ["glove-100"],
            engine,
            captions=["table", CAPTIONS],
            engine=engine,
            compute=ComputeOptions(workers=1, batch_size=3),
            read=ReadOptions(allow_urls=[site.url]),
            weights={"glove-100": str(vectors_file(tmp_path / "vectors.txt"))},
            progress=False,
        )
    assert len(ray.actors) == 2
    local, distributed = reports.values()
    assert local.failures == distributed.failures
    assert local.features == distributed.features
    assert local.failures == distributed.failures
    assert local.warnings == distributed.warnings
    assert [failure.reason for failure in local.failures].count("not-an-image") >= 1
    assert any("1 caption is longer" in line for line in local.warnings)
    assert local.features[f"{CAPTIONS}/text"].encoded == 29
    for name in Store("local").features():
        first, second = Store("local").feature(name), Store("ray").feature(name)
        assert first.key == second.key
        if first.ragged:
            for ours, theirs in zip(
                first.read_ragged(first.keys), second.read_ragged(first.keys), strict=True
            ):
                np.testing.assert_array_equal(ours, theirs)
        else:
            np.testing.assert_array_equal(first.read(first.keys), second.read(first.keys))


FAULTY = """
import numpy as np
from encode_once.extract.encoders.base import Tower


class Faulty(Tower):
    modality = "image"

    def __init__(self, options):
        super().__init__({"mean": {"encoder": "faulty", "weights": "none"}})

    def prepare(self, image):
        return np.asarray(image, np.float32).mean((0, 1))

    def load(self, device): ...

    def encode(self, batch):
        return {"mean": np.stack(batch)}

    def remarks(self):
        return []

    def METHOD(self, *arguments):
        raise ZeroDivisionError("a fault in METHOD")
"""


@pytest.mark.parametrize("method", ["load", "encode", "remarks"])
def test_a_fault_in_an_encoder_is_raised_and_kills_no_worker(folder, tmp_path, monkeypatch, method):
    ray = InProcess()
    monkeypatch.setattr(ray_engine, "_connect", lambda: (ray, False))
    monkeypatch.chdir(tmp_path)
    Path("faulty.py").write_text(FAULTY.replace("METHOD", method))
    with pytest.raises(ZeroDivisionError, match=rf"^a fault in {method}$") as raised:
        encode(folder(3), ["faulty.py:Faulty"], engine="ray", progress=False)
    assert type(raised.value) is ZeroDivisionError
    assert len(ray.actors) <= ray.cores
    assert Store("store").features() == ([] if method == "load" else ["faulty.py:Faulty/mean"])
    if method != "load":
        assert Store("store").feature("faulty.py:Faulty/mean").failures() == {}


def test_an_own_encoder_may_name_any_backend(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_engine, "_connect", lambda: (InProcess(), False))
    monkeypatch.chdir(tmp_path)
    code = FAULTY.replace("METHOD", "nothing")
    Path("faulty.py").write_text(code + '\n    backend = "jax"\n')
    encode(folder(3), ["faulty.py:Faulty"], engine="ray", compute=ComputeOptions(backend="torch"))
    assert len(Store("store").feature("faulty.py:Faulty/mean").keys) == 3


class FakeCluster:
    """A cluster with free resources, in which actors start and never join."""

    exceptions = RayErrors

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
    pool = ActorPool(cluster, most, needs)
    started = []
    for _ in range(2):  # the second time, the first actors are still joining
        pool.grow(useful)
        started.append(len(cluster.reserved))
    assert started == expected
    assert {*cluster.reserved} <= {(needs["CPU"], needs["GPU"])}
    cluster.free = {"CPU": 1000.0, "GPU": 1000.0}  # nodes join
    pool.grow(useful)
    assert len(cluster.reserved) == (most or min(useful, 1000 // max(needs["CPU"], needs["GPU"])))


def test_a_cluster_without_room_is_named(monkeypatch, capsys):
    """Before the first actor has started, and after the last one has died."""
    actor = MagicMock()
    vars(actor)["__ray_ready__"] = MagicMock()
    ray = MagicMock(exceptions=RayErrors)
    ray.remote.return_value.return_value.remote.return_value = actor
    ray.available_resources.return_value = {"CPU": 3.0}
    ray.wait.return_value = [], []
    pool = ActorPool(ray, None, {"CPU": 4, "GPU": 0})
    pool.decide(None, [])
    line = "waiting for the cluster, as no actor runs yet; each needs 4 CPU (3 free) on one node"
    assert capsys.readouterr().err.count(line) == 1
    pool.begin(None)
    list(pool.events(0))
    assert capsys.readouterr().err == ""
    clock = time.monotonic() + 60
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    for _ in range(3):
        list(pool.events(0))
    assert capsys.readouterr().err.count("waiting for the cluster") == 1


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
    with RayEngine(None) as engine:
        assert (engine.device(device), engine.threads(workers)) == expected


def test_the_threads_of_an_extraction_are_those_of_an_actor_with_its_gpu(monkeypatch):
    def settings(device, threads, *others, **options):
        raise InterruptedError(f"{threads} threads on {device}")

    monkeypatch.setattr(ray_engine, "_connect", lambda: (FakeRay(GPUS), False))
    monkeypatch.setattr(pipeline, "EncodeSettings", settings)
    with pytest.raises(InterruptedError, match="6 threads on cuda"):
        encode("input", ["efficientnet-lite0"], engine="ray")


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
    with RayEngine(None) as engine, pytest.raises(UsageError, match=message):
        engine.threads(workers) if engine.device(device) else None


def test_an_address_where_no_cluster_answers_is_named(monkeypatch):
    def init(**options):
        raise ConnectionError("Could not find any running Ray instance.")

    ray = SimpleNamespace(init=init, is_initialized=lambda: False)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(DataError, match=r"no Ray cluster answers at RAY_ADDRESS=10\.0\.0\.1:6379 .Could not"):
        RayEngine(None).__enter__()
    monkeypatch.delenv("RAY_ADDRESS")
    with pytest.raises(DataError, match="ray start --head"):
        RayEngine(None).__enter__()


def test_remarks_of_several_actors_are_added_up():
    remarks = [*cut_remarks(1, 77), "damaged line 3", *cut_remarks(4, 77), "damaged line 3"]
    assert summed_remarks(remarks) == ["damaged line 3", *cut_remarks(5, 77)]
    assert summed_remarks([]) == []
