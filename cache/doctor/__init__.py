"""What `doctor` checks of the installation, the machine and the store; the other rooms check their own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from encode_once.cache.terminal import one_line

State = Literal["PASS", "WARN", "FAIL"]
MOST = 5  # problems of one kind that get a line each; the rest are counted


@dataclass(frozen=True)
class Check:
    """The result of a check.

    WARN: everything runs, but slowly, or not for every input. FAIL: a command will fail.
    """

    subject: str
    state: State
    finding: str
    remedy: str = ""

    def text(self) -> str:
        """The line that `doctor` prints."""
        remedy = f" → {self.remedy}" if self.remedy else ""
        return one_line(f"{self.state}  {self.subject}: {self.finding}{remedy}")


def each(subject: str, state: State, problems: Sequence[str], remedy: str = "") -> Iterator[Check]:
    """A check for each of the first problems, and one that counts the rest."""
    for problem in problems[:MOST]:
        yield Check(subject, state, problem, remedy)
    if len(problems) > MOST:
        yield Check(subject, state, f"{len(problems) - MOST} more problems like these", remedy)


def checks_of(module: str, *arguments: Any) -> Iterator[Check]:
    """The checks of a module, by its name in this package; one that fails if a library cannot be loaded."""
    try:
        yield from import_module(f"encode_once.{module}").checks(*arguments)
    except (ImportError, OSError) as error:  # OSError: of a library that is damaged
        yield Check(module, "FAIL", f"not checked: {error}", "install the library that this names again")
