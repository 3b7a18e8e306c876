"""Forget rows: in a store, in the scratch stores of runs, and in what runs keep."""

import json
import os
import shlex
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypedDict

from encode_once.cache import DataError, EncodeOnceError, Keys, Store, content_key
from encode_once.cache.absence import HEX, search
from encode_once.cache.keys import pack
from encode_once.cache.options import program, short_path
from encode_once.cache.removal import (
    EqualImages,
    RemovedContent,
    content_of,
    keys_of_files,
    remove_rows,
    remove_vectors,
)
from encode_once.cache.store import FIRST_FILES
from encode_once.cache.terminal import short_list
from encode_once.classify.decisions.objectives import BY_HAND
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.runs.run import Run, load_run
from encode_once.classify.spec import FitSpec
from encode_once.deploy.run_forgetting import forget_rows
from encode_once.extract.images.hashing import read_file


class RunChange(TypedDict):
    """What a run lost; refit: the command that fits its model again, if that has seen a forgotten row."""

    run: str
    rows: int
    refit: str | None


class ForgottenContent(TypedDict):
    """What was forgotten, and what is left of it."""

    ids: list[str]  # also of rows with equal images
    equal: list[str]
    unknown: list[str]  # ids that no table has
    keys: list[str]  # in hexadecimal
    shared: int  # contents that other rows have, too
    tables: dict[str, int]
    features: dict[str, int]
    failures: int
    paths: int
    runs: list[RunChange]
    unread: list[str]  # runs that cannot be read, and why
    left: dict[str, list[str]]  # file of the store or of runs → what it still holds
    data: list[str]  # files of the data that still have it


def read_list(path: Path) -> list[str]:
    """The lines of a file that are not empty."""
    return [line for line in path.read_text("utf-8").splitlines() if line.strip()]


def forget(
    store: Store, runs: Path, ids: Collection[str], equal_images: EqualImages | None = None
) -> ForgottenContent:
    """Remove all rows of these ids; after a kill, the same call continues, see `removal`.

    Raises:
        DataError: nothing has any of the ids, or other rows have the same images.
        StoreBusyError: a process is writing a feature.
    """
    loaded, unread = _load_runs(runs)
    scratch = [run.path / "store" for run in loaded]  # may hold no more than the index of files
    stores = [
        store,
        *(Store(path) for path in scratch if any((path / name).exists() for name in FIRST_FILES)),
    ]
    content = content_of(store, ids, equal_images, _known_keys(stores, loaded, store, ids))
    if len(content.unknown) == len(set(ids)) and not len(content.all_keys):
        names = short_list(content.unknown)
        raise DataError(f"{store.path} and {runs} have no row {names}: forgotten already, or misspelt")
    features, failures, paths = dict[str, int](), 0, 0
    for each in stores:
        removed = remove_vectors(each, content)
        for name, count in removed.features.items():
            features[name] = features.get(name, 0) + count
        failures, paths = failures + removed.failures, paths + removed.paths
    changes, problems = _forget_in_runs(loaded, store, content)
    tables = {name: count for each in stores for name, count in remove_rows(each, content).items()}
    all_ids = [*dict.fromkeys([*ids, *content.equal])]
    keys = [key.tobytes().hex() for key in content.all_keys]
    return {
        "ids": all_ids,
        "equal": [*content.equal],
        "unknown": [*content.unknown],
        "keys": keys,
        "shared": content.shared,
        "tables": tables,
        "features": features,
        "failures": failures,
        "paths": paths,
        "runs": changes,
        "unread": [*unread, *problems],
        "left": {str(path): names for path, names in found_in(store, runs, [*all_ids, *keys]).items()},
        "data": _left_in_data(content, all_ids),
    }


def found_in(store: Store, runs: Path, names: Collection[str]) -> dict[Path, list[str]]:
    """The files of a store and of runs that hold an id, or a key in hexadecimal, and which."""
    folders = [store.path, *([runs] if runs.is_dir() else [])]
    return search(folders, names)


def lines(result: ForgottenContent) -> list[str]:
    """What was removed, a line each."""
    removed = [f"{name}: {count} rows removed" for name, count in result["tables"].items()]
    removed += [f"{name}: {count} vectors removed" for name, count in result["features"].items()]
    removed += [f"{run['run']}: {run['rows']} rows removed" for run in result["runs"] if run["rows"]]
    counts = ((result["failures"], "failures"), (result["paths"], "paths of the index"))
    removed += [f"{count} {what} removed" for count, what in counts if count]
    return removed or ["nothing was left to remove"]


def warnings(result: ForgottenContent) -> list[str]:
    """What else was forgotten, and what could not be."""
    messages = []
    if result["equal"]:
        messages.append(f"rows with the same images were forgotten, too: {short_list(result['equal'])}")
    if result["unknown"]:
        messages.append(f"in no table: {short_list(result['unknown'])}")
    if result["shared"]:
        messages.append(f"{result['shared']} captions or images are also those of other rows, and stay")
    fitted = [run for run in result["runs"] if run["refit"]]
    messages += [f"the model of {run['run']} was fitted on it: {run['refit']}" for run in fitted]
    messages += [f"not looked into: {line}" for line in result["unread"]]
    messages += [f"{path} still holds {short_list(names, 3)}" for path, names in result["left"].items()]
    if result["data"]:
        messages.append(
            f"the data still has it, and the next extract reads it: {short_list(result['data'], 5)}"
        )
    return messages


def _load_runs(folder: Path) -> tuple[list[Run], list[str]]:
    loaded, unread = list[Run](), list[str]()
    for path in sorted(folder.rglob("run.json")):
        try:
            loaded.append(load_run(path.parent))
        except EncodeOnceError as error:
            unread.append(str(error))
    return loaded, unread


def _is_of(run: Run, store: Store) -> bool:
    return os.path.realpath(run.record.store) == os.path.realpath(store.path)


def _known_keys(stores: Iterable[Store], runs: Iterable[Run], store: Store, ids: Collection[str]) -> Keys:
    """The content keys of ids: in runs on this store, in indexes of stores, of files, or keys themselves."""
    keys = [key for each in stores for key in keys_of_files(each, ids)]
    keys += [content_key(read_file(name)) for name in ids if Path(name).is_file()]
    keys += [bytes.fromhex(name) for name in ids if HEX.fullmatch(name)]
    keys += [
        rows.keys[row].tobytes()
        for run in runs
        if _is_of(run, store)
        for rows in (run.validation, run.eval)
        for row, row_id in enumerate(rows.ids)
        if row_id in ids
    ]
    return pack(keys)


def _forget_in_runs(
    runs: Sequence[Run], store: Store, content: RemovedContent
) -> tuple[list[RunChange], list[str]]:
    """How runs were changed, and why others could not be."""
    changes, problems = list[RunChange](), list[str]()
    several = len(store.table_files()) > 1
    for run in runs:
        try:
            change = forget_rows(run, content.ids if _is_of(run, store) else (), content.all_keys)
        except EncodeOnceError as error:
            problems.append(str(error))
            continue
        if change.rows or change.fitted:
            refit = f"{program()} {shlex.join(refit_words(run, several))}" if change.fitted else None
            changes.append({"run": change.run, "rows": change.rows, "refit": refit})
    return changes, problems


def refit_words(run: Run, name_data: bool) -> list[str]:
    """The command that fits a run again, without the name of the program."""
    spec, record, usual = run.spec, run.record, FitSpec()
    words = ["fit", "--head", spec.head]
    for feature in record.features:
        words += ["--features", feature]
    for name in ("split", "groups", "tune_on", "validation", "scale", "seed"):
        if getattr(spec, name) != getattr(usual, name):
            words += [f"--{name.replace('_', '-')}", str(getattr(spec, name))]
    rule, usual_rule = asdict(run.decision.spec), asdict(DecisionSpec())
    if rule["objective"] != BY_HAND:
        if rule["decide"] != usual_rule["decide"] or rule["objective"] != usual_rule["objective"]:
            words += ["--objective", rule["objective"], "--decide", rule["decide"]]
        words += [] if rule["shrink"] else ["--no-shrink"]
    for name in ("calibrate", "at_least", "at_most"):
        if rule[name] != usual_rule[name]:
            words += [f"--{name.replace('_', '-')}", str(rule[name])]
    for name, value in spec.options.items():
        if name != "classes" and (name, value) != ("seed", spec.seed):
            words += ["--set", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
    words += ["--data", short_path(record.table)] if name_data else []
    return [*words, "--store", short_path(record.store), "--run", str(run.path), "--overwrite"]


def _left_in_data(content: RemovedContent, names: Sequence[str]) -> list[str]:
    """The files of the data that still have the rows: their images, and tables that name them."""
    images = [path for path in content.images if os.path.lexists(path)]
    sources = [Path(source) for source in content.sources if Path(source).is_file()]
    return [*images, *map(str, search(sources, names))]
