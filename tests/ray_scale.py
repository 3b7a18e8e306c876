"""Real images on a Ray cluster of three nodes: python -m tests.ray_scale [--images N] [--json FILE].

First, one actor with one core encodes images in turn with the local engine with one thread. Then the cluster
encodes the photographs of $COCO19/coco19-9k; in the middle, the driver is killed and started again, a node is
killed, and one is added. All vectors are compared with those of the local engine, and encodings are counted.
"""

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from encode_once.cache import Store
from encode_once.extract import ComputeOptions, ReadOptions, encode
from encode_once.extract.ray_engine.encoding_pass import RayPass
from encode_once.extract.readers import read
from encode_once.extract.workers import EncodingPass
from tests.conftest import SHARED

ROOT = Path(__file__).parents[1]
NODES = 3
NODE = {"num_cpus": 1, "object_store_memory": 150_000_000}
# EfficientNet-lite0, which logs a hash of the pixels of each image that it encodes.
ENCODER = """
import hashlib
import os

from encode_once.extract.encoders.timm_models import LITE0, TimmImages


class Lite0(TimmImages):
    def __init__(self, options):
        super().__init__(LITE0, "tf_efficientnet_lite0", options)

    def encode(self, batch):
        vectors = super().encode(batch)
        hashes = [hashlib.blake2b(pixels.numpy().tobytes(), digest_size=8).hexdigest() for pixels in batch]
        with open(os.path.join("LOGS", str(os.getpid())), "a") as file:
            file.write("".join(f"{digits}\\n" for digits in hashes))
        return vectors
"""
NAME = "lite0.py:Lite0"
FEATURE = f"{NAME}/pooled"
COMPUTE = ComputeOptions(backend="onnxruntime")
SETTINGS = {"compute": COMPUTE, "progress": False, "keep_tables": False}


def hashes(logs):
    """Those of all encodings since `logs` was emptied."""
    return [line for path in logs.iterdir() for line in path.read_text().split()]


def wait_for(logs, number):
    """Wait until so many different images are encoded."""
    while len({*hashes(logs)}) < number:
        time.sleep(0.2)


def seconds_of(kind, action):
    """How long a pass of this kind encodes in an action, without loading."""
    original, seconds = kind.encode, []

    def timed(encoding_pass):
        started = time.perf_counter()
        original(encoding_pass)
        seconds.append(time.perf_counter() - started)

    kind.encode = timed
    try:
        action()
    finally:
        kind.encode = original
    return sum(seconds)


def rates(table, rounds, images):
    """Images per second of the local engine with one thread, and of one actor with one core, by round."""
    for number in range(rounds):
        part = table.take(np.arange(number * images, (number + 1) * images))
        seconds = {}
        for engine in ("local", "ray") if number % 2 else ("ray", "local"):
            actors, kind = (1, RayPass) if engine == "ray" else (None, EncodingPass)
            with tempfile.TemporaryDirectory() as store:
                options = {**SETTINGS, "engine": engine, "actors": actors}
                options["compute"] = replace(COMPUTE, workers=1)
                seconds[engine] = seconds_of(kind, lambda: encode(part, [NAME], store, **options))  # noqa: B023
        yield images / seconds["local"], images / seconds["ray"]


def encode_in_spite_of_all(cluster, nodes, logs, images):
    """Encode the folder `input`; returns how often images were encoded again, after each disturbance."""
    words = [sys.executable, str(ROOT / "cli.py"), "extract", "--engine", "ray", "--encoder", NAME]
    words += ["--backend", "onnxruntime", "--images", str(SHARED / "coco19-9k" / "data")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "RAY_ADDRESS": cluster.address}
    with Path("driver.log").open("w") as log:
        driver = subprocess.Popen(words, env=environment, stdout=log, stderr=log)
        wait_for(logs, images // 4)
        driver.kill()
        driver.wait()
        driver = subprocess.Popen(words, env=environment, stdout=log, stderr=log)
        wait_for(logs, images // 2)
        by_driver = len(hashes(logs)) - len({*hashes(logs)})
        cluster.remove_node(nodes.pop(), allow_graceful=False)
        wait_for(logs, 3 * images // 5)
        cluster.add_node(**NODE)
        status = driver.wait()
    assert status == 0, Path("driver.log").read_text()
    return by_driver, len(hashes(logs)) - len({*hashes(logs)}) - by_driver


def measure(images, rounds=3, per_round=400):
    """Run all in the working folder; returns the figures by name."""
    import ray
    from ray.cluster_utils import Cluster

    logs = Path("logs").resolve()
    logs.mkdir()
    Path("lite0.py").write_text(ENCODER.replace("LOGS", str(logs)))
    rows = pd.read_csv(SHARED / "coco19-9k" / "train.csv", dtype=str)[:images]
    Path("input").mkdir()
    rows.to_csv("input/train.csv", index=False)
    (table,) = read("input", ReadOptions(images=str(SHARED / "coco19-9k" / "data")))[0].values()

    # Ray gives its processes a low priority, of which others here would take advantage.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    cluster = Cluster(
        initialize_head=True, head_node_args={**NODE, "num_cpus": 0, "include_dashboard": False}
    )
    nodes = [cluster.add_node(**NODE) for _ in range(NODES)]
    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        pairs = [*rates(table, rounds, per_round)]
        ray.shutdown()
        for path in logs.iterdir():
            path.unlink()
        again = encode_in_spite_of_all(cluster, nodes, logs, images)
    finally:
        ray.shutdown()
        cluster.shutdown()
    processes = len([*logs.iterdir()])
    encode(table, [NAME], "local", **SETTINGS)
    local, store = Store("local").feature(FEATURE), Store("store").feature(FEATURE)
    return {
        "images": len(local),
        "rows": len(store),
        "equal": int((store.read(local.keys) == local.read(local.keys)).all(axis=1).sum()),
        "processes": processes,
        "again_driver": again[0],
        "again_node": again[1],
        "local_rate": statistics.median(local for local, _ in pairs),
        "ray_rate": statistics.median(rate for _, rate in pairs),
        "share": statistics.median(rate / local for local, rate in pairs),
        "shares": [round(rate / local, 2) for local, rate in pairs],
        "load": os.getloadavg()[1],
    }


def table_of(figures):
    """The figures as a results file of docs/tables.py."""
    shares = ", ".join(map(str, figures["shares"]))
    rows = [
        ["different images", f"{figures['images']:,}"],
        [
            "rows in the store after one driver and one node were killed, and a node added",
            f"{figures['rows']:,}",
        ],
        ["of these, equal to the local engine's in every bit", f"{figures['equal']:,}"],
        [
            "images encoded again because the driver was killed (three processes)",
            str(figures["again_driver"]),
        ],
        ["images encoded again because a node was killed (one process)", str(figures["again_node"])],
        ["images per second: local engine, one thread", f"{figures['local_rate']:.1f}"],
        ["images per second: one actor, one core", f"{figures['ray_rate']:.1f}"],
        ["share of the local engine's pace, median (and each round)", f"{figures['share']:.2f} ({shares})"],
    ]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    )
    return {
        "title": "EfficientNet-lite0 on a Ray cluster of three nodes with one core each, on one machine",
        "command": "python -m tests.ray_scale",
        "machine": f"2 shared CPU cores, of which others used a lot (load {figures['load']:.0f})",
        "date": date.today().isoformat(),
        "commit": commit.stdout.strip(),
        "columns": [{"name": "measured"}, {"name": "figure"}],
        "rows": rows,
    }


def main():
    parser = argparse.ArgumentParser(description="Encode real images on a Ray cluster.")
    parser.add_argument("--images", type=int, default=9000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    target = options.json and options.json.resolve()
    with tempfile.TemporaryDirectory() as folder:
        checkout = Path.cwd()
        os.chdir(folder)
        figures = measure(options.images)
        os.chdir(checkout)
    print(json.dumps(figures))
    if target:
        target.write_text(json.dumps(table_of(figures), indent=1) + "\n")


if __name__ == "__main__":
    main()
