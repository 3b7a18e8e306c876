"""The extraction of the crash tests: a dense and a ragged feature of images, and of captions."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np

from encode_once.cache import Store
from encode_once.cache.format.part import Part, part_files
from encode_once.cache.format.spec_file import FeatureRecord

ROOT = Path(__file__).parents[2]
ENCODERS = ("glove-100", "timm:test_vit/regions")


def arguments(data, store, vectors):
    """Arguments of `cli.py`. One input per batch, as the last bits of a row may depend on the other rows."""
    encoders = [word for name in ENCODERS for word in ("--encoder", name)]
    weights = ["--weights", f"glove-100={vectors}", "--weights", f"{ENCODERS[1]}=random"]
    small = ["--batch-size", "1", "--workers", "1", "--device", "cpu"]
    return ["extract", "--data", str(data), "--store", str(store), *encoders, *weights, *small]


class ForkServer:
    """Runs `extract` processes; see fork_server.py."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.fork_server"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def run(self, args, kill_after=None, largest_file=None, stderr=os.devnull):
        """Run `cli.py`; returns its exit status, negative for a signal.

        Args:
            kill_after: seconds after which it is killed.
            largest_file: limit of the size of all files that it writes, in bytes.
            stderr: file for its stderr.
        """
        request = {
            "args": args,
            "kill_after": kill_after,
            "largest_file": largest_file,
            "stderr": str(stderr),
        }
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self):
        self._process.stdin.close()
        self._process.wait()


def committed(path):
    """Feature → content key → bytes of each committed row, sealed or not, that is not damaged.

    The store may not exist yet.
    """
    features = {}
    for name in Store(path).features():
        folder, rows = Store(path).folder(name), {}
        for part_file in part_files(folder):
            part = Part(part_file, FeatureRecord.read(folder).key)
            rows |= _bytes(*part.block(np.flatnonzero(part.sound(0, part.rows))))
        features[name] = rows
    return features


def readable(path):
    """The same for the rows that a reader sees."""
    features = [Store(path).feature(name) for name in Store(path).features()]
    return {f.name: _bytes(*f.block(np.arange(len(f.keys)))) for f in features if len(f)}


def check_rows(whole, stored, before=None):
    """Each stored row is a row of a clean run, `whole`, and each row of `before` is stored unchanged."""
    for name, rows in stored.items():
        assert rows.items() <= whole[name].items(), "a row is wrong"
    for name, rows in (before or {}).items():
        assert rows.items() <= stored[name].items(), "a committed row is gone, or changed"


def _bytes(keys, values, lengths):
    ends = np.cumsum([0, *(np.ones(len(keys), int) if lengths is None else lengths)])
    return {key.tobytes(): values[a:b].tobytes() for key, (a, b) in zip(keys, pairwise(ends), strict=True)}
