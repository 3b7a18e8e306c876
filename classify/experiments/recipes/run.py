"""Resolve recipes to the features and weights at hand, run them, and compare the results with the reports."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from encode_once.cache import DataError, MissingRowsError, Store, Table, UsageError
from encode_once.classify.data import features as featuring
from encode_once.classify.data.learned import is_learned
from encode_once.classify.data.tables import choose_table
from encode_once.classify.experiments.recipes import SWAPPED, Recipe
from encode_once.classify.experiments.tasks import Task, run_all
from encode_once.classify.experiments.trial import Log, Trial, TrialRunner
from encode_once.classify.runs.retune import measure_kept
from encode_once.classify.runs.run import load_run

# A report's figure that does not say what it averages → the metric that it is compared with.
COMPARED_WITH = {"f1": "micro_f1"}


class FeatureProvider(Protocol):
    """Encodes features that a store lacks: `extract.provider.Provider` for example."""

    def offered(self, pattern: str) -> list[str]:
        """The features it could encode whose names match a pattern such as `onnx:*/scores`."""
        ...

    def lacks(self, feature: str) -> str:
        """Why a feature cannot be encoded; empty if it can."""
        ...

    def make(self, features: Sequence[str]) -> None:
        """Encode the features; `lacks` gives the reason for those that turn out to be impossible."""
        ...


@dataclass(frozen=True)
class ResolvedRecipe:
    """A recipe with the features that it runs on here, or the reason why it cannot run."""

    recipe: Recipe
    used: Mapping[str, str] = field(default_factory=dict)  # feature of the recipe → itself or a replacement
    to_encode: Sequence[str] = ()
    lacks: str = ""  # why it cannot run; the rest is empty then

    @property
    def replaced(self) -> dict[str, str]:
        """Feature of the recipe → its replacement, if it has one."""
        return {
            name: used for name, used in self.used.items() if used != name and not fnmatchcase(used, name)
        }


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
    def table(self) -> Table:
        """The labelled table to learn from.

        Raises:
            DataError: the store has none of the data, or several.
        """
        return choose_table(self.store, self.data)

    @cached_property
    def _table_or_none(self) -> Table | None:
        try:
            return self.table
        except DataError:
            return None

    def resolve(self, recipe: Recipe, table: Table | None) -> ResolvedRecipe:
        """For each feature of a recipe, choose the first that is in the store or can be encoded.

        table: whose rows need the feature; None to look only whether the store has the feature.
        """
        used: dict[str, str] = {}
        to_encode, lacks = [], []
        for feature in recipe.features:
            reasons = []
            for name in self._candidates((feature, *recipe.instead.get(feature, ()))):
                is_stored = self._is_stored(name, table)
                reason = "" if is_stored else self._lacks(name)
                if not reason:
                    used[feature] = name
                    to_encode += [] if is_stored else [name]
                    break
                reasons.append(reason)
            else:
                reasons.append(f"{feature}: none is in {self.store.path}, and no file is given")
                lacks.append(reasons[0])
        if lacks:
            return ResolvedRecipe(recipe, lacks="; ".join(lacks))
        return ResolvedRecipe(recipe, used, to_encode)

    def _candidates(self, names: Iterable[str]) -> Iterable[str]:
        for name in names:
            if "*" not in name:
                yield name
                continue
            yield from (stored for stored in self.store.features() if fnmatchcase(stored, name))
            yield from self.provider.offered(name) if self.provider else ()

    def _is_stored(self, name: str, table: Table | None) -> bool:
        """Whether no row of the table waits for the feature, and at least one row has it."""
        if table is None:
            return is_learned(name) or name in self.store.features()
        if is_learned(name):
            return any(table.captions)
        try:
            return not featuring.find_feature(self.store, name).block(table).missing().all()
        except (UsageError, MissingRowsError):
            return False

    def _lacks(self, name: str) -> str:
        """Why a feature that is not stored cannot be encoded; empty if it can."""
        if is_learned(name):
            return f"{name}: there are no captions"
        return self.provider.lacks(name) if self.provider else f"{name}: not in {self.store.path}"

    def prepare(
        self, recipes: Sequence[Recipe], log: Callable[[Sequence[str]], None] = lambda features: None
    ) -> list[ResolvedRecipe]:
        """Resolve all recipes, after encoding together what they lack and can be encoded.

        log: called with the features before they are encoded.

        Raises:
            DataError: there is no labelled table to learn from.
        """
        table = self.table
        while True:
            resolved = [self.resolve(recipe, table) for recipe in recipes]
            features = list(dict.fromkeys(name for entry in resolved for name in entry.to_encode))
            if not features or self.provider is None:
                return resolved
            log(features)
            self.provider.make(features)

    def listed(self, recipe: Recipe) -> dict[str, Any]:
        """A row of `recipe list`: whether the recipe can run, on what, and what it lacks."""
        resolved = self.resolve(recipe, self._table_or_none)
        return _about(resolved) | {
            "runs": not resolved.lacks,
            "instead": resolved.replaced,
            "to_encode": [*resolved.to_encode],
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
        trials = iter(run_all(TrialRunner(self.store, place), tasks, log))
        return [
            self._row(resolved, split or resolved.recipe.split, None if resolved.lacks else next(trials))
            for resolved in ready
        ]

    def _task(self, resolved: ResolvedRecipe, place: Path, split: str | None, refit: bool) -> Task:
        recipe, split = resolved.recipe, split or resolved.recipe.split
        suffix = "" if split == recipe.split else f"@{split.replace(':', '-')}"
        features = tuple(dict.fromkeys(resolved.used.values()))
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
        differences = [f"{used} for {name}" for name, used in resolved.replaced.items()]
        if split != recipe.split:
            differences.append(f"split {split}, not {recipe.split}")
        if recipe.rows and len(self.table) != recipe.rows:
            differences.append(f"{len(self.table):,} rows, not {recipe.rows:,}")
        return differences


def _about(resolved: ResolvedRecipe) -> dict[str, Any]:
    """What every row says of its recipe."""
    recipe = resolved.recipe
    return {
        "recipe": recipe.name,
        "source": recipe.source,
        "head": recipe.head,
        "features": [*resolved.used.values()] or [*recipe.features],
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
            measured = float(f1_score(predictions, run.eval.labels, average="weighted", zero_division=0))
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
