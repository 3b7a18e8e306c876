"""Resolve recipes to the features and weights at hand, run them, and compare the results with the reports."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from encode_once.cache import DataError, EncodeOnceError, MissingRowsError, Store, Table, UsageError
from encode_once.classify import fit
from encode_once.classify.arrays import LabelMatrix
from encode_once.classify.data import features as featuring
from encode_once.classify.data.learned import is_learned
from encode_once.classify.data.tables import choose_table
from encode_once.classify.evaluation.metrics import Metrics
from encode_once.classify.experiments.recipes import SWAPPED, Recipe
from encode_once.classify.runs.model_card import model_card
from encode_once.classify.runs.retune import measure_kept, retune
from encode_once.classify.runs.run import Run, find_run

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
        self, resolved: ResolvedRecipe, place: Path, split: str | None = None, *, refit: bool = False
    ) -> dict[str, Any]:
        """Fit a recipe, unless an existing run has the same identity; return its row, next to the report's.

        Args:
            place: the folder of all runs of recipes.
            split: replaces the recipe's.
            refit: fit again in any case.
        """
        recipe, split = resolved.recipe, split or resolved.recipe.split
        row = _about(resolved) | {
            "split": split,
            "metrics": None,
            "compared": {},
            "seconds": None,
            "run": None,
            "differs": [] if resolved.lacks else self._differs(resolved, split),
        }
        if resolved.lacks:
            return row
        try:
            run, metrics, predictions = self._fitted(resolved, place, split, refit)
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

    def _differs(self, resolved: ResolvedRecipe, split: str) -> list[str]:
        """How the row differs from what the report measured, as far as is known."""
        recipe = resolved.recipe
        differences = [f"{used} for {name}" for name, used in resolved.replaced.items()]
        if split != recipe.split:
            differences.append(f"split {split}, not {recipe.split}")
        if recipe.rows and len(self.table) != recipe.rows:
            differences.append(f"{len(self.table):,} rows, not {recipe.rows:,}")
        return differences

    def _fitted(
        self, resolved: ResolvedRecipe, place: Path, split: str, refit: bool
    ) -> tuple[Run, Metrics, LabelMatrix]:
        """The recipe's run, an existing one or a new one, with its metrics and predictions."""
        recipe = resolved.recipe
        suffix = "" if split == recipe.split else f"@{split.replace(':', '-')}"
        path = place / f"{recipe.name}{suffix}"
        features = tuple(dict.fromkeys(resolved.used.values()))
        spec = replace(recipe.spec, features=features, split=split, data=self.data)
        # Variants that differ only in their thresholds share one fit.
        folders = [] if refit else [path, *sorted(place.glob(f"{recipe.file}-*{suffix}"))]
        run = find_run(folders, spec.identity(self.store, self.table))
        if run is None:
            run, _ = fit(self.store, spec, run=path, overwrite=True, table=self.table)
        elif run.path != path or run.decision.spec != spec.decision:
            run = replace(run, path=path)
            metrics, predictions = retune(run, spec.decision)
            run.save(metrics, predictions, model_card(run))
            return run, metrics, predictions
        return run, *measure_kept(run)


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


def _compared(
    recipe: Recipe, metrics: Mapping[str, Any], run: Run, predictions: LabelMatrix
) -> dict[str, dict[str, float]]:
    """Figure → reported, measured, and the difference."""
    compared = {}
    for name, reported in recipe.figures.items():
        if name == SWAPPED:  # the report passes predictions and labels in the wrong order
            from sklearn.metrics import f1_score

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
