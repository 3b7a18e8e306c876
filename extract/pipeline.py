"""Stage 1: a data folder → every encoder's vectors in a store, each image decoded once for all."""

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from cache import DataError, Keys, Shard, Store, Table, UsageError
from cache.keys import present
from cache.texts import OWN, captioned, captioner, texts_of
from extract import encoders
from extract.contents import add_keys
from extract.encoders.base import RANDOM, Modality, Options, Tower
from extract.encoding import Input, Job, distinct_inputs, encode_inputs
from extract.errors import InputError, TooManyFailuresError
from extract.inputs import Columns, read


@dataclass
class Counts:
    """What became of the rows a feature was asked for; each is counted once.

    A row whose table gives it no such content (an empty caption) is not asked for.
    """

    encoded: int = 0
    present: int = 0
    failed: int = 0


@dataclass(frozen=True)
class FailedInput:
    """An image or caption without a vector, and why."""

    input: str
    reason: str
    message: str
    features: tuple[str, ...]


@dataclass
class Report:
    """What an extraction did."""

    tables: list[Table]
    features: dict[str, Counts] = field(default_factory=dict)
    failures: list[FailedInput] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0  # of the work, once the libraries are imported
    loading: float = 0.0  # of these, what it took to load the encoders

    @property
    def samples(self) -> int:
        """Rows of all tables."""
        return sum(map(len, self.tables))

    def as_json(self) -> dict[str, Any]:
        """The report as the command line prints it."""
        return {
            "samples": self.samples,
            "features": {name: vars(counts) for name, counts in self.features.items()},
            "failures": [vars(failure) for failure in self.failures],
            "warnings": self.warnings,
            "seconds": round(self.seconds, 3),
        }


def encode(
    data: str | os.PathLike[str],
    names: Sequence[str],
    store: Store | str | os.PathLike[str] = "store",
    *,
    weights: Mapping[str, str] | None = None,
    device: str = "auto",
    precision: str = "auto",
    backend: str = "auto",
    compiled: bool = False,
    batch_size: int | None = None,
    workers: int | None = None,
    columns: Columns | None = None,
    images: str | os.PathLike[str] | None = None,
    label_separator: str | None = None,
    retry_failed: bool = False,
    max_failures: int | None = None,
    shard: Shard | None = None,
    progress: bool = True,
    captions: Sequence[str] = (OWN,),
) -> Report:
    """Encode what a store lacks of a data folder.

    Args:
        data: a folder with `train.csv` and/or `test.csv`, and images in `data/` or `images/`; or any other
            that `extract.inputs` knows.
        names: of encoders; `extract.encoders` knows them. With "/regions" behind it, the vectors of a
            picture's regions are kept, too.
        store: where vectors are kept.
        weights: encoder name → local file, or "random" for an untrained model.
        device: "auto", "cpu", "cuda", "cuda:1", …
        precision: of the arithmetic; "auto" is what the encoder's rows in the store have, else float16 on
            CUDA and float32 on a CPU.
        backend: what runs image networks on a CPU: "torch", "onnxruntime", or "auto", the faster of the two.
        compiled: have torch compile image networks.
        batch_size: inputs a step of the model; by default what suits the device.
        workers: threads that read, decode and prepare; by default one a core.
        columns: names of a table's columns, where they are not to be guessed.
        images: the folder of the images, where they are not beside the table.
        label_separator: between the labels of a row, where the table leaves doubt.
        retry_failed: try inputs again that failed before.
        max_failures: stop as soon as more inputs than that fail.
        shard: the share of the contents to encode; by default all. Several processes, each with a shard of
            its own, may fill one store at a time, or stores to be merged.
        progress: show a bar on stderr.
        captions: which ones the encoders of captions get: "table" for the table's own, "CAPTIONER" for those
            that this encoder writes of its images, "table+CAPTIONER" for both joined. It runs first.

    Raises:
        EncodeOnceError: the data, an encoder or the store cannot be used, or all inputs failed, or more
            than `max_failures`. Others that cannot be encoded raise nothing: they are in the report.
    """
    store = store if isinstance(store, Store) else Store(store)
    workers = workers or os.cpu_count() or 1
    device = choose_device(device)
    made = []
    files = {name.removesuffix(encoders.REGIONS): file for name, file in (weights or {}).items()}
    wanted = encoders.wanted([*names, *filter(None, map(captioner, captions))])
    called = {asked: _named(asked, files) for asked in wanted}
    captions = [one if one == OWN else _renamed(one, called) for one in dict.fromkeys(captions)]
    for asked, (name, file) in called.items():
        precise = _precision(name, store, device, precision)
        options = Options(file, precise, backend, compiled, regions=wanted[asked])
        made += [(name, tower, file) for tower in encoders.towers(name, options)]
    _check_captioners(captions, made)
    random = dict.fromkeys(name for name, _, file in made if file == RANDOM)
    warnings = [f"{name} has RANDOM weights: its vectors mean nothing" for name in random]

    started = time.perf_counter()  # by now the encoders' libraries are imported
    tables, oddities = read(data, columns=columns, images=images, label_separator=label_separator)
    report = Report(list(tables.values()), warnings=warnings + oddities)
    jobs = [Job(name, tower, store, file) for name, tower, file in made]
    shard = shard or Shard()
    unreadable: dict[str, InputError] = {}
    for table in report.tables:
        unreadable |= add_keys(table, store.files, workers)
        store.save(table)
    limit = _failures_left(max_failures, unreadable)
    for modality in get_args(Modality):
        mine = [job for job in jobs if job.tower.modality == modality]
        tables_then = report.tables
        if modality == "caption":
            written = [(one, texts_of(one, store)) for one in captions]
            tables_then = [captioned(table, *kind) for kind in written for table in report.tables]
        requested, inputs = distinct_inputs(tables_then, modality, shard)
        lost = unreadable if modality == "image" else {}
        if mine and not lost and not any(present(table.keys(modality)).any() for table in tables_then):
            raise DataError(f"{data} has no {modality}s for {', '.join(job.encoder for job in mine)}")
        before = _presence(mine, requested)
        report.loading += encode_inputs(
            inputs,
            mine,
            device,
            batch_size=batch_size,
            workers=workers,
            retry_failed=retry_failed,
            max_failures=limit,
            shard=shard,
            progress=progress,
        )
        for job in mine:
            of = ", ".join(feature.name for feature in job.features.values())
            report.warnings += [f"{of}: {remark}" for remark in job.tower.remarks()]
        rows_lost = sum(path in lost for table in report.tables for path in table.images)
        for name, there in _presence(mine, requested).items():
            report.features[name] = Counts(
                encoded=int((there & ~before[name]).sum()),
                present=int(before[name].sum()),
                failed=int((~there).sum()) + rows_lost,
            )
        report.failures += _failed(inputs, mine, lost)
    report.seconds = time.perf_counter() - started
    _check_some_succeeded(report)
    return report


def _named(asked: str, weights: Mapping[str, str]) -> tuple[str, str | None]:
    """What an encoder's features are called, and its weights: as given, or where its name says."""
    return (asked, weights[asked]) if asked in weights else encoders.named(asked)


def _renamed(captions: str, called: Mapping[str, tuple[str, str | None]]) -> str:
    """Captions by the name that their captioner's features have."""
    writer = captioner(captions) or ""
    return captions.removesuffix(writer) + called[writer][0]


def _check_captioners(captions: Sequence[str], made: Sequence[tuple[str, Tower, str | None]]) -> None:
    """Refuse captions of an encoder that writes none."""
    writers = {name for name, tower, _ in made if tower.modality == "image" and "text" in tower.specs}
    for writer in filter(None, map(captioner, captions)):
        if writer not in writers:
            raise UsageError(
                f"--captions: {writer} writes no captions; coca-b32 does, as extract --list shows"
            )


def _failures_left(allowed: int | None, unreadable: Mapping[str, InputError]) -> float:
    """How many more inputs may fail after those that cannot even be read."""
    left = math.inf if allowed is None else allowed - len(unreadable)
    if left < 0:
        path, error = next(iter(unreadable.items()))
        raise TooManyFailuresError(f"{len(unreadable)} images cannot be read, such as {path} ({error})")
    return left


def _check_some_succeeded(report: Report) -> None:
    for name, counts in report.features.items():
        if counts.failed and not counts.encoded + counts.present:
            first = next(failure for failure in report.failures if name in failure.features)
            raise DataError(
                f"{name}: all {counts.failed} inputs failed, such as {first.input}: "
                f"{first.reason} ({first.message})"
            )


def _presence(jobs: Sequence[Job], keys: Keys) -> dict[str, NDArray[np.bool_]]:
    """Feature → which rows it has, (n,)."""
    return {feature.name: feature.has(keys) for job in jobs for feature in job.features.values()}


def choose_device(wanted: str) -> str:
    """The device of that name; "auto" is a GPU where there is one."""
    if wanted != "auto":
        return wanted
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _precision(encoder: str, store: Store, device: str, wanted: str) -> str:
    """The precision to compute in: rows of one feature must not mix two."""
    if wanted != "auto":
        return wanted
    for name in store.features():
        if name.startswith(f"{encoder}/"):
            return str(store.feature(name).spec.get("precision", "float32"))
    return "float16" if device.startswith("cuda") else "float32"


def _failed(
    inputs: Sequence[Input], jobs: Sequence[Job], unreadable: Mapping[str, InputError]
) -> list[FailedInput]:
    """Every input that some feature has no row of."""
    features = [feature for job in jobs for feature in job.features.values()]
    names = tuple(feature.name for feature in features)
    failed = [FailedInput(path, e.reason, str(e), names) for path, e in unreadable.items() if features]
    why = [feature.failures() for feature in features]
    for one in inputs:
        of = {f.name: known[one.key] for f, known in zip(features, why, strict=True) if one.key in known}
        if of:
            first = next(iter(of.values()))
            failed.append(FailedInput(one.source, first.reason, first.message, tuple(of)))
    return failed
