"""Optuna's search over a head's options (`SPACE` in its class), by a metric of the validation rows.

Each trial is a run in the folder `search` of the sweep's, next to Optuna's state, a SQLite file for each
search; the best is copied to the sweep's runs. A trial that was killed is repeated with the same options,
because each is drawn with a seed that its number decides.
"""

import json
import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib import import_module
from typing import Any

from encode_once.cache import DataError, UsageError
from encode_once.classify import heads
from encode_once.classify.evaluation.metrics import MetricName, to_rank
from encode_once.classify.experiments.trial import Trial, TrialRunner, title
from encode_once.classify.heads.search_space import Range
from encode_once.classify.spec import FitSpec


def check(names: Sequence[str], split: str) -> None:
    """Raise if a search is impossible.

    Raises:
        UsageError: no head has options to search, or there are no validation rows to choose on.
        DataError: Optuna is not installed.
    """
    if not any(heads.class_of(name).SPACE for name in names):
        able = ", ".join(name for name in heads.HEADS if heads.class_of(name).SPACE)
        raise UsageError(f"there is nothing to search of {', '.join(names)}; there is of {able}")
    if split.startswith("kfold:"):
        raise UsageError(f"a search cannot choose under {split}, which tunes on the rows it measures")
    _optuna()


def space(spec: FitSpec) -> dict[str, Range | Sequence[Any]]:
    """The values to try of each option that the spec does not set."""
    values_of = heads.class_of(spec.head).SPACE
    return {name: values for name, values in values_of.items() if name not in spec.options}


def best(runner: TrialRunner, spec: FitSpec, trials: int, by: MetricName) -> Generator[str, None, Trial]:
    """The best of a number of trials, about each of which it yields a line.

    Options that the spec sets are not varied. Metrics on the eval rows do not affect the choice. A head
    without options to search is fitted once.
    """
    if not (values_of := space(spec)):
        return runner.attempt(spec)
    optuna, tried = _optuna(), replace(runner, folder=runner.folder / "search")
    complete, failed = optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL
    tried.folder.mkdir(parents=True, exist_ok=True)
    with _quiet(optuna):
        study = optuna.create_study(
            storage=f"sqlite:///{tried.place(spec).resolve()}.sqlite",
            study_name=f"{json.dumps(asdict(spec.decision), sort_keys=True)} {by}",
            direction="maximize",
            load_if_exists=True,
        )
        while (number := len(study.get_trials(states=(complete, failed)))) < trials:
            study.sampler = optuna.samplers.TPESampler(seed=spec.seed + number)
            asked = study.ask()
            options = {name: _suggested(asked, name, values) for name, values in values_of.items()}
            asked.set_user_attr("options", options)
            trial = tried.attempt(_with(spec, options))
            shown = to_rank(trial.validation, by) if trial.validation else by
            score = trial.validation[shown] if trial.validation else None
            outcome = trial.error or f"{shown} {score or 0:.3f} on the validation rows"
            study.tell(asked, score, state=failed if score is None else complete)
            yield f"trial {number + 1}/{trials} {title(trial.spec)}: {outcome}"
        ended = study.get_trials(states=(complete, failed))
    chosen = max(ended, key=lambda trial: -1 if trial.value is None else trial.value)
    best_spec = _with(spec, chosen.user_attrs["options"])
    return runner.attempt(best_spec, others=f"{tried.folder.name}/{tried.place(best_spec).name}")


def _with(spec: FitSpec, options: dict[str, Any]) -> FitSpec:
    return replace(spec, options={**spec.options, **options})


def _suggested(trial: Any, option: str, values: Range | Sequence[Any]) -> Any:
    if not isinstance(values, Range):  # Optuna keeps texts, not lists
        return json.loads(trial.suggest_categorical(option, [json.dumps(value) for value in values]))
    whole = isinstance(values.low, int) and isinstance(values.high, int)
    suggest = trial.suggest_int if whole else trial.suggest_float
    return suggest(option, values.low, values.high, log=values.log)


def _optuna() -> Any:
    try:
        optuna = import_module("optuna")
    except ImportError as error:
        raise DataError("--search needs Optuna: pip install 'encode-once[search]'") from error
    return optuna


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Without Optuna's lines about each trial. Optuna also changes the level of alembic's logger."""
    alembic = logging.getLogger("alembic")
    before, level = optuna.logging.get_verbosity(), alembic.level
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
        alembic.setLevel(level)
