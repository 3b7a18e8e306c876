"""Heads and peers on published data sets: the same rows, seeds and decision rules for all.

A peer's own rule, such as 0.5, labels the test rows after a fit on all train rows. The thresholds that all
systems are compared with are tuned on the validation rows of `fit`: where these are all train rows, the peer
is also fitted without each fold; where they are a tenth, without that tenth.
"""

import csv
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from encode_once.cache import MissingDataError, Store
from encode_once.cache.bench.peak_memory import peak_memory_of, with_peak_memory
from encode_once.cache.bench.stopwatch import timed
from encode_once.cache.errors import brief, unknown_name
from encode_once.cache.format.atomic import replacing
from encode_once.cache.process import silenced
from encode_once.classify import heads
from encode_once.classify.arrays import LabelMatrix, RowIndex, Scores, Vectors
from encode_once.classify.bench.peers import INSTALL, PEERS
from encode_once.classify.bench.published import published_names, published_store, read_published
from encode_once.classify.bench.race import Race
from encode_once.classify.data.features import choose
from encode_once.classify.data.tables import choose_table
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.evaluation.metrics import average_f1, measure
from encode_once.classify.runs.fit import fit
from encode_once.classify.runs.retune import evaluate_kept
from encode_once.classify.spec import code_key

HEADS = ("linear", "mlp", "knn", "prototype", "forest", "gbm", "stack", "auto")
STACKED = ("linear", "mlp", "knn", "gbm")  # what `stack` averages here: it stacks features by default
AVERAGES = ("micro", "macro", "samples")
OWN = "own rule"
# Rules for the scores of every system, fitted on the same validation rows.
RULES = {f"{average} thresholds": DecisionSpec(average) for average in AVERAGES} | {
    "expected-mean": DecisionSpec(decide="expected-mean"),
    "expected-f1": DecisionSpec(decide="expected-f1"),
    "0.5": DecisionSpec("none"),
}
FIGURES = (*(f"{average} F1" for average in AVERAGES), "Hamming loss")
TEXTS = ("set", "system", "outcome", "code")
COLUMNS = (
    *("set", "system", "seed", "outcome", "limit", "seconds", "CPU seconds", "MB", "mAP"),
    *(f"{figure}, {rule}" for rule in (OWN, *RULES) for figure in FIGURES),
    "code",
)
SHOWN = (
    "set",
    "system",
    "seed",
    "outcome",
    *(f"{average} F1, {OWN}" for average in AVERAGES),
    "mAP",
    "seconds",
    "MB",
)
DONE = "done"

Row = dict[str, Any]
Costs = dict[str, float]
Arrays = Mapping[str, NDArray[Any]]
Result = TypeVar("Result")


@dataclass(frozen=True)
class ContestSet:
    """A table of a store whose eval rows are the test rows."""

    name: str
    store: Path
    split: str
    features: Sequence[str] = ()


@contextmanager
def contest_sets(
    folder: Path,
    names: Sequence[str] | None,
    labels: Mapping[str, int],
    store: str | None,
    features: Sequence[str],
    split: str,
) -> Iterator[list[ContestSet]]:
    """The published sets of a folder, by default all, each in a temporary store; and the table of a store.

    Args:
        labels: the number of labels of sets, where it is not clear.
        features, split: of the table of the store.

    Raises:
        DataError: a set cannot be read, or the store has no such table.
    """
    all_names = published_names(folder)
    if not all_names and store is None:
        raise MissingDataError(
            f"{folder} has no NAME-train.arff and NAME-test.arff: name a folder with --data"
        )
    for name in names or ():
        if name not in all_names:
            raise unknown_name(f"set of {folder}", name, all_names)
    with ExitStack() as stores:
        sets = [
            ContestSet(name, stores.enter_context(published_store(published)).path, "split")
            for name in (all_names if names is None else names)
            for published in [read_published(folder, name, labels.get(name))]
        ]
        if store is not None:
            source = Path(choose_table(Store(store), None).source)
            name = source.name if source.is_dir() else source.parent.name
            sets.append(ContestSet(name, Path(store), split, features))
        yield sets


class Results:
    """The steps done so far: `results.csv`, a row for each set, system and seed, and the scores of each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[Row] = []
        if self.path.exists():
            with self.path.open(newline="", encoding="utf-8") as file:
                self.rows = [_parsed(row) for row in csv.DictReader(file)]

    @property
    def path(self) -> Path:
        """The table."""
        return self.folder / "results.csv"

    def scores_path(self, data: str, system: str, seed: int) -> Path:
        """The file with the arrays of a step, see `figures`."""
        return self.folder / "scores" / data / f"{system}-{seed}.npz"

    def find(self, data: str, system: str, seed: int) -> Row | None:
        """The row of a step."""
        step = (data, system, seed)
        return next((row for row in self.rows if (row["set"], row["system"], row["seed"]) == step), None)

    def add(self, row: Row, arrays: Arrays) -> None:
        """Save a step, in place of an earlier try."""
        step = (row["set"], row["system"], row["seed"])
        if arrays:
            with replacing(self.scores_path(*step)) as temporary, temporary.open("wb") as scores_file:
                np.savez_compressed(scores_file, allow_pickle=False, **arrays)
        earlier = self.find(*step)
        self.rows = [other for other in self.rows if other is not earlier] + [row]
        with replacing(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)


def _parsed(row: dict[str, str]) -> Row:
    values: Row = {
        name: text if name in TEXTS else float(text) if text else None for name, text in row.items()
    }
    return values | {"seed": int(values["seed"])}


def contest(
    sets: Sequence[ContestSet], systems: Sequence[str], seeds: int, folder: Path, limit: float
) -> Iterator[Row]:
    """Measure what `folder` does not hold yet; yields the row of each step, once it is saved.

    A step that was killed is tried again with a higher limit only, one that failed always. A peer that is not
    installed has a row, too, which is not saved.

    Args:
        systems: names of heads and of `PEERS`.
        limit: processor seconds for the process of a fit, with the imports.
    """
    for name in systems:
        if name not in PEERS and name not in heads.HEADS:
            raise unknown_name("head or peer", name, [*heads.HEADS, *PEERS])
    results = Results(folder)
    for data, seed, system in product(sets, range(seeds), systems):
        row = {**dict.fromkeys(COLUMNS), "set": data.name, "system": system, "seed": seed, "limit": limit}
        if system in PEERS and not PEERS[system].installed:
            yield row | {"outcome": f"{PEERS[system].module} is not installed: {INSTALL}"}
            continue
        earlier = results.find(data.name, system, seed)
        if earlier and (
            earlier["outcome"] == DONE
            or (earlier["outcome"].startswith("killed") and earlier["limit"] >= limit)
        ):
            continue
        measured, arrays = _step(data, system, seed, limit)
        row |= {**measured, "code": code_key()[:8]}
        results.add(row, arrays)
        yield row


def _step(data: ContestSet, system: str, seed: int, limit: float) -> tuple[Row, Arrays]:
    """What is new in the row of a step, and its arrays; both lack what did not finish."""
    row: Row = {"outcome": DONE}
    arrays: dict[str, NDArray[Any]] = {}
    works = [_fit_head] if system not in PEERS else [_fit_peer, _fit_peer_to_tune]
    try:
        for work in works:
            (costs, learned), _ = with_peak_memory(work, data, system, seed, limit=limit)
            row = {**costs, **row}  # the costs of a peer are those of its own rule
            arrays |= learned
    except TimeoutError as error:
        row["outcome"] = str(error)
    except Exception as error:  # of any library: the other systems go on
        row["outcome"] = brief(f"failed: {type(error).__name__}: {error}")
    return row | figures(arrays), arrays


def figures(arrays: Arrays) -> Row:
    """mAP, and F1 and Hamming loss by every rule, from the arrays of a step.

    arrays: `labels`, the true ones of the test rows (m, c); `own_scores` and `own_labels` (m, c), by the
    system's own rule; `validation_scores` and `validation_labels` (v, c), of rows that were not fitted on;
    and the `scores` (m, c) that go with these, if they are not the system's own. Those of a fit that did not
    finish are absent.
    """
    if "own_labels" not in arrays:
        return {}
    labels = arrays["labels"]
    names = [str(number) for number in range(labels.shape[1])]
    row: Row = {"mAP": measure(labels, arrays["own_labels"], arrays["own_scores"], names)["mAP"]}
    for rule in (OWN, *RULES):
        if rule == OWN or "validation_scores" in arrays:
            predictions = decided(arrays, rule)
            values = [average_f1(labels, predictions, average) for average in AVERAGES]
            values.append(float((labels != predictions).mean()))
            row |= {f"{figure}, {rule}": value for figure, value in zip(FIGURES, values, strict=True)}
    return row


def decided(arrays: Arrays, rule: str) -> LabelMatrix:
    """The labels of the test rows (m, c) by a rule."""
    if rule == OWN:
        return arrays["own_labels"]
    fitted = RULES[rule].fit(arrays["validation_scores"], arrays["validation_labels"], intervals=False)
    return fitted(arrays["scores" if "scores" in arrays else "own_scores"])


# ---------------------------------------------------------------------------- in the process of a fit


def _fit_head(data: ContestSet, head: str, seed: int) -> tuple[Costs, Arrays]:
    """Fit a head as `fit` does, with its defaults."""
    options = _options(head, len(choose(Store(data.store), data.features)))

    def learn() -> Any:
        with tempfile.TemporaryDirectory() as folder:
            fitting = fit(
                data.store, head, features=data.features, split=data.split, seed=seed, options=options,
                run=Path(folder) / "run",
            )  # fmt: skip
            return fitting[0]

    with silenced(1, 2):
        X, Y = _few_rows()
        heads.make(head, **_options(head, 1)).fit(X, Y)
        costs, run = _measured(learn)
    return costs, {
        "labels": run.eval.labels,
        "own_scores": run.eval.scores,
        "own_labels": evaluate_kept(run).predictions,
        "validation_scores": run.validation.scores,
        "validation_labels": run.validation.labels,
    }


def _options(head: str, features: int) -> dict[str, Any]:
    if head != "stack":
        return {}
    return {"heads": STACKED, "parts": [[*range(features)]] * len(STACKED), "combiner": "mean"}


def _fit_peer(data: ContestSet, name: str, seed: int) -> tuple[Costs, Arrays]:
    """Fit a peer on all train rows, and label the test rows by its own rule."""
    race = _race(data, seed)
    costs, ((scores, labels),) = _peer(name, race, race.rows, [race.eval])
    return costs, {"labels": race.Y[race.eval], "own_scores": scores, "own_labels": labels}


def _fit_peer_to_tune(data: ContestSet, name: str, seed: int) -> tuple[Costs, Arrays]:
    """The scores of the validation rows by fits of a peer on other rows."""
    race = _race(data, seed)
    if not race.folds:
        costs, ((scores, _), (of_validation, _)) = _peer(name, race, race.train, [race.eval, race.validation])
        tuned = {"scores": scores, "validation_scores": of_validation}
        return costs, {**tuned, "validation_labels": race.Y[race.validation]}
    parts = []
    for fold in race.folds:
        costs, ((scores, _),) = _peer(name, race, np.setdiff1d(race.rows, fold), [fold])
        parts.append(scores)
    rows = np.concatenate(race.folds)
    return costs, {"validation_scores": np.concatenate(parts), "validation_labels": race.Y[rows]}


def _race(data: ContestSet, seed: int) -> Race:
    return Race.of(Store(data.store), data.features, data.split, None, seed)


def _peer(
    name: str, race: Race, train: RowIndex, row_sets: Sequence[RowIndex]
) -> tuple[Costs, list[tuple[Scores, LabelMatrix]]]:
    """The scores and labels that a peer gives each set of rows; the costs of fitting it and of the first."""
    learn = PEERS[name].fit
    means = np.nanmean(race.X[train], axis=0)

    def vectors(rows: RowIndex) -> Vectors:
        X = race.X[rows]
        return np.where(np.isnan(X), means, X)

    def work() -> Any:
        predict = learn(vectors(train), race.Y[train], race.seed)
        return predict, predict(vectors(row_sets[0]))

    with silenced(1, 2):
        learn(*_few_rows(), race.seed)
        costs, (predict, labelled) = _measured(work)
        return costs, [labelled, *(predict(vectors(rows)) for rows in row_sets[1:])]


def _few_rows() -> tuple[Vectors, LabelMatrix]:
    """Rows to fit before the clock starts, so that libraries are imported and initialised."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((100, 4), np.float32), rng.random((100, 2)) < 0.5


def _measured(work: Callable[[], Result]) -> tuple[Costs, Result]:
    """Seconds, processor seconds and peak megabytes of a call, and what it returns."""
    before = time.process_time()
    (seconds, result), peak = peak_memory_of(lambda: timed(work))
    return {"seconds": seconds, "CPU seconds": time.process_time() - before, "MB": peak / 1e6}, result
