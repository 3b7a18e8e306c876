"""An experiment from Python, and from the options of the command `sweep`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from encode_once.cache import Store
from encode_once.cache.errors import unknown_name
from encode_once.classify.experiments.experiment import Experiment, Grid, HeadGrid, metric_named
from encode_once.classify.experiments.trial import Log
from encode_once.classify.spec import FitSpec


def sweep(
    store: Store | str = "store",
    names: Sequence[str] = ("linear", "mlp"),
    *,
    subsets: bool = False,
    grid: Mapping[str, Grid] | None = None,
    seeds: int = 1,
    trials: int = 0,
    folder: str | Path = "runs/sweep",
    by: str | None = None,
    jobs: int = 1,
    log: Log = lambda line: None,
    **fields: Any,
) -> list[dict[str, Any]]:
    """Fit and measure all specs that have no run yet; return the leaderboard, which is also in the folder.

    Args:
        names: of heads.
        subsets: fit on every subset of the features, rather than on all together.
        grid: head → option → values to try.
        seeds: number of seeds of each head: 0, 1, …; the eval rows stay the same. A head that gives the same
            with every seed is fitted once.
        trials: number of settings of each head that Optuna tries, if the head has options to search.
        by: the metric that ranks, of `classify.evaluation.intervals.METRICS`; by default the objective's.
        jobs: number of processes, among which the cores are divided.
        log: called with a line about each result, and each feature that the store has lost.
        fields: of the `FitSpec` that all runs share: features, split, groups, decision, validation, scale,
            data.

    Returns:
        A row for each run of the folder: head, features, settings, each metric with its 95 % interval,
        seconds, run and error.

    Raises:
        EncodeOnceError: a name cannot be used. A trial that fails is a row with its error.
    """
    grid = grid or {}
    for name in grid:
        if name not in names:
            raise unknown_name("head of a setting", name, names)
    experiment = Experiment(
        FitSpec(**fields),
        [HeadGrid(name, grid.get(name, {})) for name in dict.fromkeys(names)],
        {"": "subsets" if subsets else "all"},
        seeds=range(seeds),
        trials=trials,
        by=metric_named(by) if by else None,
    )
    return experiment.run(store if isinstance(store, Store) else Store(store), Path(folder), log, jobs)
