"""Compute in float16 or bfloat16, where the vectors agree with those in float32.

A CPU with AVX512-BF16 or AMX is fast with weights in bfloat16, and slow with autocast, which converts them in
every call. The two give other vectors, so that the spec says which it is: "bfloat16 weights", or "bfloat16"
for autocast. Which precision pays is measured on the first use of an encoder on a machine. The results are
kept next to the exported networks.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from copy import copy
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from encode_once.cache import content_key
from encode_once.cache.errors import brief
from encode_once.cache.format.atomic import replacing
from encode_once.cache.process import processor_name
from encode_once.extract.encoders.base import CAST, EXACT, Tower, torch_threads
from encode_once.extract.encoders.runtime import MIN_INPUTS, exports_folder
from encode_once.extract.errors import WeightsError

EXAMPLES = 64  # inputs on which the vectors are compared
# A cosine of .9999 is a distance of 1.4 % of the vector's length, and .999 of 4.5 %. `verify --recompute`
# tolerates 2 %; rounding to float16 in the store costs .024 %, measured on normal vectors.
# A linear head on captions by minilm: samples F1 .841 in float32, .842 in bfloat16 with .99993 (540 rows).
LEAST_COSINE = {"bfloat16": 0.9999, "float16": 0.999}
GAIN = 1.05  # as many times as fast as float32 bfloat16 must be to be chosen
WEIGHTS, AUTOCAST = "weights", "autocast"
ROUNDS = 3  # of timing

Examples = Callable[[], Sequence[Any]]  # prepared inputs of a loaded tower


@dataclass(frozen=True)
class PrecisionRule:
    """What decides the precision of a tower.

    least_cosine: to float32, of any example; by default that of LEAST_COSINE.
    ways: to compute in reduced precision, the first that reaches it is used. Empty: that of the tower's spec.
    on_failure: what follows if none reaches it. A precision that is decided leaves only the warning.
    if_faster: what follows if a tower in float32 would be faster in bfloat16, and equal.
    """

    least_cosine: float | None = None
    ways: tuple[str, ...] = (WEIGHTS, AUTOCAST)
    on_failure: Literal["error", "float32", "warning"] = "error"
    if_faster: Literal["ignored", "reported", "used"] = "ignored"

    @classmethod
    def decided(cls, least_cosine: float | None) -> "PrecisionRule":
        """That of a tower whose precision and way may not change, as its features are declared with them."""
        return cls(least_cosine, (), "warning")


@dataclass(frozen=True)
class PrecisionTrial:
    """How a tower computes in reduced precision, compared with float32."""

    compared: int  # examples; 0 without any that can be read, or where the speed does not suffice
    cosine: float | None  # the least of any example and output; None if none is compared
    speed: float | None  # as many times as fast; None on a GPU, where it is not measured


def loaded(
    tower: Tower,
    device: str,
    rule: PrecisionRule | None = None,
    examples: Examples | None = None,
    workers: int = 1,
    names: str = "",
) -> tuple[Tower, list[str]]:
    """Load a tower to compute in its precision, or in the one that the rule chooses; also notes on it.

    Args:
        rule: what decides the precision.
        examples: for comparisons. None if there are none: then nothing is compared, and the spec decides.
        workers: threads.
        names: of the features, for notes; by default those of the outputs.

    Raises:
        WeightsError: the weights cannot be loaded, or the precision gives other vectors than float32.
    """
    tower.is_cast = False  # it may have been loaded before
    tower.load(device)
    rule, names = rule or PrecisionRule(), names or ", ".join(tower.specs)
    if tower.precision in LEAST_COSINE and tower.compares:
        return _reduced(tower, examples, rule, workers, names)
    measures = rule.if_faster != "ignored" and tower.precision == EXACT and tower.device == "cpu"
    if measures and tower.casts and tower.expected >= MIN_INPUTS and examples:
        return _fastest(tower, examples, rule, workers, names)
    return tower, []


def _reduced(
    tower: Tower, examples: Examples | None, rule: PrecisionRule, workers: int, name: str
) -> tuple[Tower, list[str]]:
    precision = tower.precision
    floor = LEAST_COSINE[precision] if rule.least_cosine is None else rule.least_cosine
    of_spec = WEIGHTS if tower.casts_weights else AUTOCAST
    if examples is None:
        return lowered_copy(tower, precision, of_spec), []
    best = -1.0, tower
    for way in (rule.ways or (of_spec,)) if tower.casts else (AUTOCAST,):
        lowered = lowered_copy(tower, precision, way)
        trial = _trial(tower, lowered, way, examples, workers)
        lowered.cosine = trial.cosine
        if trial.cosine is None or trial.cosine >= floor:
            return lowered, _slowness(name, precision, trial, rule)
        best = max(best, (trial.cosine, lowered), key=lambda pair: pair[0])
    differs = f"{name}: {precision} has a cosine of {best[0]:.5f} to float32, less than {floor:g}"
    if rule.on_failure == "warning":
        return best[1], [f"{differs}; it is used, as the feature is made with it"]
    if rule.on_failure == "float32":
        return lowered_copy(tower, EXACT, ""), [f"{differs}: float32 is used"]
    raise WeightsError(f"{differs}: use --precision float32, or allow it with --min-cosine")


def _fastest(
    tower: Tower, examples: Examples, rule: PrecisionRule, workers: int, name: str
) -> tuple[Tower, list[str]]:
    """The tower in float32, or in bfloat16 if that is faster and equal, and the rule lets it be used."""
    precision = "bfloat16"
    lowered = lowered_copy(tower, precision, WEIGHTS)
    try:
        trial = _trial(tower, lowered, WEIGHTS, examples, workers, least_speed=GAIN)
    except Exception as error:  # an operator that has no such form
        if rule.if_faster == "reported":
            return tower, []
        return tower, [f"{name}: float32 is used, as it does not run in {precision} ({brief(error)})"]
    floor = LEAST_COSINE[precision] if rule.least_cosine is None else rule.least_cosine
    if trial.speed is None or trial.cosine is None or trial.speed < GAIN:
        return tower, []
    if rule.if_faster == "reported":
        faster = f"{name}: {precision} would be {trial.speed:.1f} times as fast as float32 here"
        return tower, [f"{faster}: --precision fast uses it"] if trial.cosine >= floor else []
    faster = f"{name}: {precision} is {trial.speed:.1f} times as fast as float32 here"
    if trial.cosine < floor:
        cosine = f"its vectors have a cosine of {trial.cosine:.5f} to float32, less than {floor:g}"
        return tower, [f"{faster}, but {cosine}: float32 is used"]
    lowered.cosine = trial.cosine
    return lowered, [f"{faster} (cosine {trial.cosine:.5f}) and is used"]


def _slowness(name: str, precision: str, trial: PrecisionTrial, rule: PrecisionRule) -> list[str]:
    if trial.speed is None or trial.speed * GAIN >= 1:
        return []
    slower = f"{precision} is {1 / trial.speed:.1f} times slower than float32 on this CPU"
    return [f"{name}: {slower}{'' if rule.on_failure == 'warning' else ': use --precision float32'}"]


def lowered_copy(tower: Tower, precision: str, way: str) -> Tower:
    """A copy of a loaded tower that computes in that precision; the tower does not change."""
    lowered = copy(tower)
    lowered.set_precision(precision + CAST if way == WEIGHTS else precision)
    if way == WEIGHTS:
        lowered.cast()
    return lowered


def _trial(
    tower: Tower, lowered: Tower, way: str, examples: Examples, workers: int, least_speed: float = 0.0
) -> PrecisionTrial:
    """Compare a tower in reduced precision with float32, unless the result is kept from before.

    Nothing is compared where the speed does not reach the least one.
    """
    import torch

    machine = processor_name() if tower.device == "cpu" else torch.cuda.get_device_name(tower.device)
    settings = [torch.__version__, machine, tower.backend, way, str(least_speed)]
    identity = json.dumps([settings, lowered.specs], sort_keys=True)
    path = exports_folder() / f"{content_key(identity.encode()).hex()}.json"
    with suppress(Exception):  # missing or damaged
        return PrecisionTrial(**json.loads(path.read_text()))
    exact, ready = lowered_copy(tower, EXACT, ""), examples()
    if not ready:
        return PrecisionTrial(0, None, None)
    speed = _speed(exact, lowered, ready[: tower.cpu_batch]) if tower.device == "cpu" else None
    if speed is None or speed >= least_speed:
        trial = PrecisionTrial(len(ready), least_cosine(exact, lowered, ready, workers), speed)
    else:
        trial = PrecisionTrial(0, None, speed)
    if len(ready) >= EXAMPLES:
        with suppress(OSError), replacing(path) as temporary:  # the disk may be full or read-only
            temporary.write_text(json.dumps(asdict(trial)))
    return trial


def _speed(exact: Tower, lowered: Tower, batch: Sequence[Any]) -> float:
    """How many times as fast the second tower is, with one thread, in time of its own: others may be busy."""
    seconds = {exact: math.inf, lowered: math.inf}
    with torch_threads(1):
        for _ in range(ROUNDS):
            for tower in seconds:
                started = time.thread_time()
                tower.encode(batch)
                seconds[tower] = min(seconds[tower], time.thread_time() - started)
    return seconds[exact] / max(seconds[lowered], 1e-9)


def least_cosine(exact: Tower, lowered: Tower, ready: Sequence[Any], workers: int) -> float:
    """The least cosine between the vectors of an input, of any output; sequences count as one vector."""
    with torch_threads(1):
        pairs = zip(_vectors(exact, ready, workers), _vectors(lowered, ready, workers), strict=True)
        return min((cosine(a, b) for a, b in pairs), default=1.0)


def _vectors(tower: Tower, ready: Sequence[Any], workers: int) -> list[NDArray[Any]]:
    batches = [ready[start : start + tower.cpu_batch] for start in range(0, len(ready), tower.cpu_batch)]
    with ThreadPoolExecutor(workers if tower.parallel else 1) as pool:
        encoded = list(pool.map(tower.encode, batches))
    return [np.ravel(row) for outputs in encoded for rows in outputs.values() for row in rows]


def cosine(a: NDArray[Any], b: NDArray[Any]) -> float:
    """The cosine between two vectors (d,): 1 if they are equal, -1 if one is not finite or has another size.

    >>> cosine(np.array([3.0, 4.0]), np.array([4.0, 3.0]))
    0.96
    """
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return -1.0
    if np.array_equal(a, b):
        return 1.0
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), np.finfo(np.float64).tiny))
