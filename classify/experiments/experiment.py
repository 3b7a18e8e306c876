"""Many runs in one table: heads × options × sets of features × data × splits × seeds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations, product
from pathlib import Path
from typing import Any, NamedTuple

from encode_once.cache import DataError, Store
from encode_once.cache.errors import unknown_name
from encode_once.cache.terminal import Log
from encode_once.classify import heads
from encode_once.classify.data import features as featuring
from encode_once.classify.data.hierarchy import Hierarchy
from encode_once.classify.data.samples import labels_to_learn
from encode_once.classify.data.splits import repeated_folds
from encode_once.classify.decisions.objectives import Objective
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.evaluation.intervals import METRICS, metric_named
from encode_once.classify.evaluation.metrics import MetricName, Metrics, to_rank
from encode_once.classify.experiments import leaderboard, search
from encode_once.classify.experiments.available import AvailableFeatures
from encode_once.classify.experiments.folder import newest, runs_in, spec_text
from encode_once.classify.experiments.tasks import Task, run_all
from encode_once.classify.experiments.trial import Trial, TrialRunner
from encode_once.classify.runs.asked import asked, hierarchy_of
from encode_once.classify.spec import DECISION_DEFAULTS, FitSpec, decision_from, decision_of

KINDS = ("all", "each", "pairs", "leave-one-out", "subsets")  # of sets of features


class HeadGrid(NamedTuple):
    """A head, values of its options to try, and the sets of features it is fitted on (empty: all of them)."""

    head: str
    grid: Mapping[str, Sequence[Any]]  # option → values, in all combinations
    sets: Sequence[str] = ()

    def check(self) -> None:
        """Raise for an unknown head or option, or one without values."""
        options = heads.options_of(self.head)
        for option, values in self.grid.items():
            if option not in options:
                raise unknown_name(f"option of head {self.head!r}", option, options)
            if not values:
                raise DataError(f"{option} of head {self.head} has no values")


@dataclass(frozen=True)
class Experiment:
    """What to fit and compare. A field that may be a list holds one value, or those to try.

    features: of all sets; by default every pooled one.
    sets: `KINDS`, or name → features or one of `KINDS`: sets of `features`.
    head, options: a single head; or else heads: their names, or name → option → value or values to try. In
        such a table, `head` is the head that a name stands for, and `sets` names the sets it is fitted on.
    instead: feature → what may replace it if the store lacks it, the best first.
    seeds: their number, or a list of them. They are those of the heads and, with `redraw` or repeated folds,
        of the split and the validation rows, too.
    search: number of settings of each head that Optuna tries, if the head has options to search.
    by: the metric that ranks; by default the objective's.
    hierarchy: its pairs, or the path of a CSV file or of a run.
    Other fields are those of `FitSpec` and `DecisionSpec`.
    """

    data: str | list[str] = ""
    labels: str = ""
    features: list[str] = field(default_factory=list)
    sets: list[str] | dict[str, str | list[str]] = field(default_factory=lambda: ["all"])
    instead: dict[str, list[str]] = field(default_factory=dict)
    head: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    heads: list[str] | dict[str, dict[str, Any]] = field(default_factory=dict)
    split: str | list[str] = "stratified:0.1"
    groups: str = "content"
    validation: str = "auto"
    scale: str = "auto"
    tune_on: str = "inner"
    task: str = "multi"
    only_classes: list[str] = field(default_factory=list)
    hierarchy: str | list[list[str]] = ""
    objective: str = "auto"
    decide: str = "auto"
    calibrate: str = "auto"
    shrink: bool = True
    at_least: int = 0
    at_most: int | None = None
    seeds: int | list[int] = 1
    redraw: bool = False
    search: int = 0
    by: str = ""

    @property
    def decision(self) -> DecisionSpec:
        """The decision rule of all runs."""
        return decision_of(
            self.task, decision_from({name: getattr(self, name) for name in DECISION_DEFAULTS})
        )

    @property
    def metric(self) -> MetricName:
        """The metric that ranks."""
        return metric_named(self.by) if self.by else metric_of(self.decision)

    @property
    def named_sets(self) -> Mapping[str, str | list[str]]:
        """The sets of features by name; the name of a kind is its own."""
        return {kind: kind for kind in self.sets} if isinstance(self.sets, list) else self.sets

    @property
    def seed_list(self) -> Sequence[int]:
        """The seeds."""
        return range(self.seeds) if isinstance(self.seeds, int) else self.seeds

    @property
    def grids(self) -> list[HeadGrid]:
        """The heads with what is to be tried of each.

        Raises:
            DataError: none is named, or in two ways.
        """
        if bool(self.head) == bool(self.heads):
            raise DataError("name either a head, with [options], or heads, as [heads.linear]")
        if self.head:
            return [HeadGrid(self.head, {name: [value] for name, value in self.options.items()})]
        if self.options:
            raise DataError("[options] are those of `head`; options of several heads go to [heads.NAME]")
        tables = {name: {} for name in self.heads} if isinstance(self.heads, list) else self.heads
        return [_grid(name, table) for name, table in tables.items()]

    def check(self) -> None:
        """Raise for what is wrong before anything is fitted.

        Raises:
            UsageError: a head, an option, a set of features or the metric is unknown.
            DataError: fields do not go together.
        """
        for entry in self.grids:
            entry.check()
            for name in entry.sets:
                if name not in self.named_sets:
                    raise unknown_name("set of features", name, self.named_sets)
        for kind in self.named_sets.values():
            if isinstance(kind, str) and kind not in KINDS:
                raise unknown_name("kind of sets of features", kind, KINDS)
        if not self.seed_list or min(self.seed_list) < 0:
            raise DataError(f"seeds = {self.seeds}: use a number from 1 on, or a list of numbers from 0 on")
        if self.search < 0 or not self.split:
            raise DataError("search is 0 or the number of settings to try, and split one or more SPECs")
        for spec in self.specs():  # raises for a hierarchy that cannot be read, too
            if self.search:
                search.check([entry.head for entry in self.grids], spec.split)
        assert self.metric  # raises for an unknown one

    def check_store(self, store: Store) -> None:
        """Raise for names that the store does not have, before anything is fitted.

        Raises:
            EncodeOnceError: there is no such table, label, class or feature.
        """
        self._check_labels(TrialRunner(store, Path()))
        self.tasks(store, lambda line: None)

    def _check_labels(self, runner: TrialRunner) -> None:
        for spec in self.specs():
            table = runner.table(spec)
            labels_to_learn(table, spec.only_classes, Hierarchy(spec.hierarchy))

    def specs(self) -> Iterator[FitSpec]:
        """For each data and split, what all runs have in common; head and options are yet to be set."""
        for data, split in product(listed(self.data) or [None], listed(self.split)):
            yield FitSpec(
                features=self.features,
                split=split,
                groups=self.groups,
                decision=self.decision,
                tune_on=self.tune_on,
                validation=self.validation,
                data=data,
                scale=self.scale,
                task=self.task,
                labels=self.labels,
                only_classes=self.only_classes,
                hierarchy=self.pairs,
            )

    @cached_property
    def pairs(self) -> Sequence[Sequence[str]]:
        """Those of the hierarchy, whose file is read once."""
        if isinstance(self.hierarchy, str):
            return hierarchy_of(Path(self.hierarchy)) if self.hierarchy else ()
        return self.hierarchy

    def tasks(self, store: Store, log: Log) -> list[Task]:
        """All that is to be fitted, each once.

        log: called with a line about each feature that is replaced.

        Raises:
            EncodeOnceError: a feature is unknown, or the store has none.
        """
        used = self._used(store, log)
        sets = {name: self._features(store, content, used) for name, content in self.named_sets.items()}
        tasks: dict[str, Task] = {}
        for shared, entry in product(self.specs(), self.grids):
            chosen = [features for name in entry.sets or sets for features in sets[name]]
            for features, values in product(chosen, product(*entry.grid.values())):
                options = dict(zip(entry.grid, values, strict=True))
                spec = replace(shared, head=entry.head, features=features, options=options)
                tasks |= {" ".join(map(spec_text, task.specs)): task for task in self._seeded(spec)}
        if not tasks:
            kinds = ", ".join(map(str, self.named_sets.values()))
            raise DataError(f"no set of features is left of the kinds {kinds}")
        return [*tasks.values()]

    def _used(self, store: Store, log: Log) -> Mapping[str, str]:
        """Name of a feature → the feature of the store that it is, or that replaces it."""
        sets = [content for content in self.named_sets.values() if not isinstance(content, str)]
        names = dict.fromkeys(name for content in [self.features, *sets] for name in content)
        available = AvailableFeatures(store).find([*names], self.instead)
        for name, other in available.replaced.items():
            log(f"{other} replaces {name}, which is not in {store.path}")
        return available.used

    def _features(
        self, store: Store, content: Sequence[str] | str, used: Mapping[str, str]
    ) -> list[tuple[str, ...]]:
        """The sets of features that a list of names, or a kind, stands for."""
        kind, names = (content, self.features) if isinstance(content, str) else ("all", content)
        sources = featuring.choose(store, [used.get(name, name) for name in names])
        return feature_sets([source.name for source in sources], kind)

    def _seeded(self, spec: FitSpec) -> Iterator[Task]:
        """A spec with each seed: together if the seed may change nothing, so that one fit may be enough.

        `kfold:5x2` draws the folds of `kfold:5` twice for each seed.
        """
        split, repeats = repeated_folds(spec.split)
        redraw = self.redraw or repeats > 1
        if redraw:
            draws = (seed * repeats + repeat for seed in self.seed_list for repeat in range(repeats))
            specs = [replace(spec, split=split, seed=draw) for draw in draws]
        else:  # 0 is the default, so that a run does not depend on the number of seeds
            specs = [
                replace(spec, options={**spec.options, "seed": s} if s else spec.options)
                for s in self.seed_list
            ]
        together = not heads.class_of(spec.head).SEEDED
        for group in [specs] if together else [[spec] for spec in specs]:
            yield Task(group, redraw=redraw, trials=self.search, by=self.metric)

    def run(self, store: Store, folder: Path, log: Log, jobs: int = 1) -> list[dict[str, Any]]:
        """Fit all specs that have no run yet; return the leaderboard of the folder, which is also in it.

        Raises:
            EncodeOnceError: a name cannot be used. A trial that fails is a row with its error.
        """
        self.check()
        for problem in () if self.features else store.problems():  # with features that may be meant
            log(f"warning: {problem}")
        runner = TrialRunner(store, folder)
        self._check_labels(runner)
        trials = run_all(runner, self.tasks(store, log), log, jobs)
        if any(trial.metrics and to_rank(trial.metrics, self.metric) != self.metric for trial in trials):
            log(f"{self.metric} does not apply to the labels of some runs: these are ranked by micro_f1")
        rows = ranked([*trials, *earlier(folder, trials, log)], self.metric)
        leaderboard.save(folder, "leaderboard", rows)
        return rows


def _grid(name: str, table: Mapping[str, Any]) -> HeadGrid:
    """`head` and `sets` of a head's table are no options."""
    grid = {option: listed(value) for option, value in table.items() if option not in ("head", "sets")}
    return HeadGrid(table.get("head", name), grid, listed(table.get("sets", [])))


def listed(value: Any) -> list[Any]:
    """The values of a field that may be one value or a list of them."""
    return value if isinstance(value, list) else [value] if value != "" else []


def feature_sets(names: Sequence[str], kind: str) -> list[tuple[str, ...]]:
    """The sets of features of a kind; small sets first."""
    n = len(names)
    sizes = {"all": [n], "each": [1], "pairs": [2], "leave-one-out": [n - 1], "subsets": range(1, n + 1)}
    return [chosen for size in sizes[kind] if size for chosen in combinations(names, size)]


def metric_of(decision: DecisionSpec) -> MetricName:
    """The metric that a decision rule maximises; micro F1 if that is not one of `METRICS`."""
    by_thresholds = f"{Objective.of(decision.objective).measure}_f1"
    objective = {"expected-f1": "samples_f1", "argmax": "micro_f1"}.get(decision.decide, by_thresholds)
    return next((name for name in METRICS if name == objective), "micro_f1")


def earlier(folder: Path, trials: Sequence[Trial], log: Log) -> list[Trial]:
    """The trials of the other runs in a folder, of several with the same spec the newest one."""
    runs, errors = runs_in(folder, without=[Path(trial.run).name for trial in trials])
    specs = {trial.asked for trial in trials}
    kept = [run for run in newest(runs) if spec_text(asked(run)) not in specs]
    left_out = {"cannot be read": len(errors), "have the settings of newer ones": len(runs) - len(kept)}
    for why, count in left_out.items():
        if count:
            log(f"{folder}: {count} runs are not in the leaderboard: they {why}")
    return [Trial.of(run) for run in kept]


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
    """A metric, or what ranks in its place, if there are metrics."""
    return metrics[to_rank(metrics, name)] if metrics else None
