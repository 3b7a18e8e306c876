"""What a run was asked for, by which it can be fitted again."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from encode_once.cache import DataError
from encode_once.classify.data.hierarchy import read_hierarchy
from encode_once.classify.data.split_lists import list_files
from encode_once.classify.heads import FILLED_IN
from encode_once.classify.runs.loading import load_run
from encode_once.classify.runs.run import Run
from encode_once.classify.spec import FitSpec


def asked(run: Run) -> FitSpec:
    """The spec of a run without the options that `fit` adds; its decision rule is the current one."""
    options = {name: value for name, value in run.spec.options.items() if name not in FILLED_IN}
    if options.get("seed") == run.spec.seed:
        del options["seed"]
    return replace(run.spec, options=options, decision=run.decision.spec)


def check_labels(runs: Sequence[Run]) -> None:
    """Refuse to compare runs that learned different label sets of one table.

    Raises:
        DataError: there are some.
    """
    first = runs[0]
    for other in runs[1:]:
        if other.record.table == first.record.table and other.spec.labels != first.spec.labels:
            sets = (f"{run.path} ({run.spec.labels or 'the labels of the table'})" for run in (first, other))
            raise DataError(
                f"{' and '.join(sets)} learned different label sets: fit them with the same --labels"
            )


def hierarchy_of(path: Path) -> Sequence[Sequence[str]]:
    """The pairs in a file, see `read_hierarchy`, or those of the run in a folder.

    Raises:
        EncodeOnceError: the file or the run cannot be read, or has no hierarchy.
    """
    if not path.is_dir():
        return read_hierarchy(path)
    if (path / "run.json").exists() and (pairs := load_run(path).spec.hierarchy):
        return pairs
    raise DataError(
        f"--hierarchy: {path} is no run with a hierarchy: name such a run, or a CSV file with the columns "
        "child and parent"
    )


def check_files(run: Run, *, trust: bool) -> None:
    """Refuse to open files that a run of unknown origin names: its prompts, and lists of ids.

    Raises:
        DataError: it names some, and is not trusted.
    """
    prompts = run.spec.options.get("prompts")
    files: Sequence[str] = [*([prompts] if isinstance(prompts, str) else []), *list_files(run.spec.split)]
    if files and not trust:
        raise DataError(f"{run.path} names files to open: {', '.join(files)}; pass --trust if they are yours")
