"""Many runs in one table: heads × options × sets of features × data × splits × seeds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import combinations, product
from pathlib import Path
from typing import Any, NamedTuple

from encode_once.cache import DataError, Store
from encode_once.cache.errors import unknown_name
from encode_once.cache.format.files import typed
from encode_once.cache.terminal import Log
from encode_once.classify import heads
from encode_once.classify.data import features as featuring
from encode_once.classify.data.hierarchy import Hierarchy
from encode_once.classify.data.samples import labels_to_learn
from encode_once.classify.data.splits import repeated_folds
from encode_once.classify.decisions.objectives import Objective
from encode_once.classify.decisions.rule import SETS, DecisionSpec
from encode_once.classify.evaluation.intervals import METRICS, metric_named
from encode_once.classify.evaluation.metrics import MetricName
from encode_once.classify.experiments import search
from encode_once.classify.experiments.available import AvailableFeatures
from encode_once.classify.experiments.leaderboard import Row, fit_all
from encode_once.classify.experiments.tasks import Task
from encode_once.classify.experiments.trial import TrialRunner
from encode_once.classify.runs.asked import hierarchy_of
from encode_once.classify.spec import DECISION_DEFAULTS, FitSpec, decision_from, decision_of

KINDS = ("all", "each", "pairs", "leave-one-out", "subsets")  # of sets of features


@dataclass(frozen=True)
class HeadEntries:
    """The entries of a table `[heads.NAME]` that are not options of the head."""

    head: str
    sets: str | list[str]


class HeadGrid(NamedTuple):
    """A head, values of its options to try, and the sets of features it is fitted on (empty: all of them)."""

    head: str
    grid: Mapping[str, Sequence[Any]]  # option → values, in all combinations
    sets: Sequence[str] = ()

    @classmethod
    def of(cls, name: str, table: Mapping[str, Any]) -> "HeadGrid":
        """What a table `[heads.NAME]` asks for.

        Raises:
            DataError: `head` is not a name, or `sets` not one or several.
        """
        entries = {"head": name, "sets": [], **table}
        try:
            own = typed(HeadEntries, {entry: entries.pop(entry) for entry in ("head", "sets")})
        except ValueError as error:
            raise DataError(f"[heads.{name}]: {error}, which is not a value of that field") from error
        return cls(own.head, {option: listed(values) for option, values in entries.items()}, listed(own.sets))

    @property
    def options(self) -> Iterator[dict[str, Any]]:
        """All combinations of values."""
        return (dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values()))

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
    by: the metric that ranks; by default `metric_of` the decision rule.
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
    def named_sets(self) -> dict[str, tuple[str, Sequence[str]]]:
        """The sets of features: name → kind, and the features to choose from; a kind has its own name."""
        sets = {kind: kind for kind in self.sets} if isinstance(self.sets, list) else self.sets
        return {
            name: (content, self.features) if isinstance(content, str) else ("all", content)
            for name, content in sets.items()
        }

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
        return [HeadGrid.of(name, table) for name, table in tables.items()]

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
        for kind, _ in self.named_sets.values():
            if kind not in KINDS:
                raise unknown_name("kind of sets of features", kind, KINDS)
        if not self.seed_list or min(self.seed_list) < 0:
            raise DataError(f"seeds = {self.seeds}: use a number from 1 on, or a list of numbers from 0 on")
        if self.search < 0 or not self.split:
            raise DataError("search is 0 or the number of settings to try, and split one or more SPECs")
        for spec in self.specs():  # raises for a hierarchy that cannot be read, too
            if self.search:
                search.check([entry.head for entry in self.grids], spec.split)
        assert self.metric  # raises for an unknown one

    def specs(self) -> Iterator[FitSpec]:
        """For each data and split, what all runs have in common; head and options are yet to be set."""
        names = [field.name for field in fields(FitSpec) if field.name not in ("head", "options", "seed")]
        shared = {name: getattr(self, name) for name in names} | {"hierarchy": self.pairs}
        for data, split in product(listed(self.data) or [None], listed(self.split)):
            yield FitSpec(**shared | {"data": data, "split": split})

    @cached_property
    def pairs(self) -> Sequence[Sequence[str]]:
        """Those of the hierarchy, whose file is read once."""
        if isinstance(self.hierarchy, str):
            return hierarchy_of(Path(self.hierarchy)) if self.hierarchy else ()
        return self.hierarchy

    def tasks(self, runner: TrialRunner, log: Log) -> list[Task]:
        """All that is to be fitted.

        log: called with a line about each feature that is replaced, or that the store has lost.

        Raises:
            EncodeOnceError: the store has no such table, label, class or feature.
        """
        for problem in () if self.features else runner.store.problems():  # with features that may be meant
            log(f"warning: {problem}")
        for spec in self.specs():
            labels_to_learn(runner.table(spec), spec.only_classes, Hierarchy(spec.hierarchy))
        sets = self._feature_sets(runner.store, log)
        tasks: list[Task] = []
        for shared, entry in product(self.specs(), self.grids):
            chosen = [features for name in entry.sets or sets for features in sets[name]]
            for features, options in product(chosen, entry.options):
                spec = replace(shared, head=entry.head, features=features, options=options)
                tasks += self._seeded(spec)
        if not tasks:
            kinds = ", ".join(dict.fromkeys(kind for kind, _ in self.named_sets.values()))
            raise DataError(f"no set of features is left of the kinds {kinds}")
        return tasks

    def _feature_sets(self, store: Store, log: Log) -> dict[str, list[tuple[str, ...]]]:
        """The sets of features by the names of `named_sets`; what replaces a feature is in its place."""
        names = dict.fromkeys(name for _, of_kind in self.named_sets.values() for name in of_kind)
        available = AvailableFeatures(store).find([*names], self.instead)
        for name, other in available.replaced.items():
            log(f"{other} replaces {name}, which is not in {store.location}")
        sets = {}
        for name, (kind, of_kind) in self.named_sets.items():
            sources = featuring.choose(store, [available.used.get(feature, feature) for feature in of_kind])
            sets[name] = feature_sets([source.name for source in sources], kind)
        return sets

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

    def run(self, store: Store, folder: Path, log: Log, jobs: int = 1) -> list[Row]:
        """Fit all specs that have no run yet, see `fit_all`.

        Raises:
            EncodeOnceError: a name cannot be used. A trial that fails is a row with its error.
        """
        self.check()
        runner = TrialRunner(store, folder)
        return fit_all(runner, self.tasks(runner, log), log, jobs)


def listed(value: Any) -> list[Any]:
    """The values of a field that may be one value or a list of them."""
    return value if isinstance(value, list) else [value] if value != "" else []


def feature_sets(names: Sequence[str], kind: str) -> list[tuple[str, ...]]:
    """The sets of features of a kind; small sets first."""
    n = len(names)
    sizes = {"all": [n], "each": [1], "pairs": [2], "leave-one-out": [n - 1], "subsets": range(1, n + 1)}
    return [chosen for size in sizes[kind] if size for chosen in combinations(names, size)]


def metric_of(decision: DecisionSpec) -> MetricName:
    """The metric that a decision rule maximises; micro F1 if that is not one of `METRICS`.

    Of the three averages that expected-mean maximises together, samples F1, as of the other label sets.
    """
    if decision.decide in SETS:
        return "samples_f1"
    objective = f"{Objective.of(decision.objective).measure}_f1" if decision.decide == "thresholds" else ""
    return next((name for name in METRICS if name == objective), "micro_f1")
