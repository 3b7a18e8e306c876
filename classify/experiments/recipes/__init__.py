"""Recipes: complete systems by name, each a TOML file in this folder.

A recipe is the file of an experiment with one head, one set of features and one split; a file with variants
is several, called `FILE-NAME`, see `toml_file`. A figure under `[reported]` is named as in `metrics.json`.
Reports have further ones, stored as printed: `macro_f1_of_20` averages over that many classes, of which those
that never occur count 0; `weighted_swapped` weights the classes by how often they were predicted; `f1` does
not say what it averages.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from encode_once.cache import DataError, UsageError
from encode_once.cache.errors import unknown_name
from encode_once.cache.terminal import Log
from encode_once.classify.experiments.toml_file import DEFAULTS, ExperimentFile, load_experiments
from encode_once.classify.spec import FitSpec

FOLDER = Path(__file__).parent
ALL = "all"
OCCURRING = 18  # classes of the reports that have a picture: class 12 has none
SWAPPED = "weighted_swapped"
FIGURES = ("micro_f1", "macro_f1", "weighted_f1", "samples_f1", "mAP", SWAPPED, "f1")
MACRO_OF = "macro_f1_of_"  # then the number of classes
OF_EXPERIMENTS = ("store", "folder", "data", "sets", "heads", "seeds", "redraw", "search", "by")


@dataclass(frozen=True)
class Recipe(ExperimentFile):
    """A system of a report: what it did, as this project does it, and the figures it reported."""

    @property
    def file(self) -> str:
        """The name that all its variants share."""
        return Path(self.path).stem

    @property
    def name(self) -> str:
        """The names of its file and its variant."""
        return f"{self.file}-{self.variant}" if self.variant else self.file

    @property
    def spec(self) -> FitSpec:
        """What it asks to fit."""
        return replace(next(self.specs()), head=self.head, options=self.options)

    @property
    def possible_features(self) -> list[str]:
        """Every feature it may use."""
        return [name for feature in self.features for name in (feature, *self.instead.get(feature, ()))]

    @property
    def figures(self) -> dict[str, float]:
        """The reported figures; a macro F1 is converted to the classes that occur."""
        figures = {}
        for name, value in self.reported.items():
            if name.startswith(MACRO_OF):
                figures["macro_f1"] = value * int(name.removeprefix(MACRO_OF)) / OCCURRING
            else:
                figures[name] = value
        return figures

    def check(self) -> None:
        """Raise unless the file is that of one system.

        Raises:
            DataError: it asks for more than one fit, or names no head or features.
            UsageError: a reported figure is unknown.
        """
        for figure in self.reported:
            if figure not in FIGURES and not figure.removeprefix(MACRO_OF).isdecimal():
                raise unknown_name("reported figure", figure, [*FIGURES, f"{MACRO_OF}20"])
        for name in OF_EXPERIMENTS:
            if getattr(self, name) != DEFAULTS[name]:
                raise DataError(f"{name} is not for recipes: experiment run takes such a file")
        if not self.head or not self.features or not isinstance(self.split, str):
            raise DataError("a recipe has features, one head and one split")


def all_recipes() -> list[Recipe]:
    """The recipes that come with this package, report by report, then our own."""
    recipes = [recipe for path in sorted(FOLDER.glob("*.toml")) for recipe in load_experiments(path, Recipe)]
    return sorted(recipes, key=lambda recipe: (recipe.source == "ours", recipe.source))


def find(names: Iterable[str], *, trust: bool = False, log: Log = lambda line: None) -> list[Recipe]:
    """The recipes of these names, each once. A name is a recipe, a file with all its variants, or "all".

    The path of a user's TOML file is a name, too.

    Args:
        trust, log: as for `load_experiments`.

    Raises:
        UsageError: an unknown name; the message has the nearest. Or there is no such file.
        EncodeOnceError: as `load_experiments`.
    """
    recipes = all_recipes()
    chosen: dict[str, Recipe] = {}
    for name in names:
        if name.endswith(".toml"):
            if not Path(name).exists():
                raise UsageError(f"no such file: {name}; `recipe list` names the built-in recipes")
            named = load_experiments(Path(name), Recipe, trust=trust, log=log)
        else:
            named = [recipe for recipe in recipes if name in (ALL, recipe.file, recipe.name)]
        if not named:
            names_of = (name for recipe in recipes for name in (recipe.file, recipe.name))
            raise unknown_name("recipe", name, dict.fromkeys([ALL, *names_of]))
        chosen |= {recipe.name: recipe for recipe in named}
    return list(chosen.values())
