"""Which runs are the same system, what it is called, and on which eval sets it was measured."""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from encode_once.cache import DataError
from encode_once.cache.keys import content_key
from encode_once.cache.terminal import short_list
from encode_once.classify import heads
from encode_once.classify.evaluation.evaluation import Evaluation
from encode_once.classify.experiments.leaderboard import TECHNICAL, newest, runs_in
from encode_once.classify.experiments.trial import spec_text, title
from encode_once.classify.partial import is_partial, positives, unknown_entries
from encode_once.classify.runs.asked import asked
from encode_once.classify.runs.loading import load_run
from encode_once.classify.runs.retune import evaluate_kept
from encode_once.classify.runs.run import Run
from encode_once.classify.spec import FitSpec

# Named only where systems of one name differ. Seeds are drawn, and each data set has a table of its own.
SETTINGS = [field.name for field in fields(FitSpec) if field.name not in ("seed", "data")]


@dataclass(frozen=True)
class EvalSet:
    """A run's evaluation on rows of which none was fitted on: its eval rows, or one fold of them.

    key: a hash of the rows and their labels.
    ratio: eval rows per row that was fitted on.
    """

    run: str
    fold: int | None
    key: str
    evaluation: Evaluation
    ratio: float


@dataclass(frozen=True)
class SystemRuns:
    """The runs of one system: equal in all but the seed and what it draws."""

    spec: FitSpec  # without seed and technical options
    runs: Sequence[Run]

    @cached_property
    def evaluations(self) -> list[Evaluation]:
        """Of each run, on its eval rows."""
        return [evaluate_kept(run) for run in self.runs]

    @cached_property
    def eval_sets(self) -> list[EvalSet]:
        """Of all runs; each fold of a cross-validation is one."""
        return [
            eval_set
            for run, evaluation in zip(self.runs, self.evaluations, strict=True)
            for eval_set in _eval_sets(run, evaluation)
        ]


def _eval_sets(run: Run, evaluation: Evaluation) -> Iterable[EvalSet]:
    folds, n = evaluation.rows.folds, len(evaluation.rows.ids)
    if folds is None:
        yield EvalSet(str(run.path), None, _key(evaluation), evaluation, n / max(len(run.fitted_on), 1))
        return
    for fold in range(int(folds.max()) + 1):
        rows = np.flatnonzero(folds == fold)
        part = evaluation.subset(rows, evaluation.classes)
        yield EvalSet(str(run.path), fold, _key(part), part, len(rows) / max(n - len(rows), 1))


def _key(evaluation: Evaluation) -> str:
    """A hash of rows and labels that depends neither on their order nor on that of the classes."""
    columns = np.argsort(np.array(evaluation.classes))
    labels = evaluation.rows.labels[:, columns]
    tables = [positives(labels), *([unknown_entries(labels)] if is_partial(labels) else [])]
    packed = np.packbits(np.hstack(tables), axis=1)
    rows = sorted(
        key.tobytes() + row.tobytes() for key, row in zip(evaluation.rows.keys, packed, strict=True)
    )
    return content_key(b"".join(rows)).hex()


def find_runs(paths: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """The runs at these paths, or in these folders of runs, each once; and a line about those left out.

    Raises:
        EncodeOnceError: a path is neither a run nor a folder of some, or a run that is named cannot be read.
    """
    runs, notes = dict[Path, Run](), list[str]()
    for path in paths:
        inside, unreadable = ([], []) if (path / "run.json").exists() else runs_in(path)
        if unreadable:
            notes.append(f"{path}: {len(unreadable)} runs cannot be read and are left out ({unreadable[0]})")
        for run in inside if inside or unreadable else [load_run(path)]:
            runs[run.path.resolve()] = run
    return [*runs.values()], notes


def group(runs: Sequence[Run]) -> tuple[list[SystemRuns], list[str]]:
    """The systems of runs, in the order of their first ones; and a line about older runs that are left out.

    Of several runs with the same seed and settings, the newest counts.
    """
    groups: dict[str, list[Run]] = {}
    kept = newest(runs)
    for run in kept:
        groups.setdefault(spec_text(_seedless(run)), []).append(run)
    older = len(runs) - len(kept)
    notes = [f"{older} runs are left out, as newer ones have the same settings and seed"] if older else []
    return [SystemRuns(_seedless(first[0]), first) for first in groups.values()], notes


def _seedless(run: Run) -> FitSpec:
    """What runs of the same system have in common: neither seeds nor options at their defaults."""
    spec = asked(run)
    defaults = json.loads(json.dumps(heads.defaults_of(spec.head), default=str))
    options = {
        name: value
        for name, value in spec.options.items()
        if name not in TECHNICAL and value != defaults.get(name)
    }
    return replace(spec, options=options, seed=0)


def labels(systems: Sequence[SystemRuns], *, features: bool = True) -> list[str]:
    """What each system is called: head, options and features, and the settings in which it differs.

    features: whether they are a part of the name.
    """
    titles = [title(system.spec if features else replace(system.spec, features=())) for system in systems]
    names = []
    for system, name in zip(systems, titles, strict=True):
        alike = [other.spec for other, same in zip(systems, titles, strict=True) if same == name]
        settings = ", ".join(
            f"{field} {_shown(field, system.spec, alike)}"
            for field in SETTINGS
            if len({_content(field, spec) for spec in alike}) > 1
        )
        names.append(f"{name} ({settings})" if settings else name)
    assert len({*names}) == len(names), f"systems that differ have one name: {names}"
    return names


def _shown(field: str, spec: FitSpec, alike: Sequence[FitSpec]) -> str:
    """A field of a spec as text; with a part of its hash if the text of another spec is the same."""
    text = _text(getattr(spec, field))
    content = _content(field, spec)
    if all(_content(field, other) == content for other in alike if _text(getattr(other, field)) == text):
        return text
    return f"{text} [{content_key(content.encode()).hex()[:6]}]"


def _text(value: Any) -> str:
    """The value of a field; of many classes, or pairs of a hierarchy, only the first."""
    if not isinstance(value, tuple):
        return str(value) or "default"
    return short_list([item if isinstance(item, str) else "→".join(item) for item in value], 3) or "none"


def _content(field: str, spec: FitSpec) -> str:
    """The value of a field as JSON, equal for equal values."""
    return json.dumps(asdict(spec)[field], sort_keys=True)


def are_named_by_features(data_sets: Collection[Sequence[SystemRuns]]) -> bool:
    """Whether features are a part of names: unless each data set has its own, the same for all its systems.

    Without them, a head has the same name on all data sets.
    """
    sets = [{tuple(system.spec.features) for system in systems} for systems in data_sets]
    return any(len(of_data) > 1 for of_data in sets) or len(set.union(*sets)) < len(sets) or len(sets) == 1


def by_data(systems: Sequence[SystemRuns]) -> dict[str, list[SystemRuns]]:
    """The systems of each data set, by its table.

    Raises:
        DataError: there are no runs.
    """
    if not systems:
        raise DataError("there are no runs to compare: name runs, or folders of runs")
    tables: dict[str, list[SystemRuns]] = {}
    for system in systems:
        tables.setdefault(str(system.spec.data), []).append(system)
    return tables
