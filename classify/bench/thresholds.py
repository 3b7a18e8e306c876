"""How long thresholds take, and what they reach, beside what one would write with scikit-learn or NumPy."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np

from encode_once.cache.errors import EncodeOnceError
from encode_once.cache.keys import content_key, pack
from encode_once.classify.arrays import LabelMatrix, Scores
from encode_once.classify.bench.grid_search import CUTS, brute_force, counted, looped, looped_together, worth
from encode_once.classify.bench.synthetic import made_up, scored
from encode_once.classify.decisions.exact import Objective, tune
from encode_once.classify.decisions.rule import DecisionRule, DecisionSpec
from encode_once.classify.evaluation.evaluation import ScoredRows
from encode_once.classify.runs.fit import fit
from encode_once.classify.runs.retune import measure_kept

OBJECTIVES = (
    *("macro", "weighted", "micro", "samples", "global-macro", "global-micro", "global-samples", "micro-f2"),
    *("precision:0.9", "recall:0.9"),
)
SHRUNK = ("macro", "micro", "samples")
FEW = 20  # classes of which all are looped over; of more, some are timed for all
SOME = 4  # of the classes, or cuts, so timed
GRID = f"NumPy grid of {len(CUTS)} cuts"

Row = dict[str, Any]
Result = TypeVar("Result")


def speed(rows: int, classes: int, repeats: int = 5) -> Iterator[Row]:
    """Seconds of each way to thresholds for made-up scores (rows, classes), and what it reaches on these.

    The peers come first: scikit-learn's `f1_score` at 200 cuts a class, and at 200 cuts for all classes.
    Where a peer would take minutes, some of its classes or cuts are timed, and its row says so. `× loop` is
    how many times as fast a way is as the loop of its kind. That is one of the same average for one cut, and
    for cuts a class that of F1 a class, the least that such a search can do, or for `samples`, in which no
    class stands alone, one pass over the cuts of each class in turn. `× grid` compares with NumPy's counts at
    the same cuts, for the same objective, and so does `above grid`, in units of 0.0001. Seconds of all but
    the loops are medians.
    """
    scores, labels = scored(rows, classes)
    loops: dict[str, float] = {}
    for row in _loops(scores, labels):
        loops[row["for"]] = row["seconds"]
        yield row
    for objective in OBJECTIVES:
        yield from _beside_grid(scores, labels, objective, loops.get(objective, loops["macro"]), repeats)
    yield _of_sets(scores, labels, min(repeats, 3))


def _row(labels: LabelMatrix, way: str, objective: str, seconds: float) -> Row:
    rows, classes = labels.shape
    told: Row = {"rows": rows, "classes": classes, "way": way, "for": objective, "seconds": seconds}
    return told | {"× loop": None, "× grid": None, "reaches": None, "above grid": None}


def _loops(scores: Scores, labels: LabelMatrix) -> Iterator[Row]:
    """The rows of scikit-learn's loops."""
    classes = labels.shape[1]
    some = np.arange(classes) if classes <= FEW else np.arange(0, classes, -(-classes // SOME))
    seconds, _ = timed(partial(looped, scores[:, some], labels[:, some]))
    scaled = "" if len(some) == classes else f" ({len(some)} of {classes} classes timed)"
    way = f"f1_score at {len(CUTS)} cuts a class{scaled}"
    yield _row(labels, way, "macro", seconds * classes / len(some))
    cuts = CUTS[:: len(CUTS) // SOME]
    for average in ("macro", "micro", "samples"):
        seconds, _ = timed(partial(looped_together, scores, labels, average, cuts))
        way = f"f1_score at {len(CUTS)} cuts ({len(cuts)} of them timed)"
        seconds *= len(CUTS) / len(cuts)
        yield _row(labels, way, f"global-{average}", seconds)
    way = f"the same in each class once ({len(cuts)} of them timed)"
    yield _row(labels, way, "samples", seconds * classes)


def _beside_grid(
    scores: Scores, labels: LabelMatrix, objective: str, loop: float, repeats: int
) -> Iterator[Row]:
    """The rows of an objective: NumPy's grid, then ours. loop: seconds of scikit-learn's."""
    ways: dict[str, Callable[[], Any]] = {
        GRID: partial(counted, scores, labels, objective),
        "tune": partial(tune, scores, labels, objective),
    }
    if objective in SHRUNK:
        ways["tune, shrunk"] = partial(DecisionSpec(objective).fit, scores, labels)
    if objective == "macro":
        ways |= {f"tune, torch tensors on {device}": work for device, work in _torch(scores, labels)}
    grid: Row = {}
    for way, work in ways.items():
        seconds, found = timed(work, repeats)
        cuts = found.thresholds if isinstance(found, DecisionRule) else found
        row = _row(labels, way, objective, seconds) | {"× loop": loop / seconds}
        row["reaches"] = worth(Objective.of(objective), labels, scores >= cuts)
        if grid:
            row["× grid"] = grid["seconds"] / seconds
            row["above grid"] = (row["reaches"] - grid["reaches"]) * 1e4
        grid = grid or row
        yield row


def _torch(scores: Scores, labels: LabelMatrix) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What tunes tensors on each kind of device there is; the tensors are there already."""
    import torch

    def tuned(X: torch.Tensor, Y: torch.Tensor) -> Any:
        return tune(X, Y, "macro").cpu().numpy()  # to copy is to wait for it

    for device in ["cpu"] + ["cuda"] * torch.cuda.is_available():
        X, Y = (torch.from_numpy(table).to(device) for table in (scores, labels))
        yield device, partial(tuned, X, Y)


def _of_sets(scores: Scores, labels: LabelMatrix, repeats: int) -> Row:
    """The row of the rule that uses no cuts: calibrating and choosing."""
    asked = DecisionSpec(decide="expected-f1")
    seconds, chosen = timed(lambda: asked.fit(scores, labels)(scores), repeats)
    reaches = worth(Objective.of("samples"), labels, chosen)
    return _row(labels, "expected-f1", "samples", seconds) | {"reaches": reaches}


def timed(work: Callable[[], Result], repeats: int = 1) -> tuple[float, Result]:
    """The median seconds of some work, and what it returns."""
    took = []
    for _ in range(repeats):
        started = time.perf_counter()
        result = work()
        took.append(time.perf_counter() - started)
    return median(took), result


def gaps(problems: int = 1000, rows: int = 6, classes: int = 3, seed: int = 0) -> list[Row]:
    """How far `samples` is from the optimum, which brute force finds, on small problems full of equal scores.

    A row for `tune`, and one for the grid of 200 cuts, which climbs from the same starts. `gap` is in F1.
    """
    rng = np.random.default_rng(seed)
    asked, found = Objective.of("samples"), []
    for _ in range(problems):
        levels = rng.random(rows) ** 4  # many low ones, as scores of rare classes are
        scores, labels = levels[rng.integers(rows, size=(rows, classes))], rng.random((rows, classes)) < 0.4
        best = brute_force(scores, labels, "samples")
        ways = (tune, counted)
        found.append([best - worth(asked, labels, scores >= way(scores, labels, "samples")) for way in ways])
    told = ("tune", GRID)
    return [
        {
            "samples by": way,
            "problems": problems,
            "rows": rows,
            "classes": classes,
            "solved": float((gap < 1e-9).mean()),
            "mean gap": float(gap.mean()),
            "largest gap": float(gap.max()),
        }
        for way, gap in zip(told, np.maximum(found, 0).T, strict=True)
    ]


def command(rows: int, classes: int, repeats: int = 3) -> Row:
    """Seconds of the command `tune` on a run that keeps so many scores: in all, of imports, and beyond them.

    `seconds` are those of a process that does as the shell would. The others are told by a process that first
    imports, by the clock, every module that the command was seen to load, and then runs the command, which
    has no more to import. All are medians.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        _write_run(run, rows, classes)
        words = ["tune", str(run), "--objective", "macro", "--json"]
        loaded = Path(folder) / "loaded.json"
        loaded.write_text(_python(_COMMAND + _LISTING, *words).splitlines()[-1], encoding="utf-8")
        whole, _ = timed(lambda: _python(_COMMAND, *words), repeats)
        parts = [json.loads(_python(_APART, str(loaded), *words).splitlines()[-1]) for _ in range(repeats)]
    imports, beyond = map(median, zip(*parts, strict=True))
    told = {"command": "tune RUN --objective macro", "rows": rows, "classes": classes}
    return told | {"seconds": whole, "imports": imports, "beyond imports": beyond}


# What the processes run: the command; then also what it loaded; the imports and the command, each timed.
_COMMAND = """
import sys
from encode_once import cli
cli.own_process()
cli.main(sys.argv[1:], standalone_mode=False)
"""
_LISTING = """
import json
print(json.dumps([name for name, one in sys.modules.items() if getattr(one, "__spec__", None)]))
"""
_APART = """
import time
times = [time.perf_counter()]
from encode_once import cli
cli.own_process()
import contextlib, importlib, json, pathlib, sys
for name in json.loads(pathlib.Path(sys.argv[1]).read_text()):
    with contextlib.suppress(ImportError):  # libraries give names to what is no module's file
        importlib.import_module(name)
times.append(time.perf_counter())
cli.main(sys.argv[2:], standalone_mode=False)
times.append(time.perf_counter())
print(json.dumps([times[1] - times[0], times[2] - times[1]]))
"""


def _python(code: str, *words: str) -> str:
    """What a process of ours prints.

    Raises:
        EncodeOnceError: it failed.
    """
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)  # noqa: S603 — our own words
    if done.returncode:
        raise EncodeOnceError(f"a process of this bench failed: {done.stderr.strip()}")
    return done.stdout


def _write_run(path: Path, rows: int, classes: int) -> None:
    """A run of the head `linear` on a few rows, with made-up scores (rows, classes) in place of its own."""
    with made_up(1000, 16) as store:
        run, _ = fit(store, "linear", run=path, options={"Cs": [0.01]})
    ids = [f"{row:012}.jpg" for row in range(rows)]
    kept = ScoredRows(ids, *scored(rows, classes), keys=pack(content_key(name.encode()) for name in ids))
    run.record = replace(run.record, classes=[f"class {k}" for k in range(classes)])
    run.validation, run.eval, run.decision = kept, kept, DecisionSpec("none").fit(kept.scores, kept.labels)
    run.save(*measure_kept(run))
