"""What `doctor` checks of stage 2: whether runs can be read."""

from collections.abc import Iterator
from pathlib import Path

from encode_once.cache.doctor import Check, each
from encode_once.cache.errors import EncodeOnceError
from encode_once.classify.runs.run import load_run


def checks(folder: Path) -> Iterator[Check]:
    """The runs in a folder and its subfolders."""
    paths = sorted(path.parent for path in folder.rglob("run.json"))
    if not paths:
        yield Check("runs", "PASS", f"none in {folder}", "fit writes one")
        return
    damaged, without_store = [], []
    for path in paths:
        try:
            run = load_run(path)
        except (EncodeOnceError, OSError) as error:
            damaged.append(str(error))
            continue
        if not Path(run.record.store).is_dir():
            without_store.append(f"{path}: its store {run.record.store} is gone")
    yield from each("run", "FAIL", damaged, "restore its files, or fit it again with --overwrite")
    yield from each("run", "WARN", without_store, "predict --store DIR encodes into another store")
    readable = len(paths) - len(damaged)
    if readable:
        yield Check("runs", "PASS", f"{readable} in {folder} can be read")
