"""An experiment from Python, and from the options of the command `sweep`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from inspect import signature
from pathlib import Path
from typing import Any

from encode_once.cache import Store
from encode_once.cache.errors import unknown_name
from encode_once.cache.terminal import Log
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.experiments.experiment import Experiment
from encode_once.classify.spec import BY_TASK, DECISION_DEFAULTS

OWN = {"features", "sets", "heads", "head", "options", "data", "seeds", "search", "by", *DECISION_DEFAULTS}
FIELDS = [field.name for field in fields(Experiment) if field.name not in OWN]  # the other arguments of sweep


def sweep(
    store: Store | str = "store",
    names: Sequence[str] = ("linear", "mlp"),
    *,
    subsets: bool = False,
    grid: Mapping[str, Mapping[str, Sequence[Any]]] | None = None,
    seeds: int = 1,
    trials: int = 0,
    folder: str | Path = "runs/sweep",
    by: str | None = None,
    jobs: int = 1,
    log: Log = lambda line: None,
    features: Sequence[str] = (),
    data: str | Path | None = None,
    decision: DecisionSpec | str = BY_TASK,
    **shared: Any,
) -> list[dict[str, Any]]:
    """Fit and measure all specs that have no run yet; return the leaderboard, which is also in the folder.

    Args:
        names: of heads.
        subsets: fit on every subset of the features, rather than on all together.
        grid: head → option → values to try.
        seeds: number of seeds of each head: 0, 1, …; the eval rows stay the same. A head that gives the same
            with every seed is fitted once.
        trials: number of settings of each head that Optuna tries, if the head has options to search.
        by: the metric that ranks, of `classify.evaluation.intervals.RANKING`; by default the objective's.
        jobs: number of processes, among which the cores are divided.
        log: called with a line about each result, and each feature that the store has lost.
        features, data, decision: of the `FitSpec` that all runs share.
        shared: others of `Experiment`, such as split, task, only_classes and hierarchy.

    Returns:
        A row for each run of the folder: head, features, settings, each metric with its 95 % interval,
        seconds, run and error.

    Raises:
        EncodeOnceError: a name cannot be used. A trial that fails is a row with its error.
    """
    for name in shared:
        if name not in FIELDS:
            raise unknown_name("argument of sweep", name, [*FIELDS, *signature(sweep).parameters])
    grid = grid or {}
    for name in grid:
        if name not in names:
            raise unknown_name("head of a setting", name, names)
    tables = {name: {option: [*values] for option, values in grid.get(name, {}).items()} for name in names}
    rule = DecisionSpec(decision) if isinstance(decision, str) else decision
    experiment = Experiment(
        features=[*features],
        sets=["subsets" if subsets else "all"],
        heads=tables,
        data=str(data or ""),
        seeds=seeds,
        search=trials,
        by=by or "",
        **({} if rule is BY_TASK else asdict(rule)),
        **shared,
    )
    return experiment.run(store if isinstance(store, Store) else Store(store), Path(folder), log, jobs)
