"""Many runs in one table: heads × sets of features × options, all measured on the same eval rows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from typing import Any

from encode_once.cache import Store
from encode_once.cache.errors import unknown_name
from encode_once.classify import heads
from encode_once.classify.data import features as featuring
from encode_once.classify.data.tables import choose_table
from encode_once.classify.decisions.objectives import Objective
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.evaluation.intervals import METRICS
from encode_once.classify.evaluation.metrics import MetricName, Metrics
from encode_once.classify.experiments import leaderboard, search
from encode_once.classify.experiments.trial import Log, Trial, TrialRunner
from encode_once.classify.spec import FitSpec

Grid = Mapping[str, Mapping[str, Sequence[Any]]]  # head → option → values to try, in all combinations


def sweep(
    store: Store | str = "store",
    names: Sequence[str] = ("linear", "mlp"),
    *,
    subsets: bool = False,
    grid: Grid | None = None,
    seeds: int = 1,
    trials: int = 0,
    folder: str | Path = "runs/sweep",
    by: str | None = None,
    log: Log = lambda line: None,
    **fields: Any,
) -> list[dict[str, Any]]:
    """Fit and measure all specs that have no run yet; return the leaderboard, which is also in the folder.

    Args:
        names: of heads.
        subsets: fit on every subset of the features, rather than on all together.
        grid: values of options to try.
        seeds: number of seeds of each head: 0, 1, …; the eval rows stay the same.
        trials: number of settings of each head that Optuna tries, if the head has options to search.
        by: the metric that ranks, of `classify.evaluation.intervals.METRICS`; by default the objective's.
        log: called with a line about each result, and each feature that the store has lost.
        fields: of the `FitSpec` that all runs share: features, split, groups, decision, validation, scale,
            data.

    Returns:
        A row for each: head, features, settings, each metric with its 95 % interval, seconds, run and error.

    Raises:
        EncodeOnceError: a name cannot be used. A trial that fails is a row with its error.
    """
    grid = grid or {}
    shared = FitSpec(**fields)
    _check(names, grid, shared.split, trials)
    metric = next((name for name in METRICS if name == by), None) if by else metric_of(shared.decision)
    if metric is None:
        raise unknown_name("metric", str(by), METRICS)
    store = store if isinstance(store, Store) else Store(store)
    features = [reference.name for reference in featuring.choose(store, shared.features)]
    for problem in () if shared.features else store.problems():  # with features that may be meant, too
        log(f"warning: {problem}")
    runner = TrialRunner(store, Path(folder), choose_table(store, shared.data, shared.split))
    specs = all_specs(shared, names, feature_sets(features, subsets), grid, seeds)
    results = []
    for number, spec in enumerate(specs, start=1):
        trial = search.best(runner, spec, trials, metric, log) if trials else runner.attempt(spec)
        outcome = (
            f"failed: {trial.error}" if trial.error else f"{metric} {_value(trial.metrics, metric) or 0:.3f}"
        )
        log(f"{number}/{len(specs)} {leaderboard.title(trial.spec)}: {outcome}")
        results.append(trial)
    results.sort(key=lambda trial: _value(trial.metrics, metric) or -1, reverse=True)
    rows = [_row(trial, metric) for trial in results]
    leaderboard.save(Path(folder), "leaderboard", rows)
    return rows


def metric_of(decision: DecisionSpec) -> MetricName:
    """The metric that a decision rule maximises; micro F1 if that is not one of `METRICS`."""
    sets = decision.decide == "expected-f1"
    objective = "samples_f1" if sets else f"{Objective.of(decision.objective).measure}_f1"
    return next((name for name in METRICS if name == objective), "micro_f1")


def _value(metrics: Metrics | None, name: MetricName) -> float | None:
    return metrics[name] if metrics else None


def feature_sets(names: Sequence[str], subsets: bool) -> list[tuple[str, ...]]:
    """All names as one set or, with `subsets`, every set of them, small sets first."""
    sizes: Iterable[int] = range(1, len(names) + 1) if subsets else [len(names)]
    return [chosen for size in sizes for chosen in combinations(names, size)]


def all_specs(
    shared: FitSpec, names: Sequence[str], sets: Sequence[tuple[str, ...]], grid: Grid, seeds: int
) -> list[FitSpec]:
    """Each head with each set of features, each combination of its options in the grid, and each seed."""
    specs = []
    for head, features in product(dict.fromkeys(names), sets):
        values = {**grid.get(head, {}), **({"seed": range(seeds)} if seeds > 1 else {})}
        for combination in product(*values.values()):
            options = dict(zip(values, combination, strict=True))
            specs.append(replace(shared, head=head, features=features, options=options))
    return specs


def _check(names: Sequence[str], grid: Grid, split: str, trials: int) -> None:
    """Raise for an unknown name before anything is fitted."""
    for name in names:
        options = heads.options_of(name)
        for option in grid.get(name, {}):
            if option not in options:
                raise unknown_name(f"option of head {name!r}", option, options)
    for name in grid:
        if name not in names:
            raise unknown_name("head of a setting", name, names)
    if trials:
        search.check(names, split)


def _row(trial: Trial, by: MetricName) -> dict[str, Any]:
    spec = trial.spec
    row = {"head": spec.head, "features": list(spec.features), "settings": dict(spec.options)}
    return row | trial.figures() | {f"inner_{by}": _value(trial.validation, by)}
