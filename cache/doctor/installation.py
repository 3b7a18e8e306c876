"""Whether Python, the required libraries and those of the extras are as `pyproject.toml` asks."""

import platform
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from encode_once.cache.doctor import Check

PROJECT = "encode-once"
PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"  # of a checkout; an installed package has metadata


@dataclass(frozen=True)
class Declared:
    """What the project declares that it needs."""

    python: str  # a specifier, such as ">=3.11"
    required: list[Requirement]
    extras: dict[str, list[Requirement]]

    @classmethod
    def read(cls, pyproject: Path = PYPROJECT) -> "Declared":
        """The declarations of a checkout, which are newer than its metadata, or of the installed package."""
        if not pyproject.is_file():
            return cls._of_metadata()
        project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
        extras = {
            name: [*map(Requirement, texts)] for name, texts in project["optional-dependencies"].items()
        }
        return cls(project["requires-python"], [*map(Requirement, project["dependencies"])], extras)

    @classmethod
    def _of_metadata(cls) -> "Declared":
        content = metadata.metadata(PROJECT)
        extras: dict[str, list[Requirement]] = {name: [] for name in content.get_all("Provides-Extra") or ()}
        required = []
        for requirement in map(Requirement, metadata.requires(PROJECT) or ()):
            marker = requirement.marker
            if marker is None or marker.evaluate({"extra": ""}):
                required.append(requirement)
            for name in extras:
                if marker and not marker.evaluate({"extra": ""}) and marker.evaluate({"extra": name}):
                    extras[name].append(requirement)
        return cls(content["Requires-Python"], required, extras)

    def of_extra(self, name: str) -> Iterator[Requirement]:
        """The libraries of an extra, and of the extras that it includes."""
        for requirement in self.extras.get(name, ()):
            if requirement.name == PROJECT:
                for included in sorted(requirement.extras):
                    yield from self.of_extra(included)
            else:
                yield requirement


def checks(declared: Declared | None = None) -> Iterator[Check]:
    """Python, the libraries, and the extras; declared: by default what this project declares."""
    declared = declared or Declared.read()
    yield _python(declared.python, platform.python_version())
    yield from _libraries(declared.required)
    yield from _extras(declared)


def _python(specifier: str, version: str) -> Check:
    if SpecifierSet(specifier).contains(version, prereleases=True):
        return Check("Python", "PASS", version)
    return Check("Python", "FAIL", f"{version}, but {specifier} is needed", "install that Python")


def _libraries(required: Iterable[Requirement]) -> Iterator[Check]:
    versions = []
    for library in map(_Library.of, required):
        name, specifier = library.requirement.name, library.requirement.specifier
        if library.fits:
            versions.append(f"{name} {library.version}")
        else:
            yield Check("library", "FAIL", library.problem, f"pip install '{name}{specifier}'")
    if versions:
        yield Check("libraries", "PASS", ", ".join(versions))


def _extras(declared: Declared) -> Iterator[Check]:
    complete, absent = list[str](), list[str]()
    for name in declared.extras:
        unfit = [library for library in map(_Library.of, declared.of_extra(name)) if not library.fits]
        outdated = [library.problem for library in unfit if library.version is not None]
        if outdated:
            remedy = f"pip install '{PROJECT}[{name}]'"
            yield Check("extra", "WARN", f"{name}: {'; '.join(outdated)}", remedy)
        else:
            (absent if unfit else complete).append(name)
    if complete:
        yield Check("extras", "PASS", ", ".join(complete))
    if absent:
        remedy = f"pip install '{PROJECT}[NAME]' adds one"
        yield Check("extras", "PASS", f"not installed: {', '.join(absent)}", remedy)


class _Library(NamedTuple):
    """A library that is needed, and what is installed of it."""

    requirement: Requirement
    version: str | None  # None: it is not installed

    @classmethod
    def of(cls, requirement: Requirement) -> "_Library":
        try:
            return cls(requirement, metadata.version(requirement.name))
        except metadata.PackageNotFoundError:
            return cls(requirement, None)

    @property
    def fits(self) -> bool:
        specifier = self.requirement.specifier
        return self.version is not None and specifier.contains(self.version, prereleases=True)

    @property
    def problem(self) -> str:
        """What is wrong with a library that does not fit."""
        name, specifier = self.requirement.name, self.requirement.specifier
        if self.version is None:
            return f"{name} is not installed"
        return f"{name} is version {self.version}, but {specifier} is needed"
