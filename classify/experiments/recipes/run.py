"""Resolve recipes to the features and weights at hand, run them, and compare the results with the reports."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from encode_once.cache import DataError, Store, Table, UsageError
from encode_once.cache.terminal import Log
from encode_once.classify.experiments.available import Available, AvailableFeatures, FeatureProvider
from encode_once.classify.experiments.recipes import SWAPPED, Recipe
from encode_once.classify.experiments.tasks import Task, run_all
from encode_once.classify.experiments.trial import Trial, TrialRunner
from encode_once.classify.partial import without_unknown
from encode_once.classify.runs.loading import load_run
from encode_once.classify.runs.retune import measure_kept
from encode_once.classify.spec import FitSpec

# A report's figure that does not say what it averages → the metric that it is compared with.
COMPARED_WITH = {"f1": "micro_f1"}


class ResolvedRecipe(NamedTuple):
    """A recipe and what its features are here."""

    recipe: Recipe
    features: Available

    @property
    def lacks(self) -> str:
        """Why it cannot run; empty if it can."""
        return "; ".join(self.features.lacks.values())


@dataclass(frozen=True)
class RecipeRunner:
    """Runs recipes on a store.

    data: the data whose table to learn from, if the store has several.
    provider: encodes what the store lacks; None if nothing can be encoded.
    """

    store: Store
    data: str | None = None
    provider: FeatureProvider | None = None

    @cached_property
    def _trials(self) -> TrialRunner:
        return TrialRunner(self.store, Path())

    def table(self, recipe: Recipe) -> Table:
        """The labelled table that a recipe learns from.

        Raises:
            DataError: the store has none of the data, or several.
        """
        return self._trials.table(FitSpec(data=self.data, labels=recipe.labels))

    def resolve(self, recipe: Recipe, table: Table | None) -> ResolvedRecipe:
        """A recipe with what its features are here, see `AvailableFeatures`; nothing if it cannot run."""
        features = AvailableFeatures(self.store, table, self.provider).find(recipe.features, recipe.instead)
        return ResolvedRecipe(recipe, Available(lacks=features.lacks) if features.lacks else features)

    def prepare(
        self, recipes: Sequence[Recipe], log: Callable[[Sequence[str]], None] = lambda features: None
    ) -> list[ResolvedRecipe]:
        """Resolve all recipes, after encoding together what they lack and can be encoded.

        log: called with the features before they are encoded.

        Raises:
            DataError: there is no labelled table to learn from.
        """
        while True:
            resolved = [self.resolve(recipe, self.table(recipe)) for recipe in recipes]
            features = list(dict.fromkeys(name for entry in resolved for name in entry.features.to_encode))
            if not features or self.provider is None:
                return resolved
            log(features)
            self.provider.make(features)

    def listed(self, recipe: Recipe) -> dict[str, Any]:
        """A row of `recipe list`: whether the recipe can run, on what, and what it lacks."""
        table = None
        with suppress(DataError):
            table = self.table(recipe)
        resolved = self.resolve(recipe, table)
        return _about(resolved) | {
            "runs": not resolved.lacks,
            "instead": resolved.features.replaced,
            "to_encode": [*resolved.features.to_encode],
        }

    def run(
        self,
        ready: Sequence[ResolvedRecipe],
        place: Path,
        split: str | None = None,
        *,
        refit: bool = False,
        log: Log = lambda line: None,
    ) -> list[dict[str, Any]]:
        """Fit recipes, unless a run has the same identity; return a row for each, next to the report's.

        Args:
            place: the folder of all runs of recipes.
            split: replaces the recipes'.
            refit: fit again in any case.
            log: called with a line about each recipe.

        Raises:
            UsageError: the split or an option of a recipe is unknown.
        """
        tasks = [self._task(resolved, place, split, refit) for resolved in ready if not resolved.lacks]
        trials = iter(run_all(replace(self._trials, folder=place), tasks, log))
        return [
            self._row(resolved, split or resolved.recipe.spec.split, None if resolved.lacks else next(trials))
            for resolved in ready
        ]

    def _task(self, resolved: ResolvedRecipe, place: Path, split: str | None, refit: bool) -> Task:
        recipe, own_split = resolved.recipe, resolved.recipe.spec.split
        split = split or own_split
        suffix = "" if split == own_split else f"@{split.replace(':', '-')}"
        features = tuple(dict.fromkeys(resolved.features.used.values()))
        return Task(
            [replace(recipe.spec, features=features, split=split, data=self.data)],
            recipe.name,
            place=place / f"{recipe.name}{suffix}",
            others=f"{recipe.file}-*{suffix}",  # variants that differ only in their thresholds share one fit
            refit=refit,
        )

    def _row(self, resolved: ResolvedRecipe, split: str, trial: Trial | None) -> dict[str, Any]:
        if trial and trial.is_usage:
            raise UsageError(trial.error)
        metrics = trial and trial.metrics
        return _about(resolved) | {
            "split": split,
            "metrics": metrics,
            "compared": _compared(resolved.recipe, metrics, trial.run) if trial and metrics else {},
            "seconds": trial and trial.seconds,
            "run": trial.run if trial and metrics else None,
            "differs": [] if resolved.lacks else self._differs(resolved, split),
            "lacks": (trial.error if trial else resolved.lacks) or None,
        }

    def _differs(self, resolved: ResolvedRecipe, split: str) -> list[str]:
        """How the row differs from what the report measured, as far as is known."""
        recipe = resolved.recipe
        differences = [f"{used} for {name}" for name, used in resolved.features.replaced.items()]
        if split != recipe.spec.split:
            differences.append(f"split {split}, not {recipe.spec.split}")
        if recipe.rows and (rows := len(self.table(recipe))) != recipe.rows:
            differences.append(f"{rows:,} rows, not {recipe.rows:,}")
        return differences


def _about(resolved: ResolvedRecipe) -> dict[str, Any]:
    """What every row says of its recipe."""
    recipe = resolved.recipe
    return {
        "recipe": recipe.name,
        "source": recipe.source,
        "head": recipe.head,
        "features": [*resolved.features.used.values()] or [*recipe.features],
        "contaminated": recipe.contaminated,
        "reported": recipe.figures,
        "lacks": resolved.lacks or None,
    }


def _compared(recipe: Recipe, metrics: Mapping[str, Any], path: str) -> dict[str, dict[str, float]]:
    """Figure → reported, measured, and the difference."""
    compared = {}
    for name, reported in recipe.figures.items():
        if name == SWAPPED:  # the report passes predictions and labels in the wrong order
            from sklearn.metrics import f1_score

            run = load_run(path)
            _, predictions = measure_kept(run)
            labels, predictions = without_unknown(run.eval.labels, predictions)
            measured = float(f1_score(predictions, labels, average="weighted", zero_division=0))
        else:
            measured = metrics[COMPARED_WITH.get(name, name)]
        compared[name] = {"reported": reported, "measured": measured, "difference": measured - reported}
    return compared


def failed(names: Sequence[str], recipes: Sequence[Recipe], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each recipe requested by name, not as one of all, of which nothing could run."""
    lines = []
    for name in names:
        stem = Path(name).stem if name.endswith(".toml") else name
        requested = [
            row for recipe, row in zip(recipes, rows, strict=True) if stem in (recipe.name, recipe.file)
        ]
        if requested and all(row["lacks"] for row in requested):
            lines.append(f"recipe {name} cannot run: {requested[0]['lacks']}")
    return lines
