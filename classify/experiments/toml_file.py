"""The files of experiments and recipes: TOML with the same fields and variants.

A file says what to fit: `features`, `head` with `[options]` or `[heads.NAME]` with values to try, `split`,
`objective` and so on, see docs/experiments.md. If it has tables `[variants.NAME]`, it stands for several,
each with the file's fields replaced by those of its table; options are merged. A recipe's file is one, too.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from encode_once.cache import DataError, MissingDataError
from encode_once.cache.errors import unknown_name
from encode_once.cache.format.files import typed
from encode_once.classify import heads as registry
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.experiments.experiment import Experiment, HeadGrid, metric_named
from encode_once.classify.spec import FitSpec


@dataclass(frozen=True)
class ExperimentFile:
    """The fields of an experiment's file, with their types and defaults."""

    store: str = "store"
    folder: str = ""
    data: str | list[str] = ""
    features: list[str] = field(default_factory=list)
    sets: list[str] | dict[str, str | list[str]] = field(default_factory=lambda: ["all"])
    head: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    heads: list[str] | dict[str, dict[str, Any]] = field(default_factory=dict)
    split: str | list[str] = "stratified:0.1"
    groups: str = "content"
    validation: str = "auto"
    scale: str = "auto"
    tune_on: str = "inner"
    objective: str = "auto"
    decide: str = "auto"
    calibrate: str = "auto"
    shrink: bool = True
    at_least: int = 0
    at_most: int | None = None
    seeds: int | list[int] = 1
    redraw: bool = False
    search: int = 0
    by: str = ""
    instead: dict[str, list[str]] = field(default_factory=dict)
    about: str = ""  # this and the following are for the reader, or `recipe run`
    source: str = ""
    notes: str = ""
    rows: int = 0
    contaminated: bool = False
    reported: dict[str, float] = field(default_factory=dict)

    def experiment(self) -> Experiment:
        """What the fields ask for.

        Raises:
            UsageError: a name or a value of an option is unknown.
            DataError: fields that do not go together.
        """
        decision = DecisionSpec(
            self.objective, self.shrink, self.decide, self.calibrate, self.at_least, self.at_most
        )
        splits, data = _listed(self.split), _listed(self.data)
        shared = FitSpec(
            "linear",
            self.features,
            {},
            splits[0],
            self.groups,
            decision,
            self.tune_on,
            self.validation,
            data[0] if data else None,
            self.scale,
        )
        sets = {kind: kind for kind in self.sets} if isinstance(self.sets, list) else self.sets
        seeds = range(self.seeds) if isinstance(self.seeds, int) else self.seeds
        by = metric_named(self.by) if self.by else None
        if not seeds or min(seeds) < 0:
            raise DataError(f"seeds = {self.seeds}: use a number from 1 on, or a list of numbers from 0 on")
        if self.search < 0 or not splits:
            raise DataError("search is 0 or the number of settings to try, and split one or more SPECs")
        experiment = Experiment(
            shared, self._heads(), sets, self.instead, splits, data, seeds, self.redraw, self.search, by
        )
        experiment.check()
        for entry in experiment.heads:
            for values in product(*entry.grid.values()):
                registry.check_options(entry.head, dict(zip(entry.grid, values, strict=True)))
        return experiment

    def _heads(self) -> list[HeadGrid]:
        if bool(self.head) == bool(self.heads):
            raise DataError("name either a head, with [options], or heads, as [heads.linear]")
        if self.head:
            return [HeadGrid(self.head, {name: [value] for name, value in self.options.items()})]
        if self.options:
            raise DataError("[options] are those of `head`; options of several heads go to [heads.NAME]")
        tables = {name: {} for name in self.heads} if isinstance(self.heads, list) else self.heads
        return [self._head(name, table) for name, table in tables.items()]

    @staticmethod
    def _head(name: str, table: Mapping[str, Any]) -> HeadGrid:
        """`head` and `sets` of the table are no options: which head it is, if not NAME, and on which sets."""
        grid = {option: _listed(value) for option, value in table.items() if option not in ("head", "sets")}
        if empty := [option for option, values in grid.items() if not values]:
            raise DataError(f"{empty[0]} of head {name} has no values")
        return HeadGrid(table.get("head", name), grid, _listed(table.get("sets", [])))


DEFAULTS = asdict(ExperimentFile())


def _listed(value: Any) -> list[Any]:
    """The values of a field that may be one value or a list of them."""
    return value if isinstance(value, list) else [value] if value != "" else []


def load_experiments(path: Path) -> list[tuple[ExperimentFile, Experiment]]:
    """The experiments of a file: one, or one for each variant.

    Raises:
        MissingDataError: there is no such file.
        UsageError: a field, a name or an option is unknown.
        DataError: the file is not TOML, or a field has a value of another type.
    """
    experiments = []
    for name, content in read(path, [*DEFAULTS]):
        try:
            file = typed(ExperimentFile, DEFAULTS | content)
            experiments.append((file, file.experiment()))
        except DataError as error:
            raise type(error)(f"{path}{f', variant {name}' if name else ''}: {error}") from error
        except ValueError as error:
            raise DataError(f"{path}: {error}, which is no value of that field") from error
    return experiments


def read(path: Path, possible: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The variants of a file, by name, with the fields of each; "" is the only one of a file without any.

    Raises:
        MissingDataError: there is no such file.
        DataError: it is not TOML.
        UsageError: a field is not one of the possible ones.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingDataError(f"{path} is not there") from error
    except ValueError as error:
        raise DataError(f"{path} is not a TOML file: {error}") from error
    variants, options = content.pop("variants", {}) or {"": {}}, content.pop("options", {})
    for name, variant in variants.items():
        for key in content | variant:
            if key not in possible:
                raise unknown_name(f"field of {path}", key, possible)
        merged = options | variant.get("options", {})
        yield name, {**content, **variant, **({"options": merged} if merged else {})}
