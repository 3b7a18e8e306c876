"""Recipes run: what each can be fitted on with the features and weights at hand, and the row it adds."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from encode_once.cache import DataError, EncodeOnceError, MissingRowsError, Store, Table, UsageError
from encode_once.classify import fit
from encode_once.classify.data import features as featuring
from encode_once.classify.data import text as corpus
from encode_once.classify.evaluation.metrics import Metrics
from encode_once.classify.experiments.recipes import SWAPPED, Recipe
from encode_once.classify.runs.retune import measure_kept, retune
from encode_once.classify.runs.run import Run, find_run

BESIDE = {"f1": "micro_f1"}  # a figure of which it is not told what it is → what it stands beside


class Supply(Protocol):
    """What can make features that a store lacks; stage 1 can."""

    def offered(self, pattern: str) -> list[str]:
        """The features it could make whose names fit a pattern such as `onnx:*/scores`."""
        ...

    def lacks(self, feature: str) -> str:
        """Why it cannot make that feature; empty where it can."""
        ...

    def make(self, features: Sequence[str]) -> None:
        """Encode them; of what turns out not to be had, `lacks` tells from then on."""
        ...


@dataclass(frozen=True)
class Ready:
    """What a recipe is to be fitted on: for each of its features the one used."""

    recipe: Recipe
    used: Mapping[str, str]  # feature the recipe names → that, or what stands in
    to_make: Sequence[str] = ()
    lacking: str = ""  # what keeps it from running; then the rest is empty

    @property
    def replaced(self) -> dict[str, str]:
        """What stands in for which feature."""
        return {
            asked: used for asked, used in self.used.items() if used != asked and not fnmatchcase(used, asked)
        }


@dataclass(frozen=True)
class Kitchen:
    """Where recipes are run.

    data: whose table to learn from; None for the only one the store knows.
    supply: makes what the store lacks; None where nothing is to be made.
    """

    store: Store
    data: str | None = None
    supply: Supply | None = None

    @cached_property
    def table(self) -> Table:
        """The labelled table to learn from.

        Raises:
            DataError: the store knows none of the data, or several.
        """
        return featuring.choose_table(self.store, self.data)

    @cached_property
    def _table_if_known(self) -> Table | None:
        try:
            return self.table
        except DataError:
            return None

    def ready(self, recipe: Recipe) -> Ready:
        """What the recipe would be fitted on: of each feature the first that is there or can be made."""
        used: dict[str, str] = {}
        to_make, lacking = [], []
        for feature in recipe.features:
            why = ""
            for name in self._candidates((feature, *recipe.instead.get(feature, ()))):
                if self._there(name):
                    break
                reason = self._cannot_be_made(name)
                if not reason:
                    to_make.append(name)
                    break
                why = why or reason
            else:
                lacking.append(why or f"{feature}: none is in {self.store.path}, and no file is given")
                continue
            used[feature] = name
        return Ready(recipe, {}, (), "; ".join(lacking)) if lacking else Ready(recipe, used, to_make)

    def _candidates(self, names: Iterable[str]) -> Iterable[str]:
        for name in names:
            if "*" not in name:
                yield name
                continue
            yield from (one for one in self.store.features() if fnmatchcase(one, name))
            yield from self.supply.offered(name) if self.supply else ()

    def _cannot_be_made(self, name: str) -> str:
        if corpus.is_corpus(name):
            return f"{name}: there are no captions"
        return self.supply.lacks(name) if self.supply else f"{name}: not in {self.store.path}"

    def _there(self, name: str) -> bool:
        """Whether all rows of the table have that feature, as far as they have what it is of."""
        table = self._table_if_known
        if table is None:
            return corpus.is_corpus(name) or name in self.store.features()
        if corpus.is_corpus(name):
            return any(table.captions)
        try:
            return not featuring.find_feature(self.store, name).block(table).missing().all()
        except (UsageError, MissingRowsError):
            return False

    def listed(self, recipe: Recipe) -> dict[str, Any]:
        """A row of `recipe list`: whether it can run, on what, and what it lacks."""
        ready = self.ready(recipe)
        return {
            "recipe": recipe.name,
            "source": recipe.source,
            "head": recipe.head,
            "features": [*ready.used.values()] or [*recipe.features],
            "contaminated": recipe.contaminated,
            "reported": recipe.figures,
            "runs": not ready.lacking,
            "instead": ready.replaced,
            "to_encode": [*ready.to_make],
            "lacks": ready.lacking or None,
        }

    def run(
        self, ready: Ready, place: Path, split: str | None = None, *, refit: bool = False
    ) -> dict[str, Any]:
        """A row: what the recipe reaches, beside what was reported.

        A run of the same settings, features and rows is not fitted again, unless by `refit`.
        place: the folder of all runs of recipes. split: in the place of the recipe's.
        """
        recipe = ready.recipe
        row = self._blank(ready, split or recipe.split)
        if ready.lacking:
            return row | {"lacks": ready.lacking}
        try:
            run, metrics, predictions = self._fitted(ready, place, split or recipe.split, refit)
        except UsageError:
            raise
        except EncodeOnceError as error:
            return row | {"lacks": str(error)}
        return row | {
            "metrics": metrics,
            "compared": _compared(recipe, metrics, run, predictions),
            "seconds": run.record.seconds,
            "run": str(run.path),
        }

    def _blank(self, ready: Ready, split: str) -> dict[str, Any]:
        recipe = ready.recipe
        return {
            "recipe": recipe.name,
            "source": recipe.source,
            "head": recipe.head,
            "features": [*ready.used.values()] or [*recipe.features],
            "split": split,
            "metrics": None,
            "reported": recipe.figures,
            "compared": {},
            "contaminated": recipe.contaminated,
            "seconds": None,
            "run": None,
            "differs": [] if ready.lacking else self._differs(ready, split),
            "lacks": None,
        }

    def _differs(self, ready: Ready, split: str) -> list[str]:
        """In what the row is not of what the report measured, as far as it can be told."""
        recipe = ready.recipe
        told = [f"{used} for {asked}" for asked, used in ready.replaced.items()]
        if split != recipe.split:
            told.append(f"split {split}, not {recipe.split}")
        if recipe.rows and len(self.table) != recipe.rows:
            told.append(f"{len(self.table):,} rows, not {recipe.rows:,}")
        return told

    def _fitted(
        self, ready: Ready, place: Path, split: str, refit: bool
    ) -> tuple[Run, Metrics, NDArray[np.bool_]]:
        """A run of the recipe with its metrics and predictions: the kept one, or one fitted now."""
        recipe = ready.recipe
        mark = "" if split == recipe.split else f"@{split.replace(':', '-')}"
        path = place / f"{recipe.name}{mark}"
        features = tuple(dict.fromkeys(ready.used.values()))
        spec = replace(recipe.spec, features=features, split=split, data=self.data)
        # Variants that differ only in their thresholds share one fit.
        folders = [] if refit else [path, *sorted(place.glob(f"{recipe.file}-*{mark}"))]
        run = find_run(folders, spec.identity(self.store, self.table))
        if run is None:
            run, _ = fit(self.store, spec, run=path, table=self.table)
        elif run.path != path or run.decision.spec != spec.tuning:
            run = replace(run, path=path)
            metrics, predictions = retune(run, spec.tuning)
            run.save(metrics, predictions)
        return run, *measure_kept(run)


def _compared(
    recipe: Recipe, metrics: Mapping[str, Any], run: Run, predictions: NDArray[np.bool_]
) -> dict[str, dict[str, float]]:
    """Figure → reported, measured, and how much more was measured."""
    compared = {}
    for name, reported in recipe.figures.items():
        if name == SWAPPED:  # the report gives predictions and labels in the wrong order
            from sklearn.metrics import f1_score

            measured = float(f1_score(predictions, run.eval.labels, average="weighted", zero_division=0))
        else:
            measured = metrics[BESIDE.get(name, name)]
        compared[name] = {"reported": reported, "measured": measured, "difference": measured - reported}
    return compared


def prepare(
    recipes: Sequence[Recipe], kitchen: Kitchen, told: Callable[[Sequence[str]], None] = lambda _: None
) -> list[Ready]:
    """All recipes ready, what they lack and can be made having been made, for all of them at once.

    Raises:
        DataError: there is no labelled table to learn from.
    """
    _ = kitchen.table  # or else all would be encoded before that is told
    while True:
        ready = [kitchen.ready(recipe) for recipe in recipes]
        wanted = list(dict.fromkeys(name for one in ready for name in one.to_make))
        if not wanted or kitchen.supply is None:
            return ready
        told(wanted)
        kitchen.supply.make(wanted)


def failed(names: Sequence[str], recipes: Sequence[Recipe], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each recipe asked for by name, not as one of all, of which nothing could run."""
    lines = []
    for name in names:
        stem = Path(name).stem if name.endswith(".toml") else name
        mine = [row for one, row in zip(recipes, rows, strict=True) if stem in (one.name, one.file)]
        if mine and all(row["lacks"] for row in mine):
            lines.append(f"recipe {name} cannot run: {mine[0]['lacks']}")
    return lines
