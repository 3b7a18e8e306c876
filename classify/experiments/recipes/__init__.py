"""Recipes: complete systems by name, each a TOML file in this folder.

A file has the fields of `Recipe`; `[options]` are those of its head. A variant is called `FILE-NAME`, see
`toml_file`.

A figure under `[reported]` is named as in `metrics.json`. Reports have further ones, stored as printed:
`macro_f1_of_20` averages over that many classes, of which those that never occur count 0; `weighted_swapped`
weights the classes by how often they were predicted; `f1` does not say what it averages.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from encode_once.cache import DataError
from encode_once.cache.errors import unknown_name
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.experiments.toml_file import read
from encode_once.classify.spec import FitSpec

FOLDER = Path(__file__).parent
ALL = "all"
OCCURRING = 18  # classes of the reports that have a picture: class 12 has none
SWAPPED = "weighted_swapped"
FIGURES = ("micro_f1", "macro_f1", "weighted_f1", "samples_f1", "mAP", SWAPPED, "f1")
MACRO_OF = "macro_f1_of_"  # then the number of classes


@dataclass(frozen=True)
class Recipe:
    """A system of a report: what it did, as this project does it, and the figures it reported.

    path: its file, whose name is shared by its variants.
    source: the report and the place in it, or "ours".
    features: as `fit --features` takes them; `onnx:*/scores` is that of any available network.
    instead: what may replace a feature that is not available, the best first.
    rows: number of labelled rows on which the reported figures were measured.
    contaminated: whether a network of the recipe was trained on the same pictures with their labels.
    """

    name: str
    path: Path
    source: str
    about: str
    features: Sequence[str]
    head: str
    split: str
    objective: str
    decide: str = "thresholds"
    tune_on: str = "inner"
    options: Mapping[str, Any] = field(default_factory=dict)
    instead: Mapping[str, Sequence[str]] = field(default_factory=dict)
    reported: Mapping[str, float] = field(default_factory=dict)
    rows: int | None = None
    contaminated: bool = False
    notes: str = ""

    @property
    def file(self) -> str:
        """The name that all its variants share."""
        return self.path.stem

    @property
    def spec(self) -> FitSpec:
        """What it asks to fit."""
        decision = DecisionSpec(self.objective, decide=self.decide)
        return FitSpec(
            self.head, self.features, self.options, self.split, decision=decision, tune_on=self.tune_on
        )

    @property
    def possible_features(self) -> list[str]:
        """Every feature it may use."""
        return [name for feature in self.features for name in (feature, *self.instead.get(feature, ()))]

    @property
    def figures(self) -> dict[str, float]:
        """The reported figures; a macro F1 is converted to the classes that occur."""
        return dict(_comparable(name, value) for name, value in self.reported.items())


FIELDS = [entry.name for entry in fields(Recipe) if entry.name not in ("name", "path")]


def _comparable(name: str, value: float) -> tuple[str, float]:
    if not name.startswith(MACRO_OF):
        return name, value
    return "macro_f1", value * int(name.removeprefix(MACRO_OF)) / OCCURRING


def all_recipes() -> list[Recipe]:
    """The recipes that come with this package, report by report, then our own."""
    recipes = [recipe for path in sorted(FOLDER.glob("*.toml")) for recipe in load(path)]
    return sorted(recipes, key=lambda recipe: (recipe.source == "ours", recipe.source))


def find(names: Iterable[str]) -> list[Recipe]:
    """The recipes of these names, each once. A name is a recipe, a file with all its variants, or "all".

    The path of a user's TOML file is a name, too.

    Raises:
        UsageError: an unknown name; the message has the nearest.
    """
    recipes = all_recipes()
    chosen: dict[str, Recipe] = {}
    for name in names:
        if name.endswith(".toml"):
            named = load(Path(name))
        else:
            named = [recipe for recipe in recipes if name in (ALL, recipe.file, recipe.name)]
        if not named:
            names_of = (name for recipe in recipes for name in (recipe.file, recipe.name))
            raise unknown_name("recipe", name, dict.fromkeys([ALL, *names_of]))
        chosen |= {recipe.name: recipe for recipe in named}
    return list(chosen.values())


def text_of(recipes: Iterable[Recipe]) -> str:
    """The files of recipes."""
    paths = dict.fromkeys(recipe.path for recipe in recipes)
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def load(path: Path) -> list[Recipe]:
    """The recipes of a file.

    Raises:
        DataError: the file is not TOML, or a field is missing.
        UsageError: a field or a reported figure is unknown.
    """
    recipes = []
    for name, content in read(path, FIELDS):
        for figure in content.get("reported", {}):
            if figure not in FIGURES and not figure.removeprefix(MACRO_OF).isdecimal():
                raise unknown_name(f"figure of {path}", figure, [*FIGURES, f"{MACRO_OF}20"])
        try:
            recipes.append(Recipe("-".join(filter(None, [path.stem, name])), path, **content))
        except TypeError as error:
            raise DataError(f"{path}: {error}") from error
    return recipes
