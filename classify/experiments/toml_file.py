"""The files of experiments and recipes: TOML with the same fields and variants.

A file says what to fit: `features`, `head` with `[options]` or `[heads.NAME]` with values to try, `split`,
`objective` and so on, see docs/experiments.md. If it has tables `[variants.NAME]`, it stands for several,
each with the file's fields replaced by those of its table; options are merged. A recipe's file is one, too.
"""

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from encode_once.cache import DataError, MissingDataError, own_code
from encode_once.cache.errors import unknown_name
from encode_once.cache.format.files import typed
from encode_once.cache.own_code import UntrustedError
from encode_once.cache.terminal import Log
from encode_once.classify import heads as registry
from encode_once.classify.experiments.experiment import Experiment


@dataclass(frozen=True)
class ExperimentFile(Experiment):
    """An experiment with the further fields of its file.

    path, variant: where it is; they are no fields of the file.
    """

    store: str = "store"
    folder: str = ""
    about: str = ""  # this and the following are for the reader, or `recipe run`
    source: str = ""
    notes: str = ""
    rows: int = 0
    contaminated: bool = False
    reported: dict[str, float] = field(default_factory=dict)
    path: str = ""
    variant: str = ""

    def check(self) -> None:
        """The same as of an experiment, and the values of options: a file can be corrected.

        Raises:
            UsageError, DataError: as there; a value is wrong.
        """
        super().check()
        for entry in self.grids:
            for options in entry.options:
                registry.check_options(entry.head, options)


File = TypeVar("File", bound=ExperimentFile)
DEFAULTS = asdict(ExperimentFile())
FIELDS = [name for name in DEFAULTS if name not in ("path", "variant")]


def load_experiments(
    path: Path, kind: type[File], *, trust: bool = False, log: Log = lambda line: None
) -> list[File]:
    """The experiments of a file: one, or one for each variant.

    Args:
        kind: `ExperimentFile`, or the class of recipes.
        trust: use the code that the file names.
        log: called with a line about each file of code.

    Raises:
        MissingDataError: there is no such file.
        DataError: it is not TOML, a field has a value of another type, or fields do not go together.
        UsageError: a name, a field or an option is unknown.
        UntrustedError: the file names code, without `trust`.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingDataError(f"{path} is not there") from error
    except ValueError as error:
        raise DataError(f"{path} is not a TOML file: {error}") from error
    with of_file(path, ""):
        variants = typed(_Tables, {"variants": content.pop("variants", {})}).variants
    common, files = _file(kind, content, path), []
    for name, variant in (variants or {"": {}}).items():
        with of_file(path, name):
            own = typed(_Tables, {"variants": variant}).variants
        options = common.options | _file(kind, own, path, name).options
        files.append(_file(kind, {**content, **own, "options": options}, path, name))
    for file in files:
        _approve(file, trust, log)
        with of_file(path, file.variant):
            file.check()
    return files


@dataclass(frozen=True)
class _Tables:
    """What is a table: that of all variants, or of one."""

    variants: dict[str, Any]


def _file(kind: type[File], content: dict[str, Any], path: Path, variant: str = "") -> File:
    """A file with some fields, or a variant's; their names and types are checked."""
    for key in content:
        if key not in FIELDS:
            raise unknown_name(f"field of {path}", key, FIELDS)
    with of_file(path, variant):
        return typed(kind, DEFAULTS | content | {"path": str(path), "variant": variant})


def _approve(file: ExperimentFile, trust: bool, log: Log) -> None:
    """Trust the code that a file names as heads or values of options."""
    for name in own_code.names_in([file.head, file.options, [*file.heads], file.heads]):
        code = own_code.file_of(name)
        if own_code.meant(name) is None:
            if not trust:
                raise UntrustedError(f"{file.path} names code to run: {code}; read it, then pass --trust")
            own_code.trust_code(name)
            log(f"trusted: {code} ({own_code.read(name).identity})")


@contextmanager
def of_file(path: Path, variant: str) -> Iterator[None]:
    """Let errors in the block say which file, and which variant, they are about."""
    where = f"{path}, variant {variant}" if variant else f"{path}"
    try:
        yield
    except DataError as error:
        raise type(error)(f"{where}: {error}") from error
    except ValueError as error:
        raise DataError(f"{where}: {error}, which is not a value of that field") from error
