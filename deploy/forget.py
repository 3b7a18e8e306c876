"""Forget rows: in a store, in the scratch stores of runs, and in what runs keep."""

import csv
import io
import json
import os
import shlex
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypedDict

import numpy as np

from encode_once.cache import DataError, EncodeOnceError, Keys, Store, content_key
from encode_once.cache.absence import search
from encode_once.cache.errors import MissingDataError
from encode_once.cache.format.atomic import replacing
from encode_once.cache.format.files import reading
from encode_once.cache.keys import pack, present
from encode_once.cache.maintenance import table_file
from encode_once.cache.options import program
from encode_once.cache.removal import (
    EqualImages,
    RemovedContent,
    RowNames,
    content_of,
    files_named,
    names_left,
    remove_rows,
    remove_vectors,
)
from encode_once.cache.store import FIRST_FILES
from encode_once.cache.table import name_of
from encode_once.cache.terminal import short_list, short_path
from encode_once.classify.data.rows import content_keys
from encode_once.classify.decisions.objectives import BY_HAND
from encode_once.classify.runs import own_files
from encode_once.classify.runs.asked import asked
from encode_once.classify.runs.loading import load_run
from encode_once.classify.runs.predict import own_folder
from encode_once.classify.runs.run import FILES, Run
from encode_once.classify.spec import BY_TASK, FitSpec, decision_of
from encode_once.deploy.run_forgetting import forget_rows, kept_rows
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
    files: list[str]  # found by such an id, which is their name
    staying: list[str]  # ids that other rows or files have, too, which stay: only the keys are searched for
    keys: list[str]  # in hexadecimal
    absent: list[str]  # ids and keys that nothing should hold any more
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
    """The lines of a file that are not empty; ids may have any bytes.

    Raises:
        MissingDataError: there is no such file.
    """
    try:
        with reading(path):
            text = path.read_text("utf-8", "surrogateescape")
    except FileNotFoundError as error:
        raise MissingDataError(f"{path} does not exist: it should have an id in each line") from error
    return [line for line in text.splitlines() if line.strip()]


def forget(
    store: Store,
    runs: Path,
    ids: Collection[str],
    equal_images: EqualImages | None = None,
    *,
    tables: Collection[str] = (),
    all_tables: bool = False,
    output: Path | None = None,
) -> ForgottenContent:
    """Remove all rows of these ids; after a kill, the same call continues, see `removal`.

    Args:
        tables: in which the ids are meant; by default, and if `all_tables`, in all.
        all_tables: also ids whose rows differ from table to table.
        output: a file for what nothing should hold any more; written before anything is removed.

    Raises:
        DataError: nothing has any of the ids, an id is that of different rows, or other rows have the same
            images.
        RunError: the store in the folder of a run is a link, or holds links.
        StoreBusyError: a process is writing a feature.
    """
    loaded, unread = _load_runs(runs)
    scratch = [own_folder(run, "store") for run in loaded]  # may hold no more than the index of files
    stores = [
        store,
        *(Store(path) for path in scratch if any((path / name).exists() for name in FIRST_FILES)),
    ]
    meant = frozenset(table_file(store, name).stem for name in tables) if tables else None
    names, of_runs = RowNames(frozenset(ids), meant), _tables_of(loaded, store)
    contents = _contents(store, loaded, of_runs, names.names)
    if not tables and not all_tables:
        _refuse_ambiguous(contents)
    others = names.names - contents.keys()
    files = files_named(stores, names, others)
    content = content_of(store, names, equal_images, _known_keys(loaded, of_runs, names, others, files))
    if len(content.unknown) == len(names.names) and not len(content.all_keys):
        listed = short_list(content.unknown)
        raise DataError(f"{store.location} and {runs} have no row {listed}: forgotten already, or misspelt")
    in_runs = [_ids_in(name, names, content) for name in of_runs]
    all_ids = [*dict.fromkeys([*ids, *content.equal, *sorted(set().union(*content.rows.values()))])]
    kept = {*content.staying, *names_left(stores, content), *_kept_in_runs(loaded, in_runs, content)}
    keys = [key.tobytes().hex() for key in content.all_keys]
    absent = [name for name in all_ids if name not in kept] + keys
    if output:
        with replacing(output) as temporary:
            temporary.write_text("".join(f"{name}\n" for name in absent), "utf-8", "surrogateescape")
    removed = [remove_vectors(each, content) for each in stores]
    changes, problems = _forget_in_runs(loaded, in_runs, store, content)
    counts = {name: count for each in stores for name, count in remove_rows(each, content).items()}
    holding = found_in(store, runs, absent) if absent else {}
    return {
        "ids": all_ids,
        "equal": [*content.equal],
        "unknown": [*content.unknown],
        "files": sorted(files.keys() - names.paths.keys()),
        "staying": sorted(kept.intersection(all_ids)),
        "keys": keys,
        "absent": absent,
        "shared": content.shared,
        "tables": counts,
        "features": dict(sum((Counter(part.features) for part in removed), Counter[str]())),
        "failures": sum(part.failures for part in removed),
        "paths": sum(part.paths for part in removed),
        "runs": changes,
        "unread": [*unread, *problems],
        "left": {str(path): texts for path, texts in holding.items() if path != output},
        "data": _left_in_data(content, absent),
    }


def _kept_in_runs(
    runs: Sequence[Run], in_runs: Sequence[Collection[str]], content: RemovedContent
) -> Iterator[str]:
    """The ids of the rows that runs keep; in_runs: those that each loses."""
    for run, gone in zip(runs, in_runs, strict=True):
        kept = kept_rows(run, gone, content.all_keys)
        for rows, left in zip((run.validation, run.eval), kept, strict=True):
            yield from (rows.ids[row] for row in left)


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
    if result["files"]:
        messages.append(f"forgotten as files of that name: {short_list(result['files'])}")
    if result["staying"]:
        messages.append(
            "other rows or files of these names stay, so what is left is searched for the keys only: "
            f"{short_list(result['staying'])}"
        )
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


def advice(result: ForgottenContent) -> str:
    """What to do about the files that are left: only pages and other people's files may be deleted."""
    left = [*map(Path, result["left"])]
    of_stores = [path for path in left if _is_of_store(path)]
    of_runs = [path for path in left if _is_of_run(path)]
    others = [path for path in left if path not in of_stores and path not in of_runs]
    lines = []
    if others:
        lines.append(f"delete {short_list([*map(str, others)], 3)}")
    if of_runs:
        folders = sorted({str(path.parent) for path in of_runs})
        lines.append(f"fit {short_list(folders, 3)} again with --overwrite")
    if of_stores:
        lines.append("run store verify, then forget again; if the store still names it, report that")
    return f"{len(left)} files still name what was forgotten (see above): {'; '.join(lines)}"


def _is_of_store(path: Path) -> bool:
    """Whether it is a file of a store, and not one that a repair has set aside."""
    return path.suffix != ".damaged" and any(
        (folder / name).exists() for folder in path.parents for name in FIRST_FILES
    )


def _is_of_run(path: Path) -> bool:
    is_file_of_run = path.name in FILES and (path.parent / "run.json").exists()
    return is_file_of_run or (
        path.parent.name == own_files.FOLDER and (path.parent.parent / "run.json").exists()
    )


def _load_runs(folder: Path) -> tuple[list[Run], list[str]]:
    loaded, unread = list[Run](), list[str]()
    for path in sorted(folder.rglob("run.json")):
        try:
            loaded.append(load_run(path.parent))
        except EncodeOnceError as error:
            unread.append(str(error))
    return loaded, unread


def _tables_of(runs: Sequence[Run], store: Store) -> list[str | None]:
    """For each run, the name of its table; None: it is of another store.

    A table that has moved, or whose project has, is found by its earlier sources, or by the names of its
    file and folder if no other table has these.
    """
    names = {
        source: header.name for header in store.headers() for source in (*header.moved_from, header.source)
    }

    def table_of(source: str) -> str:
        own = name_of(source)
        alike = {name for name in names.values() if name.rpartition("-")[0] == own.rpartition("-")[0]}
        return names.get(source) or (alike.pop() if len(alike) == 1 else own)

    place = store.location if store.mirror else os.path.realpath(store.path)

    def is_of_store(run: Run) -> bool:
        return place in (run.record.store, os.path.realpath(run.record.store))

    return [table_of(run.record.table) if is_of_store(run) else None for run in runs]


def _contents(
    store: Store, runs: Iterable[Run], of_runs: Iterable[str | None], names: frozenset[str]
) -> dict[str, dict[str, bytes]]:
    """For each name that rows have, in the store or in runs on it: table → a key of the row's content."""
    result: defaultdict[str, dict[str, bytes]] = defaultdict(dict)
    for table in map(store.load, store.headers()):
        of_rows = RowNames(names).of_rows(table)
        rows_of_names = table.take(np.array([*of_rows], np.intp))
        keys = content_keys(rows_of_names)
        keys = np.where(present(keys)[:, None], keys, rows_of_names.keys("row"))
        for of_row, key in zip(of_rows.values(), keys, strict=True):
            for name in of_row:
                result[name].setdefault(table.name, key.tobytes())
    for run, table_name in zip(runs, of_runs, strict=True):
        for rows in (run.validation, run.eval) if table_name else ():
            for row_id, key in zip(rows.ids, rows.keys, strict=True):
                if row_id in names:
                    result[row_id].setdefault(table_name or "", key.tobytes())
    return result


def _refuse_ambiguous(contents: Mapping[str, Mapping[str, bytes]]) -> None:
    different = [name for name, rows in contents.items() if len({*rows.values()}) > 1]
    if different:
        name = min(different)
        raise DataError(
            f"{name} is a different row in each of {short_list(sorted(contents[name]))}: --table NAME "
            f"forgets that of one, --all-tables all ({len(different)} such ids)"
        )


def _ids_in(table: str | None, names: RowNames, content: RemovedContent) -> frozenset[str]:
    """The ids that are meant in a run on this table."""
    return names.ids_in(table) | content.rows.get(table, frozenset()) if table else frozenset()


def _known_keys(
    runs: Iterable[Run],
    of_runs: Iterable[str | None],
    names: RowNames,
    others: Collection[str],
    files: Mapping[str, bytes],
) -> Keys:
    """The content keys of names: in runs on this store, in indexes of stores, of files, or keys themselves.

    others: names that no row has; they may be paths of files.
    """
    keys = [*files.values(), *(key.tobytes() for key in names.keys)]
    keys += [content_key(read_file(name)) for name in others if Path(name).is_file()]
    keys += [
        key.tobytes()
        for run, table in zip(runs, of_runs, strict=True)
        if table
        for rows in (run.validation, run.eval)
        for row_id, key in zip(rows.ids, rows.keys, strict=True)
        if row_id in names.ids_in(table)
    ]
    return pack(keys)


def _forget_in_runs(
    runs: Sequence[Run], ids: Sequence[frozenset[str]], store: Store, content: RemovedContent
) -> tuple[list[RunChange], list[str]]:
    """How runs were changed, and why others could not be."""
    changes, problems = list[RunChange](), list[str]()
    several = len(store.table_files()) > 1
    for run, in_run in zip(runs, ids, strict=True):
        try:
            change = forget_rows(run, in_run, content.all_keys)
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
    for name in ("labels", "split", "groups", "tune_on", "validation", "scale", "seed", "task"):
        if getattr(spec, name) != getattr(usual, name):
            words += [f"--{name.replace('_', '-')}", str(getattr(spec, name))]
    if spec.only_classes:
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(spec.only_classes)
        words += ["--classes", line.getvalue()]
    words += ["--hierarchy", str(run.path)] if spec.hierarchy else []
    rule, usual_rule = asdict(run.decision.spec), asdict(decision_of(spec.task, BY_TASK))
    if rule["objective"] != BY_HAND:
        if rule["decide"] != usual_rule["decide"] or rule["objective"] != usual_rule["objective"]:
            words += ["--objective", rule["objective"], "--decide", rule["decide"]]
        words += [] if rule["shrink"] else ["--no-shrink"]
    for name in ("calibrate", "at_least", "at_most"):
        if rule[name] != usual_rule[name]:
            words += [f"--{name.replace('_', '-')}", str(rule[name])]
    for name, value in asked(run).options.items():
        words += ["--set", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
    words += ["--data", short_path(record.table)] if name_data else []
    return [*words, "--store", short_path(record.store), "--run", str(run.path), "--overwrite"]


def _left_in_data(content: RemovedContent, names: Sequence[str]) -> list[str]:
    """The files of the data that still have the rows: their images, and tables that name them."""
    images = [path for path in content.images if os.path.lexists(path)]
    sources = [Path(source) for source in content.sources if Path(source).is_file()]
    return [*images, *map(str, search(sources, names))]
