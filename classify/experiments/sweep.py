"""Many runs in one table: heads × sets of features × settings, all measured on the same held-out rows."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any

from encode_once.cache import Store
from encode_once.cache.errors import unknown_name
from encode_once.classify import heads
from encode_once.classify.data import features as featuring
from encode_once.classify.data.groups import CONTENT
from encode_once.classify.decisions.exact import Objective
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.evaluation.intervals import METRICS
from encode_once.classify.experiments import leaderboard, search
from encode_once.classify.experiments.trial import Combination, Common, Result, Tell

Grid = Mapping[str, Mapping[str, Sequence[Any]]]  # head → option → the values to try, each with each


def sweep(
    store: Store | str = "store",
    names: Sequence[str] = ("linear", "mlp"),
    *,
    features: Sequence[str] = (),
    subsets: bool = False,
    grid: Grid | None = None,
    split: str = "stratified:0.1",
    groups: str = CONTENT,
    tuning: DecisionSpec | str = "macro",
    seeds: int = 1,
    trials: int = 0,
    folder: str | Path = "runs/sweep",
    by: str | None = None,
    data: str | None = None,
    told: Tell = lambda line: None,
) -> list[dict[str, Any]]:
    """Fit and measure all combinations that are not there yet; the leaderboard of all, also in the folder.

    Args:
        names: of heads.
        features: by default every one with one vector a row; all together or, with `subsets`, every choice.
        grid: further values of options to try.
        groups: which rows no split parts, a SPEC of `classify.data.groups`.
        seeds: so many seeds of each head, 0, 1, …; the held-out rows stay the same.
        trials: so many settings of each head are tried by Optuna, where the head says what there is to try.
        tuning: how labels follow from scores, or only what thresholds maximise.
        by: the metric that decides the order, of `classify.evaluation.intervals.METRICS`; by default the
            objective's.
        told: is given a line on each result.

    Returns:
        A row each: head, features, settings, each metric with its 95 % interval, seconds, run and error.

    Raises:
        EncodeOnceError: a name cannot be used. What fails in a combination is told in its row.
    """
    grid = grid or {}
    _check(names, grid, split, trials)
    tuning = DecisionSpec(tuning) if isinstance(tuning, str) else tuning
    by = by or metric_of(tuning)
    if by not in METRICS:
        raise unknown_name("metric", by, METRICS)
    store = store if isinstance(store, Store) else Store(store)
    given = [one.name for one in featuring.choose(store, features)]
    common = Common(store, Path(folder), split, tuning, data=data, groups=groups)
    asked = all_combinations(names, feature_sets(given, subsets), grid, seeds)
    results = []
    for number, one in enumerate(asked, start=1):
        result = search.best(common, one, trials, by, told) if trials else common.attempt(one)
        outcome = f"failed: {result.error}" if result.error else f"{by} {result.metrics[by] or 0:.3f}"
        told(f"{number}/{len(asked)} {result.one}: {outcome}")
        results.append(result)
    results.sort(key=lambda result: result.metrics.get(by) or -1, reverse=True)
    rows = [_row(result, by) for result in results]
    leaderboard.save(Path(folder), "leaderboard", rows, results[0].metrics)
    return rows


def metric_of(tuning: DecisionSpec) -> str:
    """The metric that a decision is to do well by; micro F1 where it is none of `METRICS`."""
    sets = tuning.decide == "expected-f1"
    name = "samples_f1" if sets else f"{Objective.of(tuning.objective).measure}_f1"
    return name if name in METRICS else "micro_f1"


def feature_sets(names: Sequence[str], subsets: bool) -> list[tuple[str, ...]]:
    """All names as one set or, small ones first, every set of some of them."""
    sizes: Iterable[int] = range(1, len(names) + 1) if subsets else [len(names)]
    return [chosen for size in sizes for chosen in combinations(names, size)]


def all_combinations(
    names: Sequence[str],
    sets: Sequence[tuple[str, ...]],
    grid: Grid,
    seeds: int,
) -> list[Combination]:
    """Each head with each set of features, each of its settings in the grid, and each seed."""
    made = []
    for head, chosen in product(dict.fromkeys(names), sets):
        values = {**grid.get(head, {}), **({"seed": range(seeds)} if seeds > 1 else {})}
        made += [
            Combination(head, chosen, dict(zip(values, some, strict=True)))
            for some in product(*values.values())
        ]
    return made


def _check(
    names: Sequence[str],
    grid: Grid,
    split: str,
    trials: int,
) -> None:
    """Tell what is wrong with what was asked for before anything is fitted."""
    for name in names:
        known = heads.options_of(name)
        for option in grid.get(name, {}):
            if option not in known:
                raise unknown_name(f"option of head {name!r}", option, known)
    for name in grid:
        if name not in names:
            raise unknown_name("head of a setting", name, names)
    if trials:
        search.check(names, split)


def _row(result: Result, by: str) -> dict[str, Any]:
    one = result.one
    told = {"head": one.head, "features": list(one.features), "settings": dict(one.options)}
    return told | result.figures() | {f"inner_{by}": result.inner.get(by)}
