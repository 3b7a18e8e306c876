"""The files of experiments and recipes: TOML with the same fields and variants.

A file says what to fit: `features`, `head` with `[options]` or `[heads.NAME]` with values to try, `split`,
`objective` and so on, see docs/experiments.md. If it has tables `[variants.NAME]`, it stands for several,
each with the file's fields replaced by those of its table; options are merged. A recipe's file is one, too.
"""

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path

from encode_once.cache import DataError, MissingDataError, Store, own_code
from encode_once.cache.errors import unknown_name
from encode_once.cache.format.files import typed
from encode_once.cache.own_code import UntrustedError
from encode_once.cache.terminal import Log
from encode_once.classify import heads as registry
from encode_once.classify.experiments.experiment import Experiment


@dataclass(frozen=True)
class ExperimentFile(Experiment):
    """An experiment with the further fields of its file."""

    store: str = "store"
    folder: str = ""
    about: str = ""  # this and the following are for the reader, or `recipe run`
    source: str = ""
    notes: str = ""
    rows: int = 0
    contaminated: bool = False
    reported: dict[str, float] = field(default_factory=dict)

    def check(self) -> None:
        """The same as of an experiment, and the values of options: a file can be corrected.

        Raises:
            UsageError, DataError: as there; a value is wrong.
        """
        super().check()
        for entry in self.grids:
            for values in product(*entry.grid.values()):
                registry.check_options(entry.head, dict(zip(entry.grid, values, strict=True)))

    @property
    def own_code(self) -> list[str]:
        """The names of own code among heads and values of options."""
        return own_code.names_in([self.head, self.options, [*self.heads], self.heads])


DEFAULTS = asdict(ExperimentFile())


def load_experiments(
    path: Path, *, trust: bool = False, log: Log = lambda line: None
) -> list[ExperimentFile]:
    """The experiments of a file: one, or one for each variant.

    Args:
        trust: use the code that the file names.
        log: called with a line about each file of code.

    Raises:
        MissingDataError, UsageError, DataError: as `load_files`; a name or an option is unknown.
        UntrustedError: the file names code, without `trust`.
    """
    files = [*load_files(path)]
    for name, file in files:
        approve(path, file.own_code, trust, log)
        with of_file(path, name):
            file.check()
    return [file for _, file in files]


def check_stores(path: Path, store: str | None) -> None:
    """Raise for names in a file, in any variant, that its store does not have; `store` replaces the file's.

    Raises:
        EncodeOnceError: there is no such table, label, class or feature.
    """
    for name, file in load_files(path):
        with of_file(path, name):
            file.check_store(Store(store or file.store))


def approve(path: Path, names: list[str], trust: bool, log: Log) -> None:
    """Trust the code that a file names.

    Raises:
        UntrustedError: it is refused.
    """
    for name in names:
        code = own_code.file_of(name)
        if own_code.meant(name) is None:
            if not trust:
                raise UntrustedError(f"{path} names code to run: {code}; read it, then pass --trust")
            own_code.trust_code(name)
            log(f"trusted: {code} ({own_code.read(name).identity})")


def load_files(path: Path) -> Iterator[tuple[str, ExperimentFile]]:
    """The variants of a file, by name; "" is the only one of a file without any.

    Raises:
        MissingDataError: there is no such file.
        DataError: it is not TOML, or a field has a value of another type.
        UsageError: a field is unknown.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingDataError(f"{path} is not there") from error
    except ValueError as error:
        raise DataError(f"{path} is not a TOML file: {error}") from error
    variants, options = content.pop("variants", {}) or {"": {}}, content.pop("options", {})
    for name, variant in variants.items():
        merged = {**content, **variant, "options": options | variant.get("options", {})}
        for key in merged:
            if key not in DEFAULTS:
                raise unknown_name(f"field of {path}", key, [*DEFAULTS])
        with of_file(path, name):
            yield name, typed(ExperimentFile, DEFAULTS | merged)


@contextmanager
def of_file(path: Path, variant: str) -> Iterator[None]:
    """Let errors in the block say which file, and which variant, they are about."""
    try:
        yield
    except DataError as error:
        raise type(error)(f"{path}{f', variant {variant}' if variant else ''}: {error}") from error
    except ValueError as error:
        raise DataError(f"{path}: {error}, which is not a value of that field") from error
