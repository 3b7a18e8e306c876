"""A trial: a spec, its run, which is fitted only once, and what the run reaches."""

import json
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from encode_once.cache import EncodeOnceError, Store, Table, UsageError
from encode_once.cache.errors import brief
from encode_once.cache.keys import content_key
from encode_once.cache.representation import short_repr
from encode_once.classify import heads
from encode_once.classify.arrays import FloatArray
from encode_once.classify.data.splits import marked_validation
from encode_once.classify.data.tables import table_to_fit
from encode_once.classify.evaluation.evaluation import measure_rule
from encode_once.classify.evaluation.intervals import in_tables
from encode_once.classify.evaluation.metrics import Metrics
from encode_once.classify.runs.asked import asked
from encode_once.classify.runs.fit import fit
from encode_once.classify.runs.loading import find_run
from encode_once.classify.runs.model_card import model_card
from encode_once.classify.runs.retune import evaluate_kept, retune
from encode_once.classify.runs.run import Run
from encode_once.classify.spec import FitSpec


def option(name: str, value: Any) -> str:
    """An option as `--set` takes it, numbers to four digits."""
    if isinstance(value, float):
        return f"{name}={value:.4g}"
    return f"{name}={value if isinstance(value, str) else json.dumps(value)}"


def title(spec: FitSpec) -> str:
    """What a trial is called: head, options and features, if named, and a seed other than 0."""
    options = map(option, spec.options, spec.options.values())
    seed = [f"seed={spec.seed}"] if spec.seed else []
    features = ["on", " + ".join(spec.features)] if spec.features else []
    return " ".join([spec.head, *options, *seed, *features])


def spec_text(spec: FitSpec) -> str:
    """A spec as JSON, equal for equal specs."""
    return json.dumps(asdict(spec), sort_keys=True)


@dataclass(frozen=True)
class Trial:
    """What the run of a spec reaches; if it failed, `error` says why and the rest is empty."""

    spec: FitSpec
    run: str  # its folder
    error: str | None = None
    is_usage: bool = False  # whether the error is one of usage
    metrics: Metrics | None = None  # of the eval rows
    draws: dict[str, FloatArray] = field(default_factory=dict)  # by metric: its value on each draw
    validation: Metrics | None = None  # of the validation rows
    seconds: float | None = None
    rows: str = ""  # a hash of the contents and labels of the eval rows
    asked: FitSpec | None = None  # the spec as its run records it, see `asked`
    kept: bool = False  # whether the run existed
    elapsed: float = 0.0  # seconds, with all that is not fitting

    __repr__ = short_repr

    @classmethod
    def of(cls, run: Run, spec: FitSpec | None = None, kept: bool = True) -> "Trial":
        """The trial whose run this is; by default its spec is what the run records."""
        evaluation, rule, validation = evaluate_kept(run), run.decision, run.validation
        probabilities = rule.probabilities(validation.scores)
        return cls(
            spec or asked(run),
            str(run.path),
            metrics=evaluation.metrics,
            draws={name: evaluation.own_draws[name] for name in in_tables(evaluation.metrics)},
            validation=measure_rule(
                rule, validation.labels, rule.choose(probabilities), probabilities, run.record.classes
            ),
            seconds=run.record.seconds,
            rows=content_key(evaluation.rows.keys.tobytes() + evaluation.rows.labels.tobytes()).hex(),
            asked=asked(run),
            kept=kept,
        )


@dataclass(frozen=True)
class TrialRunner:
    """Fits specs, each in a folder whose name ends in a hash of all that decides the outcome.

    So a run that exists and is whole is not fitted again, and a sweep that was killed continues where it was.
    """

    store: Store
    folder: Path
    _tables: dict[tuple[str | None, str, str], Table] = field(default_factory=dict, repr=False)
    _identities: dict[str, str] = field(default_factory=dict, repr=False)

    def table(self, spec: FitSpec) -> Table:
        """The table of a spec, which is read once for all trials of the same data and split.

        Raises:
            DataError: the store has none of its data, or several.
        """
        key = (spec.data, spec.split, spec.labels)
        if key not in self._tables:
            self._tables[key] = table_to_fit(self.store, spec.data, spec.split, spec.labels)
        return self._tables[key]

    def identity(self, spec: FitSpec) -> str:
        """`FitSpec.identity`, which hashes the whole table, computed once for each spec."""
        key = spec_text(spec)
        if key not in self._identities:
            self._identities[key] = spec.identity(self.store, self.table(spec))
        return self._identities[key]

    __repr__ = short_repr

    def place(self, spec: FitSpec) -> Path:
        """The folder of a spec's run. It does not depend on the decision rule, which needs no refit."""
        name = re.sub(r"[^\w.=@]+", "-", title(spec))[:80]
        return self.folder / f"{name}-{self.identity(spec)[:12]}"

    def attempt(
        self, spec: FitSpec, place: Path | None = None, others: str = "", *, refit: bool = False
    ) -> Trial:
        """Fit a spec, unless its run exists, and measure it.

        Another decision rule needs no refit.

        Args:
            place: the run's folder; by default one in the runner's.
            others: pattern of folders next to the place; a run of the same identity there is copied.
            refit: fit again a run that exists.
        """
        place = place or self.place(spec)
        copies = sorted(place.parent.glob(others)) if others else []
        try:
            run = None if refit else find_run([place, *copies], self.identity(spec))
            if run is None:
                run, _ = fit(self.store, spec, run=place, overwrite=True, table=self.table(spec))
                return Trial.of(run, spec, kept=False)
            if run.path != place or run.decision.spec != spec.decision:
                is_copy, run = run.path != place, replace(run, path=place)
                results = retune(run, spec.decision)
                (run.save if is_copy else run.save_decision)(*results, model_card(run))
            return Trial.of(run, spec)
        except EncodeOnceError as error:
            return Trial(spec, str(place), str(error), is_usage=isinstance(error, UsageError))
        except Exception as error:  # of a library, which must not end the other trials
            return Trial(spec, str(place), brief(f"{type(error).__name__}: {error}"))

    def is_fixed(self, trial: Trial, redraw: bool) -> bool:
        """Whether another seed would give the same run.

        It draws what most heads learn and, with `redraw`, the split and the validation rows. A head that is
        not `SEEDED` draws rows only if the run has no validation rows for it.
        """
        if trial.asked is None or heads.class_of(trial.spec.head).SEEDED:
            return False
        split, columns = trial.asked.split, self.table(trial.spec).columns
        if redraw:
            return marked_validation(split, columns) is not None
        return trial.asked.validation == "tenth" or split.startswith("kfold:")
