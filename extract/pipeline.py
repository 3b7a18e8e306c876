"""Stage 1: a data folder → every encoder's vectors in a store, each image decoded once for all."""

import math
import os
import time
from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from encode_once.cache import DataError, Keys, Shard, Store, Table, UsageError
from encode_once.cache.captions import OWN, captioned, captioner, texts_of
from encode_once.cache.feature import REGIONS
from encode_once.cache.keys import present
from encode_once.extract import encoders
from encode_once.extract.encoders.base import RANDOM, Modality, Options, Tower
from encode_once.extract.errors import InputError, TooManyFailuresError
from encode_once.extract.images.hashing import add_keys
from encode_once.extract.readers import Columns, read
from encode_once.extract.report import Counts, Report, check_some_succeeded, failed_inputs
from encode_once.extract.workers import How, Job, distinct_inputs, encode_inputs


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
    keep_tables: bool = True,
) -> Report:
    """Encode what a store lacks of a data folder.

    Args:
        data: a folder with `train.csv` and/or `test.csv`, and images in `data/` or `images/`; or any other
            that `extract.readers` knows.
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
        keep_tables: whether the store keeps the data's tables, for `fit` to learn from.

    Raises:
        EncodeOnceError: the data, an encoder or the store cannot be used, or all inputs failed, or more
            than `max_failures`. Others that cannot be encoded raise nothing: they are in the report.
    """
    store = store if isinstance(store, Store) else Store(store)
    workers = workers or os.cpu_count() or 1
    device = choose_device(device)
    files = {name.removesuffix(REGIONS): file for name, file in (weights or {}).items()}
    wanted = encoders.wanted([*names, *filter(None, map(captioner, captions))])
    called = {asked: _named(asked, files) for asked in wanted}
    captions = [one if one == OWN else _renamed(one, called) for one in dict.fromkeys(captions)]
    made = []
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
    made = _with_something_to_encode(made, report, written=any(map(captioner, captions)))
    jobs = [Job(name, tower, store, file) for name, tower, file in made]
    unreadable: dict[str, InputError] = {}
    sources = [store.sources(table) for table in report.tables if keep_tables]  # as they were read
    for table in report.tables:
        unreadable |= add_keys(table, store.files, workers)
    for table, read_from in zip(report.tables, sources, strict=False):
        store.save(table, read_from)
    limit = _failures_left(max_failures, unreadable)
    how = How(device, workers, batch_size, shard or Shard(), retry_failed, limit, progress)
    of_images = [job for job in jobs if job.tower.modality == "image"]
    _encode(report, report.tables, of_images, how, unreadable)
    of_captions = [job for job in jobs if job.tower.modality == "caption"]
    kinds = [(kind, texts_of(kind, store)) for kind in captions]  # the captioners are done by now
    captioned_tables = [captioned(table, *kind) for kind in kinds for table in report.tables]
    _encode(report, captioned_tables, of_captions, how, {})
    report.seconds = time.perf_counter() - started
    check_some_succeeded(report)
    return report


def _with_something_to_encode(
    made: Sequence[tuple[str, Tower, str | None]], report: Report, *, written: bool
) -> list[tuple[str, Tower, str | None]]:
    """The towers, less those whose encoder has another one, and which the data has nothing for.

    So CLIP encodes a table of captions alone, or of images alone. `written`: whether captions are.
    """
    there = {one for one in get_args(Modality) for table in report.tables if any(table.contents(one))}
    there |= {"caption"} if written else set()
    busy = {name for name, tower, _ in made if tower.modality in there}
    for name, tower, _ in made:
        if name in busy and tower.modality not in there:
            report.warnings.append(
                f"{report.tables[0].source} has no {tower.modality}s: {name} encodes the rest"
            )
    return [one for one in made if one[0] not in busy or one[1].modality in there]


def _encode(
    report: Report,
    tables: Sequence[Table],
    jobs: Sequence[Job],
    how: How,
    unreadable: Mapping[str, InputError],
) -> None:
    """Give jobs of one modality the contents of the tables, and tell of it in the report."""
    if not jobs:
        return
    modality = jobs[0].tower.modality
    requested, inputs = distinct_inputs(tables, modality, how.shard)
    if not unreadable and not any(present(table.keys(modality)).any() for table in tables):
        encoding = ", ".join(job.encoder for job in jobs)
        raise DataError(f"{tables[0].source} has no {modality}s for {encoding}")
    before = _presence(jobs, requested)
    report.loading += encode_inputs(inputs, jobs, how)
    for job in jobs:
        of = ", ".join(feature.name for feature in job.features.values())
        report.warnings += [f"{of}: {remark}" for remark in job.tower.remarks()]
    rows_lost = sum(path in unreadable for table in tables for path in table.images)
    for name, there in _presence(jobs, requested).items():
        report.features[name] = Counts(
            encoded=int((there & ~before[name]).sum()),
            present=int(before[name].sum()),
            failed=int((~there).sum()) + rows_lost,
        )
    report.failures += failed_inputs(inputs, jobs, unreadable)


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
