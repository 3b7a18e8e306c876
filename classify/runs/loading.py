"""Runs are read from their folders; a damaged or foreign file is an error in one line."""

import os
from collections.abc import Iterable
from dataclasses import fields, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from safetensors import safe_open

from encode_once.cache import EncodeOnceError, MissingDataError
from encode_once.cache.aliases import CHAMPION, read_aliases, resolved
from encode_once.cache.format.files import open_without_links, typed
from encode_once.cache.format.replacement import whole
from encode_once.cache.format.spec_file import MODALITIES
from encode_once.cache.terminal import Log, print_message, short_list
from encode_once.classify.data.hierarchy import Hierarchy
from encode_once.classify.data.split_lists import with_list_files
from encode_once.classify.heads import state as states
from encode_once.classify.runs import own_files, upgrades
from encode_once.classify.runs.checksums import (
    CHECKSUMS,
    check_files,
)
from encode_once.classify.runs.model import Model, load_model
from encode_once.classify.runs.paths import absolute
from encode_once.classify.runs.reading import (
    RunError,
    read_history,
    read_json,
    read_rule,
    read_scores,
    reading,
)
from encode_once.classify.runs.record import RunRecord
from encode_once.classify.runs.run import CHECKED, FILES, HISTORY, RULE, SCORES, WEIGHTS, Run
from encode_once.classify.runs.upgrades import (
    FORMAT,
    SINCE,
    VERSION,
    WITH_CHECKSUMS,
    WITH_FOLD_RULES,
    WITH_HISTORY,
)
from encode_once.classify.spec import FitSpec

UNFINISHED = "unfinished"  # a file of versions before 7 while a decision rule was being written


def find_run(folders: Iterable[Path], identity: str | None = None) -> Run | None:
    """The run in the first of the folders that holds a whole run, of this identity if it is given."""
    for folder in folders:
        try:
            run = load_run(folder)
        except EncodeOnceError:
            continue
        if identity in (None, run.record.identity):
            return run
    return None


def load_run(path: str | os.PathLike[str], *, trust: bool = False, log: Log = print_message) -> Run:
    """Read a run's folder; the model is built when it is first used.

    Args:
        path: the folder, or FOLDER@ALIAS, see `cache.aliases`: the run is then the one of now.
        trust: use the code that the run names, if its copies have the recorded hashes, and a classifier that
            is restored as it was saved. Without, `model` of such a run raises `UntrustedError`.
        log: called with a line about each of these; by default it is printed on stderr.

    Raises:
        MissingDataError: there is no run there.
        RunError: one of its files is missing, altered or of an unknown version.
        UntrustedError: with `trust`, a copy has another hash.
    """
    path = resolved(os.fspath(path))
    with whole(path, FILES):
        return _load(path, trust, log)


def _load(path: Path, trust: bool, log: Log) -> Run:
    if not (path / "run.json").exists():
        inside = sorted(str(file.parent) for file in path.glob("*/run.json"))
        hint = f"; it holds the runs {short_list(inside)}" if inside else ""
        if aliases := read_aliases(path).aliases:
            hint += f"; {path}@{CHAMPION if CHAMPION in aliases else min(aliases)} is one of them"
        raise MissingDataError(f"{path} is not a run: it has no run.json{hint}")
    content = read_json(path / "run.json")
    with reading(path / "run.json"):
        version = _version(path, content)
        spec, record = _parsed(path, upgrades.record(content, version))
    has_checksums = version >= WITH_CHECKSUMS or (path / CHECKSUMS).exists()
    checksums, weights = check_files(path, CHECKED) if has_checksums else None, path / WEIGHTS
    with reading(weights), open_without_links(weights), safe_open(weights, "numpy") as file:
        restored = any(states.is_restored(name) for name in file.keys())  # noqa: SIM118 — it is no mapping
    checksum = checksums.get(WEIGHTS, "") if checksums is not None else None
    if trust:
        own_files.approve(path, record.own_code, trust, log)
        if restored:
            own_files.approve_restoring(weights, checksum or "", trust, log)

    @cache
    def model() -> Model:
        with own_files.using(path, record.own_code):
            if restored:
                own_files.approve_restoring(weights, checksum or "", trust, lambda line: None)
            return load_model(weights, checksum, version, spec, record)

    scores = read_scores(path / SCORES, record.classes, len(record.features), version)
    folds = 0 if scores.eval.folds is None else int(scores.eval.folds.max()) + 1
    decision = read_rule(path / RULE, record.classes, folds, version)
    history = read_history(path / HISTORY) if version >= WITH_HISTORY or (path / HISTORY).exists() else []
    validation, evaluated, fitted_on = scores.validation, scores.eval, scores.fitted_on
    learns = spec.tune_on == "inner" and decision.spec.learns
    if version < WITH_FOLD_RULES and learns and evaluated.folds is not None and not decision.folds:
        rules = decision.spec.fit_folds(evaluated.scores, evaluated.labels, evaluated.folds)
        decision = replace(decision, folds=rules)
    decision = decision.with_pairs(Hierarchy(spec.hierarchy).pairs(record.classes))
    return Run(path, spec, record, model, validation, evaluated, fitted_on, decision, history, version)


def _version(folder: Path, content: dict[str, Any]) -> int:
    """The version of a run, by the content of its `run.json`."""
    name, version = content["format"], content["version"]
    if name != FORMAT or type(version) is not int:
        raise RunError(f"{folder} is no {FORMAT}, but version {version} of {name!r}")
    if version > VERSION:
        raise RunError(
            f"{folder} was written by a newer encode-once (version {version}; this program reads versions "
            f"{SINCE} to {VERSION}): update encode-once"
        )
    if version < SINCE:
        raise RunError(
            f"{folder} holds version {version}, but this program reads versions {SINCE} to {VERSION}: fit it "
            "again"
        )
    if (folder / UNFINISHED).exists() and version < WITH_CHECKSUMS:
        raise RunError(
            f"{folder} has files of two decision rules, as a command was interrupted: tune it with the "
            "program that wrote it, or fit it again"
        )
    return version


def _parsed(folder: Path, content: dict[str, Any]) -> tuple[FitSpec, RunRecord]:
    """The spec and the record in the content of a `run.json` of the current version."""
    recorded = {field.name for field in fields(RunRecord)} & content.keys()
    record = typed(RunRecord, {name: content[name] for name in recorded})
    if len(set(record.classes)) < len(record.classes) or not record.classes:
        raise ValueError("classes occur twice, or there are none")
    features = [*record.stored.values(), *record.captioners.values()]
    paths = [record.store, record.table, *(feature.weights_file or "" for feature in features)]
    if any("\0" in text for text in [*paths, content["split"]]):
        raise ValueError("a path holds the character 0")
    record = record.with_paths(partial(absolute, folder=folder))
    content["split"] = with_list_files(content["split"], partial(absolute, folder=folder))
    for feature in features:
        if feature.spec.get("modality") not in MODALITIES or feature.dim < 1 or feature.length < 1:
            raise ValueError("a feature has no modality, width or length")
    assert record.encoders is not None  # raises for a name that is none
    content = content | {"decision": content["tuning"], "data": record.table}
    spec = {field.name: content[field.name] for field in fields(FitSpec)}
    parsed = typed(FitSpec, spec | {"features": [*record.features]})
    own_files.check_record(record.own_code, [parsed.head, dict(parsed.options)])
    return parsed, record
