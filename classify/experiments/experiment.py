"""Many runs in one table: heads × options × sets of features × data × splits × seeds."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import combinations, product
from pathlib import Path
from typing import Any

from encode_once.cache import DataError, EncodeOnceError, Store
from encode_once.cache.errors import unknown_name
from encode_once.classify import heads
from encode_once.classify.data import features as featuring
from encode_once.classify.decisions.objectives import Objective
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.evaluation.intervals import METRICS
from encode_once.classify.evaluation.metrics import MetricName, Metrics
from encode_once.classify.experiments import leaderboard, search
from encode_once.classify.experiments.tasks import Task, run_all
from encode_once.classify.experiments.trial import Log, Trial, TrialRunner
from encode_once.classify.runs.run import load_run
from encode_once.classify.spec import FitSpec

Grid = Mapping[str, Sequence[Any]]  # option → values to try, in all combinations
KINDS = ("all", "each", "pairs", "leave-one-out", "subsets")  # of sets of features


@dataclass(frozen=True)
class HeadGrid:
    """A head, values of its options to try, and the sets of features it is fitted on (empty: all of them)."""

    head: str
    grid: Grid = field(default_factory=dict)
    sets: Sequence[str] = ()


@dataclass(frozen=True)
class Experiment:
    """What to fit and compare.

    shared: the fields that all specs have in common.
    heads: each with the options to try.
    sets: name → features, or one of `KINDS`: sets of the features of `shared`.
    instead: feature → what may replace it if the store lacks it, the best first.
    splits, data: values to try for these fields of the spec.
    seeds: of the heads, and with `redraw` of the split and the validation rows, too.
    trials: number of settings of each head that Optuna tries, if the head has options to search.
    by: the metric that ranks; by default the objective's.
    """

    shared: FitSpec
    heads: Sequence[HeadGrid]
    sets: Mapping[str, Sequence[str] | str] = field(default_factory=lambda: {"all": "all"})
    instead: Mapping[str, Sequence[str]] = field(default_factory=dict)
    splits: Sequence[str] = ()
    data: Sequence[str] = ()
    seeds: Sequence[int] = (0,)
    redraw: bool = False
    trials: int = 0
    by: MetricName | None = None

    @property
    def metric(self) -> MetricName:
        """The metric that ranks."""
        return self.by or metric_of(self.shared.decision)

    def check(self) -> None:
        """Raise for an unknown name before anything is fitted.

        Raises:
            UsageError: a head, an option or a set of features is unknown.
        """
        for entry in self.heads:
            options = heads.options_of(entry.head)
            for option in entry.grid:
                if option not in options:
                    raise unknown_name(f"option of head {entry.head!r}", option, options)
            for name in entry.sets:
                if name not in self.sets:
                    raise unknown_name("set of features", name, self.sets)
        for kind in self.sets.values():
            if isinstance(kind, str) and kind not in KINDS:
                raise unknown_name("kind of sets of features", kind, KINDS)
        if self.trials:
            for split in self.splits or [self.shared.split]:
                search.check([entry.head for entry in self.heads], split)

    def rows_of(self) -> Iterator[FitSpec]:
        """The shared spec for each data and split."""
        data: Sequence[str | None] = self.data or [self.shared.data]
        for source, split in product(data, self.splits or [self.shared.split]):
            yield replace(self.shared, data=source, split=split)

    def tasks(self, store: Store, log: Log) -> list[Task]:
        """All that is to be fitted, each once.

        log: called with a line about each feature that is replaced.

        Raises:
            EncodeOnceError: a feature is unknown, or the store has none.
        """
        used = self._replacements(store, log)
        sets = {name: self._features(store, content, used) for name, content in self.sets.items()}
        tasks: dict[str, Task] = {}
        for shared, entry in product(self.rows_of(), self.heads):
            chosen = [features for name in entry.sets or sets for features in sets[name]]
            for features, values in product(chosen, product(*entry.grid.values())):
                options = dict(zip(entry.grid, values, strict=True))
                spec = replace(shared, head=entry.head, features=features, options=options)
                tasks |= {json.dumps([asdict(s) for s in task.specs]): task for task in self._seeded(spec)}
        if not tasks:
            raise DataError(
                f"no set of features is left of the kinds {', '.join(map(str, self.sets.values()))}"
            )
        return [*tasks.values()]

    def _replacements(self, store: Store, log: Log) -> dict[str, str]:
        """Feature that the store lacks → the first that may replace it and that the store has."""
        stored, used = store.features(), {}
        for name, patterns in self.instead.items():
            matches = (other for pattern in patterns for other in stored if fnmatchcase(other, pattern))
            if name not in stored and (other := next(matches, None)):
                used[name] = other
                log(f"{other} replaces {name}, which is not in {store.path}")
        return used

    def _features(
        self, store: Store, content: Sequence[str] | str, used: Mapping[str, str]
    ) -> list[tuple[str, ...]]:
        """The sets of features that a list of names, or a kind, stands for."""
        kind, names = (content, self.shared.features) if isinstance(content, str) else ("all", content)
        sources = featuring.choose(store, [used.get(name, name) for name in names])
        return feature_sets([source.name for source in sources], kind)

    def _seeded(self, spec: FitSpec) -> Iterator[Task]:
        """A spec with each seed: together if the seed may change nothing, so that one fit may be enough."""
        if self.redraw:
            specs = [replace(spec, seed=seed) for seed in self.seeds]
        else:  # 0 is the default, so that a run does not depend on the number of seeds
            specs = [
                replace(spec, options={**spec.options, "seed": s} if s else spec.options) for s in self.seeds
            ]
        together = not heads.class_of(spec.head).SEEDED
        for group in [specs] if together else [[spec] for spec in specs]:
            yield Task(group, redraw=self.redraw, trials=self.trials, by=self.metric)

    def run(self, store: Store, folder: Path, log: Log, jobs: int = 1) -> list[dict[str, Any]]:
        """Fit all specs that have no run yet; return the leaderboard of the folder, which is also in it.

        Raises:
            EncodeOnceError: a name cannot be used. A trial that fails is a row with its error.
        """
        self.check()
        for problem in () if self.shared.features else store.problems():  # with features that may be meant
            log(f"warning: {problem}")
        runner = TrialRunner(store, folder)
        for spec in self.rows_of():
            runner.table(spec)  # raises before anything is fitted
        trials = run_all(runner, self.tasks(store, log), log, jobs)
        rows = ranked([*trials, *earlier(folder, trials, log)], self.metric)
        leaderboard.save(folder, "leaderboard", rows)
        return rows


def feature_sets(names: Sequence[str], kind: str) -> list[tuple[str, ...]]:
    """The sets of features of a kind; small sets first."""
    n = len(names)
    sizes = {"all": [n], "each": [1], "pairs": [2], "leave-one-out": [n - 1], "subsets": range(1, n + 1)}
    return [chosen for size in sizes[kind] if size for chosen in combinations(names, size)]


def metric_of(decision: DecisionSpec) -> MetricName:
    """The metric that a decision rule maximises; micro F1 if that is not one of `METRICS`."""
    sets = decision.decide == "expected-f1"
    objective = "samples_f1" if sets else f"{Objective.of(decision.objective).measure}_f1"
    return next((name for name in METRICS if name == objective), "micro_f1")


def metric_named(name: str) -> MetricName:
    """A metric of `METRICS`.

    Raises:
        UsageError: it is none.
    """
    metric = next((metric for metric in METRICS if metric == name), None)
    if metric is None:
        raise unknown_name("metric", name, METRICS)
    return metric


def earlier(folder: Path, trials: Sequence[Trial], log: Log) -> list[Trial]:
    """The trials of the other runs in a folder, of several with the same spec the last one."""
    own, specs = {Path(trial.run).name for trial in trials}, {trial.asked for trial in trials}
    latest: dict[str, Trial] = {}
    unreadable = replaced = 0
    for file in sorted(folder.glob("*/run.json")):
        if file.parent.name in own:
            continue
        try:
            trial = Trial.of(load_run(file.parent))
        except EncodeOnceError:
            unreadable += 1
            continue
        other = latest.get(trial.asked)
        replaced += trial.asked in specs or other is not None
        if trial.asked not in specs and (other is None or other.created <= trial.created):
            latest[trial.asked] = trial
    for count, why in ((unreadable, "cannot be read"), (replaced, "have the settings of newer ones")):
        if count:
            log(f"{folder}: {count} runs are not in the leaderboard: they {why}")
    return [*latest.values()]


def ranked(trials: Sequence[Trial], by: MetricName) -> list[dict[str, Any]]:
    """The rows of a leaderboard, the best first; trials on the same eval rows are together."""
    eval_rows = [*dict.fromkeys(trial.rows for trial in trials if trial.rows), ""]
    order = sorted(trials, key=lambda t: (eval_rows.index(t.rows), -(value(t.metrics, by) or -1)))
    return [_row(trial, by) for trial in order]


def _row(trial: Trial, by: MetricName) -> dict[str, Any]:
    spec = trial.spec
    settings = dict(spec.options) | ({"seed": spec.seed} if spec.seed else {})
    row = {"head": spec.head, "features": list(spec.features), "settings": settings}
    return row | trial.figures() | {f"inner_{by}": value(trial.validation, by), "eval_rows": trial.rows[:12]}


def value(metrics: Metrics | None, name: MetricName) -> float | None:
    """A metric, if there are metrics."""
    return metrics[name] if metrics else None
