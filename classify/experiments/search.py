"""Optuna's search over a head's own options (`SPACE` in its class), by what it reaches on the inner rows.

Each trial is a run like any other of a sweep. Optuna's memory is a SQLite file in the sweep's folder; a trial
that was killed is asked for again, as each is drawn with a seed of its own number.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from typing import Any

from encode_once.cache import DataError, UsageError
from encode_once.classify import heads
from encode_once.classify.experiments.trial import Combination, Common, Result, Tell
from encode_once.classify.heads.search_space import Range, Space


def check(names: Sequence[str], split: str) -> None:
    """Tell what stands in the way of a search.

    Raises:
        UsageError: no head says what there is to try, or there are no inner rows to choose on.
        DataError: Optuna is not installed.
    """
    if not any(heads.space_of(name) for name in names):
        able = ", ".join(name for name in heads.HEADS if heads.space_of(name))
        raise UsageError(f"there is nothing to search of {', '.join(names)}; there is of {able}")
    if split.startswith("kfold:"):
        raise UsageError(f"a search cannot choose under {split}, which tunes on the rows it measures")
    _optuna()


def best(common: Common, one: Combination, trials: int, by: str, told: Tell) -> Result:
    """The best of so many settings of a combination; what it sets itself stays so.

    Metrics on the held-out rows have no say in it. A head that has nothing to try is fitted as it is.
    """
    space = {option: there for option, there in heads.space_of(one.head).items() if option not in one.options}
    if not space:
        return common.attempt(one)
    optuna = _optuna()
    with _quiet(optuna):
        return _best(optuna, space, common, one, trials, by, told)


def _best(
    optuna: Any, space: Space, common: Common, one: Combination, trials: int, by: str, told: Tell
) -> Result:
    common.folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=f"sqlite:///{common.folder.resolve() / 'search.sqlite'}",
        study_name=f"{common.place(one).name} {common.tuning} {by}",
        direction="maximize",
        load_if_exists=True,
    )
    ended = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL)
    while (number := len(study.get_trials(states=ended))) < trials:
        study.sampler = optuna.samplers.TPESampler(seed=common.seed + number)
        trial = study.ask()
        options = {option: _suggested(trial, option, there) for option, there in space.items()}
        trial.set_user_attr("options", options)
        result = common.attempt(_with(one, options))
        score = result.inner.get(by)
        outcome = result.error or f"{by} {score or 0:.3f} on the inner rows"
        told(f"trial {number + 1}/{trials} {result.one}: {outcome}")
        study.tell(trial, score, state=ended[score is None])
    done = study.get_trials(states=ended)
    chosen = max(done, key=lambda trial: -1 if trial.value is None else trial.value)
    return common.attempt(_with(one, chosen.user_attrs["options"]))


def _with(one: Combination, options: dict[str, Any]) -> Combination:
    return replace(one, options={**one.options, **options})


def _suggested(trial: Any, option: str, there: Range | Sequence[Any]) -> Any:
    if not isinstance(there, Range):  # Optuna keeps texts, not lists
        return json.loads(trial.suggest_categorical(option, [json.dumps(value) for value in there]))
    whole = isinstance(there.low, int) and isinstance(there.high, int)
    suggest = trial.suggest_int if whole else trial.suggest_float
    return suggest(option, there.low, there.high, log=there.log)


def _optuna() -> Any:
    try:
        optuna = import_module("optuna")
    except ImportError as error:
        raise DataError("--search needs Optuna: pip install 'encode-once[search]'") from error
    return optuna


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Without Optuna's lines about each trial; it also sets the level of alembic's logger."""
    alembic = logging.getLogger("alembic")
    before, level = optuna.logging.get_verbosity(), alembic.level
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
        alembic.setLevel(level)
