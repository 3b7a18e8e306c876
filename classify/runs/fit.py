"""Stage 2: features of a store → a run. Rows held out for evaluation are never fitted, chosen or tuned on."""

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encode_once.cache import Keys, Store, Table, content_key
from encode_once.cache.errors import unknown_name
from encode_once.classify import heads
from encode_once.classify.data import features as featuring
from encode_once.classify.data import splits
from encode_once.classify.data.blocks import Matrix
from encode_once.classify.data.features import FeatureSource, StoredFeature
from encode_once.classify.data.groups import CONTENT, Grouping
from encode_once.classify.data.matrix import RowView
from encode_once.classify.data.rows import content_keys, image_and_caption_keys
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.heads.checks import check_scores
from encode_once.classify.runs.retune import TUNE_ON, decide, measure_kept
from encode_once.classify.runs.run import Model, Run, ScoredRows, Settings, Source, check_place

INNER = 0.1  # of the training rows: to stop, choose and tune on


def fit(
    store: Store | str | os.PathLike[str] = "store",
    head: str = "mlp",
    *,
    features: Sequence[str] = (),
    split: str = "stratified:0.1",
    groups: str = CONTENT,
    tuning: DecisionSpec | str = "macro",
    tune_on: str = "inner",
    run: str | os.PathLike[str] | None = None,
    data: str | os.PathLike[str] | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> tuple[Run, dict[str, Any]]:
    """Fit a head on cached features, tune its thresholds, measure it on held-out rows, and keep it as a run.

    Args:
        store: where the features are.
        head: its name; `classify.heads` knows them.
        features: their names; by default every feature with one vector a row. `clip-vit-l/text@coca-b32` is
            that of the captions which coca-b32 wrote, `@table+coca-b32` of both joined.
        split: which rows are held out, a SPEC of `classify.data.splits`.
        groups: which rows no split parts, a SPEC of `classify.data.groups`.
        tuning: how labels follow from scores, or only what thresholds maximise, as `--tune` has it.
        tune_on: "inner" rows of the training part or, as some reports do, the "eval" rows themselves.
        run: the folder to write; by default `runs/HEAD`, or the first free of `runs/HEAD-2`, …
        data: the data folder whose table to learn, where the store knows several.
        seed: of the split, the inner part and the head.
        options: of the head.

    Returns:
        The run, and its metrics on the held-out rows.

    Raises:
        EncodeOnceError: a name, the store or the table cannot be used.
    """
    store = store if isinstance(store, Store) else Store(store)
    tuning = DecisionSpec(tuning) if isinstance(tuning, str) else tuning
    if tune_on not in TUNE_ON:
        raise unknown_name("--tune-on", tune_on, TUNE_ON)
    path = Path(run) if run is not None else _free_place(head)
    check_place(path)
    options = {"seed": seed, **{name: _as_json(value) for name, value in (options or {}).items()}}
    heads.make(head, **options)  # a wrong name or option is told before anything is read

    started = time.perf_counter()  # by now the head's libraries are imported
    found = featuring.samples(store, features, data)
    table, chosen = found.table, found.references
    keys = content_keys(table)
    grouping = Grouping.parse(groups, store, table)
    identified = _identity(table, chosen, head, options, split, grouping, tune_on, seed)
    if "classes" in heads.options_of(head):
        options = {"classes": found.classes, **options}
    together = grouping.of(table, str(options.get("device", "auto")))
    learner = Learner(head, options, found.X, found.Y, table.ids, keys, seed, together, found.classes)
    held = splits.folds(split, found.Y, table.columns, seed, together)
    if len(held) == 1:
        rows = np.setdiff1d(np.arange(len(table)), held[0])
        fitted = learner.fit(rows)
        tune, evaluated, doubts = fitted.tune, learner.scored(fitted, held[0]), fitted.warnings
    else:
        rows = np.arange(len(table))
        evaluated, doubts = learner.out_of_fold(held)
        tune, fitted = evaluated, learner.fit(rows)
        doubts += fitted.warnings
    settings = Settings(
        head=head,
        options=options,
        features={one.name: _remembered(one, fitted.X.shapes[one.name][0]) for one in chosen},
        captioners={
            one.written.encoder: Source.of(one.written)
            for one in chosen
            if isinstance(one, StoredFeature) and one.written
        },
        classes=found.classes,
        split=split,
        tuning=tuning,
        tune_on=tune_on,
        seed=seed,
        store=str(store.path.resolve()),
        table=table.source,
        id_column=table.id_column,
        label_separator=table.label_separator,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.perf_counter() - started, 3),
        warnings=[*found.X.warnings, *doubts, *grouping.warnings(split, held[0], together)],
        identity=identified,
        code=code_key(),
        groups=groups,
    )
    made = Run(
        path,
        settings,
        fitted.model,
        tune,
        evaluated,
        keys[np.union1d(rows, held[0]) if tune_on == "eval" else rows],
        decide(tuning, tune, evaluated, tune_on),
    )
    metrics, predictions = measure_kept(made)
    made.save(metrics, predictions)
    return made, metrics


def identity(
    store: Store,
    head: str,
    *,
    features: Sequence[str] = (),
    split: str = "stratified:0.1",
    groups: str = CONTENT,
    tune_on: str = "inner",
    data: str | os.PathLike[str] | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> str:
    """A hash of all that decides the scores of what `fit` would fit, this program's code included.

    A run of the same identity need not be fitted again. Thresholds do not count, and an option left at its
    default is the same as one set to it.
    """
    given = {name: _as_json(value) for name, value in (options or {}).items()}
    table, chosen = featuring.choose_table(store, data), featuring.choose(store, features)
    options = {"seed": seed, **given}
    grouping = Grouping.parse(groups, store, table)
    return _identity(table, chosen, head, options, split, grouping, tune_on, seed)


@cache
def code_key() -> str:
    """A hash of the source of `classify`, so that runs of different code are not taken for the same.

    Not the version: it stays the same between releases, when results change too. A refit takes seconds.
    """
    root, digest = Path(__file__).parents[1], hashlib.blake2b(digest_size=16)
    for path in sorted(root.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _identity(
    table: Table,
    chosen: Sequence[FeatureSource],
    head: str,
    options: Mapping[str, Any],
    split: str,
    grouping: Grouping,
    tune_on: str,
    seed: int,
) -> str:
    features = [
        (
            one.name,
            isinstance(one, StoredFeature) and [made.key for made in (one.feature, one.written) if made],
        )
        for one in chosen
    ]
    decides = [
        head, {**heads.defaults_of(head), **options}, features, split, grouping.decides, tune_on, seed,
        table.ids, table.labels, table.columns, code_key(),
    ]  # fmt: skip
    settings = json.dumps(decides, sort_keys=True).encode()
    return content_key(settings + image_and_caption_keys(table).tobytes()).hex()


def _remembered(one: FeatureSource, length: int) -> Source | None:
    """What a run remembers of a feature whose sequences it takes at that length; nothing of one it learns."""
    return Source.of(one.feature, one.captions, length) if isinstance(one, StoredFeature) else None


def _as_json(value: Any) -> Any:
    """An option as run.json can hold it, where it is an array or a path."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.tolist() if isinstance(value, np.ndarray) else value


def _free_place(head: str) -> Path:
    """`runs/HEAD`, or the first free of `runs/HEAD-2`, `runs/HEAD-3`, …"""
    places = (Path("runs") / (head if number == 1 else f"{head}-{number}") for number in count(1))
    return next(place for place in places if not place.exists())


@dataclass(frozen=True)
class Fitted:
    """A model, the matrix as it takes it, its scores of the rows it was stopped on, and warnings about it."""

    model: Model
    X: Matrix
    tune: ScoredRows
    warnings: list[str]


@dataclass(frozen=True)
class Learner:
    """A kind of head and the samples to fit it on."""

    head: str
    options: Mapping[str, Any]
    X: Matrix  # (n, d)
    Y: NDArray[np.bool_]  # (n, c)
    ids: list[str]
    keys: Keys  # (n, 16), see `rows.content_keys`
    seed: int
    groups: NDArray[np.intp] | None = None  # (n,): rows of equal number are fitted on or tuned on together
    classes: Sequence[str] | None = None  # (c,) names for warnings; by default their numbers

    def fit(self, rows: NDArray[np.intp]) -> Fitted:
        """A model of those rows, some of which it is stopped and tuned on rather than fitted.

        Raises DataError where its scores of those are not finite; see `check_scores` for the warnings.
        """
        fit_rows, tune_rows = splits.inner(self.Y, rows, INNER, self.seed, self.groups)
        X = self.X.fitted(fit_rows)
        head = heads.make(self.head, **heads.with_shapes(self.head, self.options, X.shapes))
        X_fit, X_tune = RowView(X, fit_rows), RowView(X, tune_rows)
        if heads.takes_raw(head):
            mean, scale = np.zeros(X.shape[1], np.float32), np.ones(X.shape[1], np.float32)
        else:
            mean, scale = featuring.standardisation(X_fit, [*X.shapes.values()])
        model = Model(mean, scale, head, X.vectorisers)
        head.fit(model.standardise(X_fit), self.Y[fit_rows], model.standardise(X_tune), self.Y[tune_rows])
        tune = self._scored(model, X, tune_rows)
        classes = self.classes or [str(number) for number in range(self.Y.shape[1])]
        warnings = check_scores(self.head, classes, tune.scores, tune.labels, self.Y[fit_rows])
        return Fitted(model, X, tune, warnings)

    def scored(self, fitted: Fitted, rows: NDArray[np.intp]) -> ScoredRows:
        """A model's scores of those rows beside their labels."""
        return self._scored(fitted.model, fitted.X, rows)

    def _scored(self, model: Model, X: Matrix, rows: NDArray[np.intp]) -> ScoredRows:
        scores = model.scores(RowView(X, rows))
        groups = None if self.groups is None else self.groups[rows]
        ids, missing = [self.ids[row] for row in rows], self.X.missing()[rows]
        return ScoredRows(ids, scores, self.Y[rows], missing=missing, groups=groups, keys=self.keys[rows])

    def out_of_fold(self, held: Sequence[NDArray[np.intp]]) -> tuple[ScoredRows, list[str]]:
        """Every row scored by a model that has not seen its fold; and the warnings about these models."""
        warnings: list[str] = []
        scores = np.empty(self.Y.shape, np.float32)
        folds = np.empty(len(self.Y), np.intp)
        for number, rows in enumerate(held):
            fitted = self.fit(np.setdiff1d(np.arange(len(self.Y)), rows))
            scores[rows] = self.scored(fitted, rows).scores
            folds[rows] = number
            warnings += [f"fold {number + 1} of {len(held)}: {line}" for line in fitted.warnings]
        missing = self.X.missing()
        return ScoredRows(self.ids, scores, self.Y, folds, missing, self.groups, keys=self.keys), warnings
