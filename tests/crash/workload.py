"""The extraction whose crashes are tested: a pooled image feature, a dense and a ragged caption feature."""

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
from tests.conftest import WORDS

ROOT = Path(__file__).parents[2]
ENCODERS = ("glove-100", "timm:test_vit")


def vectors_file(folder):
    """GloVe's format with the few words that the captions of the tests hold."""
    rng = np.random.default_rng(0)
    path = folder / "vectors.txt"
    lines = (f"{word} {' '.join(map(str, rng.normal(size=100)))}\n" for word in ["a", "and", *WORDS])
    path.write_text("".join(lines))
    return path


def arguments(data, store, vectors):
    """Of `cli.py`. One input a batch: a row's last bits may depend on its neighbours in a batch."""
    chosen = [word for name in ENCODERS for word in ("--encoder", name)]
    weights = ["--weights", f"glove-100={vectors}", "--weights", "timm:test_vit=random"]
    small = ["--batch-size", "1", "--workers", "1", "--device", "cpu"]
    return ["extract", "--data", str(data), "--store", str(store), *chosen, *weights, *small]


class Nursery:
    """Runs `extract` processes; see nursery.py."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.nursery"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def run(self, args, kill_after=None, largest_file=None, told=os.devnull):
        """Run `cli.py`; its exit status, negative for a signal.

        It may be killed after some seconds, write no file beyond some bytes, and tell stderr to a file.
        """
        asked = {"args": args, "kill_after": kill_after, "largest_file": largest_file, "told": str(told)}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self):
        self._process.stdin.close()
        self._process.wait()


def committed(path):
    """Feature → content key → bytes of each committed row, sealed or not; the store may not be there yet."""
    found = {}
    for name in Store(path).features():
        folder, rows = Store(path).folder(name), {}
        for part_file in part_files(folder):
            part = Part(part_file, FeatureRecord.read(folder).key)
            rows |= _bytes(*part.block(np.arange(part.rows)))
        found[name] = rows
    return found


def readable(path):
    """The same of the rows that any reader has."""
    features = [Store(path).feature(name) for name in Store(path).features()]
    return {one.name: _bytes(*one.block(np.arange(len(one.keys)))) for one in features if len(one)}


def _bytes(keys, values, lengths):
    ends = np.cumsum([0, *(np.ones(len(keys), int) if lengths is None else lengths)])
    return {key.tobytes(): values[a:b].tobytes() for key, (a, b) in zip(keys, pairwise(ends), strict=True)}
