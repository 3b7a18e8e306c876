"""What a run came from besides its data: the command, the program, the libraries and the machine.

There are no names of users and hosts, and no variables of the environment.
"""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from encode_once.cache.command_line import command_line
from encode_once.cache.process import cores, processor_name
from encode_once.cache.representation import short_repr

ROOT = Path(__file__).parents[2]  # of the package; in a checkout, of the repository
LIBRARIES = {  # module → the package that has it, of all that compute features, scores or files
    "catboost": "catboost",
    "h5py": "h5py",
    "lightgbm": "lightgbm",
    "numpy": "numpy",
    "onnxruntime": "onnxruntime",
    "open_clip": "open_clip_torch",
    "optuna": "optuna",
    "pandas": "pandas",
    "PIL": "pillow",
    "safetensors": "safetensors",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "skops": "skops",
    "timm": "timm",
    "tokenizers": "tokenizers",
    "torch": "torch",
    "torchvision": "torchvision",
    "transformers": "transformers",
    "xgboost": "xgboost",
}
GIT_SECONDS = 5  # a checkout on a slow disk may not delay a run longer


@dataclass(frozen=True)
class Origin:
    """How a run came about. Every field is empty in a run of a program that did not record it.

    command: the command line, or `Python`.
    commit: of the program's repository, if it runs from one.
    modified: whether tracked files differ from the commit.
    libraries: package → version, "python" among them, of what was imported when the run was fitted.
    processor: its model, and which instructions for vectors it has.
    cores, threads: how many there are, and on how many torch or the process computes.
    gpu: the name of the one that was used.
    """

    command: str = ""
    program: str = ""
    commit: str = ""
    modified: bool = False
    libraries: dict[str, str] = field(default_factory=dict)
    processor: str = ""
    cores: int = 0
    threads: int = 0
    gpu: str = ""
    system: str = ""

    __repr__ = short_repr

    @classmethod
    def now(cls) -> "Origin":
        """Of a run that this process has just fitted."""
        commit, modified = commit_of(ROOT)
        return cls(
            command_line(),
            _version("encode-once"),
            commit,
            modified,
            {"python": platform.python_version(), **imported_libraries()},
            processor_name(),
            os.cpu_count() or 0,
            _threads(),
            _gpu(),
            platform.platform(),
        )

    @property
    def shown_program(self) -> str:
        """The version and the commit, as "0.2.0 (commit 1a2b3c4d5e6f, modified)"; "" if not recorded."""
        commit = f" (commit {self.commit[:12]}{', modified' if self.modified else ''})" if self.commit else ""
        return f"{self.program}{commit}"

    @property
    def shown_machine(self) -> str:
        """Processor, cores, threads, GPU and system; "" if not recorded."""
        if not self.processor:
            return ""
        gpu = f"; {self.gpu}" if self.gpu else ""
        return f"{self.processor}; {self.cores} cores, {self.threads} threads{gpu}; {self.system}"

    @property
    def shown(self) -> dict[str, str]:
        """What is recorded, in a few lines, by title."""
        libraries = ", ".join(f"{name} {number}" for name, number in self.libraries.items())
        facts = {
            "command": self.command,
            "program": self.shown_program,
            "libraries": libraries,
            "machine": self.shown_machine,
        }
        return {title: text for title, text in facts.items() if text}


def imported_libraries() -> dict[str, str]:
    """Package → version, of the `LIBRARIES` that this process has imported."""
    versions = {package: _version(package) for module, package in LIBRARIES.items() if module in sys.modules}
    return {package: number for package, number in sorted(versions.items()) if number}


def library_versions(provenance: Mapping[str, str]) -> dict[str, str]:
    """The versions of libraries in a feature's provenance, which has other entries, too."""
    return {name: number for name, number in provenance.items() if name in LIBRARIES.values()}


@cache
def _version(package: str) -> str:
    """The version of an installed package; "" if there is no such metadata."""
    with suppress(PackageNotFoundError):
        return version(package)
    return ""


class Commit(NamedTuple):
    """A commit, and whether tracked files differ from it."""

    name: str
    is_modified: bool


@cache
def commit_of(root: Path) -> Commit:
    """The commit that is checked out in a folder; an empty one without git, or if it is no checkout."""
    if not (root / ".git").exists():  # a repository around an environment is another program's
        return Commit("", False)
    words = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-C", str(root), "status"]
    options = ["--porcelain=v2", "--branch", "--untracked-files=no"]
    with suppress(OSError, subprocess.SubprocessError):
        output = subprocess.run(  # noqa: S603 — it only reads
            [*words, *options], capture_output=True, text=True, check=True, timeout=GIT_SECONDS
        ).stdout.splitlines()
        names = [line.rpartition(" ")[2] for line in output if line.startswith("# branch.oid ")]
        return Commit("".join(names[:1]), any(not line.startswith("#") for line in output))
    return Commit("", False)


def _threads() -> int:
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        return int(torch.get_num_threads())
    return cores()


def _gpu() -> str:
    """The name of the GPU, if this process has used one."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return ""
    return str(torch.cuda.get_device_name())
