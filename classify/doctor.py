"""What `doctor` checks of stage 2: whether runs can be read, and what their own checks say."""

from collections.abc import Collection, Iterator
from pathlib import Path

from encode_once.cache.doctor import Check, each
from encode_once.cache.errors import EncodeOnceError
from encode_once.cache.places import is_gone
from encode_once.classify.report.checks import Evidence, check_codes, fired, line
from encode_once.classify.runs.loading import load_run


def checks(folder: Path, ignore: Collection[str] = ()) -> Iterator[Check]:
    """The runs in a folder and its subfolders, and the checks that fire for those in the folder itself.

    ignore: codes of checks to leave out.

    Raises:
        UsageError: `ignore` has an unknown code.
    """
    check_codes(ignore)
    paths = sorted(path.parent for path in folder.rglob("run.json"))
    if not paths:
        yield Check("runs", "PASS", f"none in {folder}", "fit writes one")
        return
    damaged, without_store, doubts = list[str](), list[str](), list[str]()
    for path in paths:
        try:
            run = load_run(path)
        except (EncodeOnceError, OSError) as error:
            damaged.append(str(error))
            continue
        if is_gone(run.record.store):
            without_store.append(f"{path}: its store {run.record.store} is gone")
        if path.parent == folder:  # not the many of a sweep
            results, _ = fired(Evidence.of(run), ignore, vectors=False)
            doubts += [f"{path}: {line(check)}" for check in results]
    yield from each("run", "FAIL", damaged, "restore its files, or fit it again with --overwrite")
    yield from each("run", "WARN", without_store, "predict --store DIR encodes into another store")
    yield from each("run", "WARN", doubts)
    readable = len(paths) - len(damaged)
    if readable:
        yield Check("runs", "PASS", f"{readable} in {folder} can be read")
