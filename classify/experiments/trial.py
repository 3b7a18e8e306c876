"""A combination of head, features and settings: its run, made once, and what that reaches."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from encode_once.cache import EncodeOnceError, MissingDataError, Store
from encode_once.cache.errors import brief
from encode_once.cache.keys import content_key
from encode_once.classify.arrays import FloatArray
from encode_once.classify.data.groups import CONTENT
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.evaluation import intervals
from encode_once.classify.evaluation.intervals import METRICS
from encode_once.classify.experiments import leaderboard
from encode_once.classify.runs.fit import fit, identity
from encode_once.classify.runs.retune import decide_kept, measured, metrics_of, retune
from encode_once.classify.runs.run import Run, RunError, load_run

Tell = Callable[[str], None]  # is given a line on what was done


@dataclass(frozen=True)
class Combination:
    """What to fit on what."""

    head: str
    features: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join([self.head, *leaderboard.options(self.options), "on", " + ".join(self.features)])


@dataclass(frozen=True)
class Result:
    """What came of a combination; where that failed, `error` says why, and the rest is empty."""

    one: Combination
    run: str  # its folder
    error: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)  # `metrics.json`
    # metric → it on each draw of the held-out rows
    draws: dict[str, FloatArray] = field(default_factory=dict)
    inner: dict[str, Any] = field(default_factory=dict)  # the same of the rows that thresholds were tuned on
    seconds: float | None = None
    rows: str = ""  # a hash of the contents and labels of the held-out rows

    @classmethod
    def of(cls, one: Combination, run: Run) -> "Result":
        """The result of a run."""
        held, predictions = decide_kept(run)
        decision, tuned = run.decision, run.tune
        inner = replace(tuned, scores=decision.probabilities(tuned.scores))
        return cls(
            one,
            str(run.path),
            metrics=metrics_of(run, held, predictions),
            draws=intervals.resampled(held.labels, predictions, held.scores, held.groups),
            inner=measured(decision, inner, run.settings.classes, decision.choose(inner.scores)),
            seconds=run.settings.seconds,
            rows=content_key(held.keys.tobytes() + held.labels.tobytes()).hex(),
        )

    def figures(self) -> dict[str, Any]:
        """Each metric with its interval; then seconds, folder, warnings and error."""
        return with_intervals(self.metrics, self.draws) | {
            "seconds": self.seconds,
            "run": self.run,
            "warnings": self.metrics.get("warnings", []),
            "error": self.error,
        }


def with_intervals(
    values: Mapping[str, Any], draws: Mapping[str, FloatArray], suffix: str = ""
) -> dict[str, Any]:
    """Of each metric its value and interval, as NAME and NAME_interval; None where there is none."""
    found = {}
    for name in METRICS:
        found[f"{name}{suffix}"] = values.get(name)
        found[f"{name}{suffix}_interval"] = (
            intervals.interval(draws[name], values.get(name)) if name in draws else None
        )
    return found


@dataclass(frozen=True)
class Common:
    """What all runs of a sweep have in common.

    Each has a folder whose name ends in a hash of all that decides the outcome. So one that is there and
    whole is not fitted again, and a sweep that was killed goes on where it was.
    """

    store: Store
    folder: Path
    split: str = "stratified:0.1"
    tuning: DecisionSpec = field(default_factory=DecisionSpec)
    tune_on: str = "inner"
    data: str | None = None
    seed: int = 0
    groups: str = CONTENT

    def place(self, one: Combination) -> Path:
        """The folder of a combination's run. Thresholds do not count: they are tuned anew where need be."""
        decides = identity(self.store, one.head, **self._settings(one))
        told = re.sub(r"[^\w.=@]+", "-", str(one))[:80]
        return self.folder / f"{told}-{decides[:12]}"

    def _settings(self, one: Combination) -> dict[str, Any]:
        """What `fit` and `identity` are given."""
        return {
            "features": one.features,
            "split": self.split,
            "groups": self.groups,
            "tune_on": self.tune_on,
            "data": self.data,
            "seed": self.seed,
            "options": one.options,
        }

    def attempt(self, one: Combination) -> Result:
        """Fit a combination, unless its run is there, and measure it."""
        place = self.place(one)
        try:
            return Result.of(one, self._run(one, place))
        except EncodeOnceError as error:
            return Result(one, str(place), str(error))
        except Exception as error:  # of a library, which must not end the other combinations
            return Result(one, str(place), brief(f"{type(error).__name__}: {error}"))

    def _run(self, one: Combination, place: Path) -> Run:
        try:
            run = load_run(place)
        except (MissingDataError, RunError):
            given = self._settings(one)
            run, _ = fit(self.store, one.head, tuning=self.tuning, run=place, **given)
        if run.decision.spec != self.tuning:
            run.save_decision(*retune(run, self.tuning))
        return run
