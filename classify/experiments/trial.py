"""A trial: a spec, its run, which is fitted only once, and what the run reaches."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from encode_once.cache import EncodeOnceError, Store, Table
from encode_once.cache.errors import brief
from encode_once.cache.keys import content_key
from encode_once.cache.representation import short_repr
from encode_once.classify.arrays import FloatArray
from encode_once.classify.evaluation import intervals
from encode_once.classify.evaluation.evaluation import measure_rule
from encode_once.classify.evaluation.intervals import METRICS
from encode_once.classify.evaluation.metrics import Metrics
from encode_once.classify.evaluation.tables import about
from encode_once.classify.experiments import leaderboard
from encode_once.classify.runs.fit import fit
from encode_once.classify.runs.model_card import model_card
from encode_once.classify.runs.retune import evaluate_kept, retune
from encode_once.classify.runs.run import Run, find_run
from encode_once.classify.spec import FitSpec

Log = Callable[[str], None]


@dataclass(frozen=True)
class Trial:
    """What the run of a spec reaches; if it failed, `error` says why and the rest is empty."""

    spec: FitSpec
    run: str  # its folder
    error: str | None = None
    metrics: Metrics | None = None  # of the eval rows
    draws: dict[str, FloatArray] = field(default_factory=dict)  # by metric: its value on each draw
    validation: Metrics | None = None  # of the validation rows
    seconds: float | None = None
    rows: str = ""  # a hash of the contents and labels of the eval rows

    __repr__ = short_repr

    @classmethod
    def of(cls, spec: FitSpec, run: Run) -> "Trial":
        """The trial whose run this is."""
        evaluation, rule, validation = evaluate_kept(run), run.decision, run.validation
        probabilities = rule.probabilities(validation.scores)
        predictions = rule.choose(probabilities)
        return cls(
            spec,
            str(run.path),
            metrics=evaluation.metrics,
            draws=evaluation.draws(),
            validation=measure_rule(rule, validation.labels, predictions, probabilities, run.record.classes),
            seconds=run.record.seconds,
            rows=content_key(evaluation.rows.keys.tobytes() + evaluation.rows.labels.tobytes()).hex(),
        )

    def figures(self) -> dict[str, Any]:
        """Each metric with its interval; then seconds, the rows measured on, folder, warnings and error."""
        return with_intervals(self.metrics or {}, self.draws) | {
            "seconds": self.seconds,
            "measured": about(self.metrics) if self.metrics else None,
            "run": self.run,
            "warnings": self.metrics["warnings"] if self.metrics else [],
            "error": self.error,
        }


def with_intervals(
    values: Mapping[str, Any], draws: Mapping[str, FloatArray], suffix: str = ""
) -> dict[str, Any]:
    """Each metric's value and interval, as NAME and NAME_interval; None if there is none."""
    figures = {}
    for name in METRICS:
        figures[f"{name}{suffix}"] = values.get(name)
        figures[f"{name}{suffix}_interval"] = (
            intervals.interval(draws[name], values.get(name)) if name in draws else None
        )
    return figures


@dataclass(frozen=True)
class TrialRunner:
    """Fits specs on one table, each in a folder whose name ends in a hash of all that decides the outcome.

    So a run that exists and is whole is not fitted again, and a sweep that was killed continues where it was.
    """

    store: Store
    folder: Path
    table: Table

    __repr__ = short_repr

    def place(self, spec: FitSpec) -> Path:
        """The folder of a spec's run. It does not depend on the decision rule, which needs no refit."""
        title = re.sub(r"[^\w.=@]+", "-", leaderboard.title(spec))[:80]
        return self.folder / f"{title}-{spec.identity(self.store, self.table)[:12]}"

    def attempt(self, spec: FitSpec) -> Trial:
        """Fit a spec, unless its run exists, and measure it."""
        place = self.place(spec)
        try:
            return Trial.of(spec, self._run(spec, place))
        except EncodeOnceError as error:
            return Trial(spec, str(place), str(error))
        except Exception as error:  # of a library, which must not end the other trials
            return Trial(spec, str(place), brief(f"{type(error).__name__}: {error}"))

    def _run(self, spec: FitSpec, place: Path) -> Run:
        run = find_run([place]) or fit(self.store, spec, run=place, overwrite=True, table=self.table)[0]
        if run.decision.spec != spec.decision:
            results = retune(run, spec.decision)
            run.save_decision(*results, model_card(run))
        return run
