"""Recipes: whole systems by name, each a TOML file here: features, head, split, thresholds, reported figures.

A file has the fields of `Recipe`; `[options]` are those of its head. Each table `[variants.NAME]` says what
differs in a recipe called `FILE-NAME`; then the file is these, and none without. Options are put together.

A figure under `[reported]` is named as in `metrics.json`. Reports have others, which are written as printed:
`macro_f1_of_20` averages so many classes, of which those that never occur count 0; `weighted_swapped` weighs
the classes by how often they were predicted; of `f1` it is not told which it is.
"""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from encode_once.cache import DataError, MissingDataError
from encode_once.cache.errors import unknown_name
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.spec import FitSpec

FOLDER = Path(__file__).parent
ALL = "all"
OCCUR = 18  # of the reports' classes: a 12 has no picture
SWAPPED = "weighted_swapped"
COMPARED = ("micro_f1", "macro_f1", "weighted_f1", "samples_f1", "mAP", SWAPPED, "f1")  # figures of a report
OF = "macro_f1_of_"  # then the number of classes


@dataclass(frozen=True)
class Recipe:
    """A system: what its report did, as this project does it, and what came out there.

    path: its file, whose name its variants share.
    source: the report and where in it, or "ours".
    features: as `fit --features` has them; `onnx:*/scores` is that of any network which is at hand.
    instead: what may stand in for a feature that cannot be had, the best first.
    rows: labelled rows the reported figures are of.
    contaminated: whether a network of the recipe has been trained on the very pictures, with their labels.
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
        """What all its variants together are called."""
        return self.path.stem

    @property
    def spec(self) -> FitSpec:
        """What it asks to fit."""
        tuning = DecisionSpec(self.objective, decide=self.decide)
        return FitSpec(
            self.head, self.features, self.options, self.split, tuning=tuning, tune_on=self.tune_on
        )

    @property
    def wanted(self) -> list[str]:
        """Every feature it may use."""
        return [name for feature in self.features for name in (feature, *self.instead.get(feature, ()))]

    @property
    def figures(self) -> dict[str, float]:
        """What was reported; a macro F1 over the classes that occur."""
        return dict(_comparable(name, value) for name, value in self.reported.items())


def _comparable(name: str, value: float) -> tuple[str, float]:
    if not name.startswith(OF):
        return name, value
    return "macro_f1", value * int(name.removeprefix(OF)) / OCCUR


def known() -> list[Recipe]:
    """All recipes that come with this package, report by report, then our own."""
    found = [recipe for path in sorted(FOLDER.glob("*.toml")) for recipe in load(path)]
    return sorted(found, key=lambda recipe: (recipe.source == "ours", recipe.source))


def find(names: Iterable[str]) -> list[Recipe]:
    """The recipes of those names, each once: a variant's, a file's for all its variants, or "all".

    The path of a TOML file of one's own is a name, too.
    Raises:
        UsageError: there is none of that name; the message has the nearest.
    """
    recipes = known()
    found: dict[str, Recipe] = {}
    for name in names:
        of_file = load(Path(name)) if name.endswith(".toml") else recipes
        meant = [one for one in of_file if name in (ALL, one.file, one.name) or of_file is not recipes]
        if not meant:
            names_known = dict.fromkeys([ALL, *(one.file for one in recipes), *(one.name for one in recipes)])
            raise unknown_name("recipe", name, names_known)
        found |= {one.name: one for one in meant}
    return list(found.values())


def text_of(recipes: Iterable[Recipe]) -> str:
    """The files of recipes that come with this package, or were loaded from where they still are."""
    return "\n".join(path.read_text(encoding="utf-8") for path in dict.fromkeys(one.path for one in recipes))


def load(path: Path) -> list[Recipe]:
    """The recipes of a file.

    Raises:
        DataError: it is no TOML, or lacks a field, or has one that does not exist.
    """
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingDataError(f"{path} is not there") from error
    except ValueError as error:
        raise DataError(f"{path} is no TOML file: {error}") from error
    variants = told.pop("variants", {})
    options = told.pop("options", {})
    if not variants:
        return [_recipe(path, path.stem, {**told, "options": options})]
    return [
        _recipe(path, f"{path.stem}-{name}", {**told, **own, "options": options | own.get("options", {})})
        for name, own in variants.items()
    ]


def _recipe(path: Path, name: str, told: Mapping[str, Any]) -> Recipe:
    possible = [one.name for one in fields(Recipe) if one.name not in ("name", "path")]
    for one in told:
        if one not in possible:
            raise unknown_name(f"field of {path}", one, possible)
    for one in told.get("reported", {}):
        if one not in COMPARED and not one.removeprefix(OF).isdecimal():
            raise unknown_name(f"figure of {path}", one, [*COMPARED, f"{OF}20"])
    try:
        return Recipe(name=name, path=path, **told)
    except TypeError as error:
        raise DataError(f"{path}: {error}") from error
