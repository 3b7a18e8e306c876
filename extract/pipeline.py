"""Stage 1: encode a data folder with several encoders into a store, decoding each image once."""

import math
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from encode_once.cache import DataError, Keys, Shard, Store, Table, UsageError
from encode_once.cache.captions import captioner_feature, with_captions
from encode_once.cache.errors import collected
from encode_once.cache.names import OWN, TEXT, FeatureName, captioner, with_captioner, without_output
from encode_once.cache.places import is_below
from encode_once.cache.source_files import SourceFile
from encode_once.cache.views import without_view
from encode_once.extract import encoders
from encode_once.extract.corrections import correct, dropped
from encode_once.extract.encoders.base import (
    BIT_DEPTH,
    RANDOM,
    TRIAL,
    Modality,
    Options,
    Tower,
)
from encode_once.extract.engines import Engine, engine_named
from encode_once.extract.errors import InputError, TooManyFailuresError
from encode_once.extract.images.bit_depth import common_bit_depth
from encode_once.extract.images.formats import FULL_DEPTH
from encode_once.extract.images.hashing import add_keys
from encode_once.extract.precisions import Precisions
from encode_once.extract.readers import Columns, Reading, Uncertain, allowed_urls, understand
from encode_once.extract.readers.table_builder import NO_IMAGE
from encode_once.extract.remote.session import allowing
from encode_once.extract.report import Counts, Report, check_some_succeeded, failed_inputs
from encode_once.extract.shards import Share
from encode_once.extract.workers import EncodeSettings, EncodingPass, Job

NOT_ENCODED = "not encoded"  # the end of a warning about encoders for which the data has nothing


def encode(
    data: str | os.PathLike[str] | Table,
    names: Sequence[str],
    store: Store | str | os.PathLike[str] = "store",
    *,
    weights: Mapping[str, str] | None = None,
    device: str = "auto",
    precision: str = "auto",
    min_cosine: float | None = None,
    backend: str = "auto",
    compiled: bool = False,
    batch_size: int | None = None,
    workers: int | None = None,
    columns: Columns | None = None,
    images: str | os.PathLike[str] | Sequence[str] | None = None,
    label_separator: str | None = None,
    retry_failed: bool = False,
    max_failures: int | None = None,
    shard: Shard | None = None,
    engine: str = "local",
    actors: int | None = None,
    progress: bool = True,
    captions: Sequence[str] = (OWN,),
    features: Collection[str] | None = None,
    keep_tables: bool = True,
    skip_bad_rows: bool = False,
    bit_depth: int | None = None,
    classes: Sequence[str] = (),
    uncertain: Uncertain | None = None,
    unknown: Sequence[str] = (),
    keep_text: bool = False,
    corrections: str | os.PathLike[str] | None = None,
    label_sets: Sequence[str] = (),
    allow_urls: Sequence[str] = (),
    on_read: Callable[[Reading], None] = lambda reading: None,
    select: Callable[[Sequence[Table]], Sequence[Table]] = lambda tables: tables,
    log: Callable[[str], None] = lambda line: None,
) -> Report:
    """Encode the images and captions of a data folder that are missing in a store.

    Args:
        data: a folder with `train.csv` and/or `test.csv`, and images in `data/` or `images/`; or any other
            input that `extract.readers` supports; or the URL of one; or a table, for which no column is
            looked for.
        names: names of encoders, see `extract.encoders`. The suffix "/regions" also stores vectors of the
            image's regions.
        store: the store, or its path.
        weights: encoder name → local file, or "random" for an untrained model, whose features are named
            ENCODER+random/OUTPUT.
        device: "auto", "cpu", "cuda", "cuda:1", …
        precision: of computation; "auto" is the precision of the encoder's features in the store, else
            float16 on CUDA and float32 on a CPU. "fast" is the same, but for at least 500 inputs on a CPU
            bfloat16 if that is faster in a short measurement and passes the comparison with float32.
        min_cosine: the least cosine between vectors in reduced precision and in float32, on up to 64 inputs;
            by default .9999 for bfloat16 and .999 for float16. A new feature with less is an error, or with
            "auto" and "fast" float32.
        backend: runs image networks on a CPU: "torch", "onnxruntime", or "auto", the faster of the two.
        compiled: whether to run image networks through torch.compile.
        batch_size: inputs per step of the model; the default depends on the encoder and the device.
        workers: number of threads that read, decode and prepare; by default one per core. With Ray, those of
            each actor, for which as many cores are reserved; see `ray_engine`.
        columns: names of a table's columns; by default they are guessed.
        images: the folder of the images, or several, each as `DIR` or `SPLIT=DIR`, or URLs; by default
            images are looked for in the data folder.
        label_separator: between the labels of a row; by default it is inferred from the labels.
        retry_failed: retry inputs that failed before.
        max_failures: stop as soon as more inputs fail.
        shard: the part of the contents to encode; by default all. Several processes with different shards can
            write to the same store at the same time, or to stores that are merged later.
        engine: what runs the encoders: "local", this process, or "ray", actors of a Ray cluster (the one of
            RAY_ADDRESS, or else one on this machine) that see the store's folder and the images.
        actors: with Ray, the most processes that encode; by default as many as fit, also later.
        progress: show a progress bar on stderr.
        captions: the captions for caption encoders: "table" for the table's captions, "CAPTIONER" for those
            generated by this encoder, "table+CAPTIONER" for both joined. The captioner runs first.
        features: those to store, `ENCODER/OUTPUT`, besides generated captions; by default all that the
            encoders make.
        keep_tables: whether the store keeps the data's tables, for `fit` to learn from.
        skip_bad_rows: leave out rows that cannot be read, with a warning; by default they are an error.
        classes, uncertain, unknown, keep_text: how labels and captions are read, see `readers.understand`.
        corrections: a file of corrections of labels, see `extract.corrections`.
        label_sets: further labels of the rows, for `fit` to choose from, see `readers.understand`.
        allow_urls: URLs below which images are fetched, in addition to those of the data and of `images`.
        on_read: called with what was understood of the data, before anything is encoded.
        log: called with what is decided about the precision, before anything is encoded; it is also in the
            report's warnings.
        select: the tables to encode, of those that the data has.
        bit_depth: bits that 16-bit grey images use; by default those of the encoder's rows in the store, else
            those that the files say or, with a warning, that the largest value of all these images needs.

    Raises:
        EncodeOnceError: the data, an encoder or the store cannot be used, or all inputs or more than
            `max_failures` failed. Other failures raise no error: they are in the report.
    """
    store = store if isinstance(store, Store) else Store(store)
    urls = allowed_urls(data, images, allow_urls)
    with allowing(urls), engine_named(engine, actors, store) as encoding_engine:
        late = store.upload()
        threads, device = encoding_engine.threads(workers), encoding_engine.device(device)
        workers, shard = workers or os.cpu_count() or 1, shard or Shard()
        precisions = Precisions(store, device, precision, min_cosine, shard)
        common = Options(backend=backend, compiled=compiled)
        jobs, captions = _requested_jobs(names, captions, weights or {}, common, bit_depth, precisions)
        jobs = _needed(jobs, features, captions)
        random = dict.fromkeys(job.encoder for job in jobs if job.weights == RANDOM)
        warnings = [f"{name} has RANDOM weights: its vectors are meaningless" for name in random]
        if late.parts:
            warnings.append(f"{late} of an earlier command were sent to {store.location} first")

        started = time.perf_counter()  # after the encoders' libraries are imported
        report = _understood(
            data,
            corrections,
            on_read,
            columns=columns,
            images=images,
            label_separator=label_separator,
            classes=tuple(classes),
            uncertain=uncertain,
            unknown=tuple(unknown),
            keep_text=keep_text,
            skip_bad_rows=skip_bad_rows,
            needs_content=bool(jobs),
            label_sets=label_sets,
            allow_urls=allow_urls,
            earlier_label_sets=earlier_label_sets(data, store) if keep_tables else (),
        )
        report.warnings = warnings + report.warnings
        report.tables = list(select(report.tables))
        if keep_tables:
            report.warnings += dropped(report.tables, store)
        generated = any(map(captioner, captions))
        jobs = _with_data(jobs, report, generated=generated)
        unreadable: dict[str, InputError] = {}
        sources = [store.sources(table) for table in report.tables if keep_tables]  # as they were read
        for table in report.tables:
            table.named_columns = columns.as_names() if columns else {}
            table.unknown_marks, table.uncertain = [*unknown], uncertain or ""
        shares = [Share(table, shard) for table in report.tables]
        tables = [share.table for share in shares]
        for table in tables:
            unreadable |= add_keys(table, store.files, workers, progress=progress)
        limit = _failures_left(max_failures, unreadable)
        settings = EncodeSettings(
            device,
            threads,
            batch_size,
            shard,
            backend=backend,
            compiled=compiled,
            retry_failed=retry_failed,
            max_failures=limit,
            progress=progress,
            urls=tuple(urls),
        )
        image_jobs = [job for job in jobs if job.tower.modality == "image"]
        caption_jobs = [job for job in jobs if job.tower.modality == "caption"]
        _set_bit_depth(image_jobs, bit_depth, report, workers)
        passes = _passes(report, tables, image_jobs, settings, log, encoding_engine)
        if not generated:
            passes += _passes(report, tables, caption_jobs, settings, log, encoding_engine)
        for share, read_from in zip(shares, sources, strict=False):  # not before all encoders are loaded
            report.warnings += _saved(store, share, read_from)
        for encoding_pass in passes:
            _encode(report, encoding_pass, unreadable)
        if generated:
            check_some_succeeded(report)
            kinds = [(kind, captioner_feature(kind, store)) for kind in captions]
            captioned = [with_captions(table, *kind) for kind in kinds for table in tables]
            for encoding_pass in _passes(report, captioned, caption_jobs, settings, log, encoding_engine):
                _encode(report, encoding_pass, unreadable)
    report.seconds = time.perf_counter() - started
    store.upload()  # also what was recovered, and failures
    report.uploads = store.uploads
    check_some_succeeded(report)
    return report


def earlier_label_sets(data: str | os.PathLike[str] | Table, store: Store) -> list[str]:
    """The label sets of the saved tables of the data, as the user wrote them."""
    if isinstance(data, Table):
        return []
    texts = dict[str, str]()
    with collected([]):  # a damaged table is replaced
        for header in store.headers():
            if is_below(header.source, data):
                texts |= store.saved_label_sets(header)
    return [*texts.values()]


def _understood(
    data: str | os.PathLike[str] | Table,
    corrections: str | os.PathLike[str] | None,
    on_read: Callable[[Reading], None],
    **options: Any,
) -> Report:
    """The tables of the data, corrected; options: of `readers.understand`."""
    if isinstance(data, Table):
        return Report([data])
    reading = understand(data, **options)
    correct(reading, corrections)
    on_read(reading)
    return Report(list(reading.tables.values()), reading=reading, warnings=reading.warnings)


def _saved(store: Store, share: Share, read_from: Sequence[SourceFile]) -> list[str]:
    """Save the whole table of a share; returns a warning for each table that it replaces."""
    table = share.whole()
    return [
        f"{table.source} has the rows of {source}, which is gone: it replaces that table"
        for source in store.save(table, read_from, replace_moved=True, is_shard=share.is_part)
    ]


def _with_data(jobs: Sequence[Job], report: Report, *, generated: bool) -> list[Job]:
    """Drop towers whose modality is absent from the data, if others remain.

    So CLIP can encode a table with only captions or only images. `generated`: whether captions are generated.
    """
    modalities = {
        modality
        for modality in get_args(Modality)
        if any(any(sources) for table in report.tables for sources in table.sources(modality))
    }
    if generated:
        modalities.add("caption")
    with_data = [job for job in jobs if job.tower.modality in modalities]
    if not with_data:
        return list(jobs)  # there is nothing to encode, which is an error
    for modality in get_args(Modality):
        names = [name for job in jobs if job.tower.modality == modality for name in job.names.values()]
        if names and modality not in modalities:
            report.warnings.append(
                f"{report.tables[0].source} has no {modality}s: {', '.join(names)} {NOT_ENCODED}"
            )
    return with_data


def _passes(
    report: Report,
    tables: Sequence[Table],
    jobs: Sequence[Job],
    settings: EncodeSettings,
    log: Callable[[str], None],
    engine: Engine,
) -> list[EncodingPass]:
    """The pass of jobs of one modality over the tables, with loaded towers; none if there are no jobs."""
    if not jobs:
        return []
    encoding_pass = engine.start(tables, jobs, settings)
    modality = encoding_pass.modality
    with_others = tables if settings.shard.count == 1 else [*tables, *report.tables]
    if not any(any(sources) for table in with_others for sources in table.sources(modality)):
        names = ", ".join(job.encoder for job in jobs)
        reason = next(
            (f": {line}" for line in report.warnings if modality == "image" and NO_IMAGE in line), ""
        )
        raise DataError(f"{tables[0].source} has no {modality}s for {names}{reason}")
    started = time.perf_counter()
    encoding_pass.load()
    report.loading += time.perf_counter() - started
    for note in (note for job in jobs for note in job.notes):
        report.warnings.append(note)
        log(note)
    return [encoding_pass]


def _encode(report: Report, encoding_pass: EncodingPass, unreadable: Mapping[str, InputError]) -> None:
    """Run a pass, and add the result to the report."""
    jobs, keys = encoding_pass.jobs, encoding_pass.keys
    failed = unreadable if encoding_pass.modality == "image" else {}
    before = _presence(jobs, keys)
    encoding_pass.encode()
    for job in jobs:
        names = ", ".join(job.names.values())
        report.warnings += [f"{names}: {remark}" for remark in encoding_pass.remarks(job)]
    failed_rows = sum(path in failed for table in encoding_pass.tables for path in table.images if failed)
    for name, after in _presence(jobs, keys).items():
        report.features[name] = Counts(
            encoded=int((after & ~before[name]).sum()),
            present=int(before[name].sum()),
            failed=int((~after).sum()) + failed_rows,
        )
    report.add_failures(failed_inputs(encoding_pass, failed))


def _requested_jobs(
    names: Sequence[str],
    captions: Sequence[str],
    weights: Mapping[str, str],
    common: Options,
    bit_depth: int | None,
    precisions: Precisions,
) -> tuple[list[Job], list[str]]:
    """The jobs of the encoders that are named, also by captions, and the kinds of captions in feature names.

    common: the options that all encoders share.
    """
    files = {without_output(name): file for name, file in weights.items()}
    regions = encoders.requested([*names, *filter(None, map(captioner, captions))])
    resolved = {requested: _resolve(requested, files) for requested in regions}
    kinds = [kind if kind == OWN else _renamed(kind, resolved) for kind in dict.fromkeys(captions)]
    options = {
        name: replace(common, weights=file, precision=precisions.of(name), regions=regions[requested])
        for requested, (name, file) in resolved.items()
    }
    jobs = _jobs(options, bit_depth, precisions)
    precisions.set_rules(jobs, common.backend)
    _check_captioners(kinds, jobs)
    return jobs, kinds


def _resolve(requested: str, weights: Mapping[str, str]) -> tuple[str, str | None]:
    """An encoder's name in feature names, and its weights: from `weights`, or from the requested name."""
    encoder = without_view(requested)
    if encoder.endswith(TRIAL) or weights.get(encoder) == RANDOM:
        return encoders.trial_name(requested), RANDOM
    return (requested, weights[encoder]) if encoder in weights else encoders.named(requested)


def _renamed(captions: str, resolved: Mapping[str, tuple[str, str | None]]) -> str:
    """The kind of captions with the captioner's name in feature names."""
    return with_captioner(captions, resolved[captioner(captions) or ""][0])


def _needed(jobs: Sequence[Job], features: Collection[str] | None, captions: Sequence[str]) -> list[Job]:
    """The jobs that make these features or the captions, and store no others; all if `features` is None."""
    if features is None:
        return [*jobs]
    needed = {*features, *(f"{writer}/{TEXT}" for writer in map(captioner, captions) if writer)}
    for job in jobs:
        job.keep(needed)
    return [job for job in jobs if job.names]


def _check_captioners(captions: Sequence[str], jobs: Sequence[Job]) -> None:
    """Raise if an encoder that generates no captions is used as a captioner."""
    writers = {job.encoder for job in jobs if job.tower.modality == "image" and TEXT in job.names}
    for writer in filter(None, map(captioner, captions)):
        if writer not in writers:
            raise UsageError(
                f"--captions: {writer} writes no captions; use a captioner such as coca-b32 (extract --list)"
            )


def _failures_left(allowed: int | None, unreadable: Mapping[str, InputError]) -> float:
    """How many more inputs may fail after those that cannot be read."""
    left = math.inf if allowed is None else allowed - len(unreadable)
    if left < 0:
        path, error = next(iter(unreadable.items()))
        raise TooManyFailuresError(f"{len(unreadable)} images cannot be read, such as {path} ({error})")
    return left


def _presence(jobs: Sequence[Job], keys: Keys) -> dict[str, NDArray[np.bool_]]:
    """Feature → whether it has each row, (n,)."""
    return {name: has for job in jobs for name, has in job.has(keys).items()}


def _jobs(encoders: Mapping[str, Options], bit_depth: int | None, precisions: Precisions) -> list[Job]:
    """A job for each tower of the encoders; that of captions is named without a view, and there once."""
    store = precisions.store
    jobs: dict[tuple[str, ...], Job] = {}  # by features
    for name, options in encoders.items():
        for tower in _towers(name, options, store, bit_depth):
            encoder = name if tower.modality == "image" else without_view(name)
            job = Job(encoder, precisions.own(encoder, tower), store, options.weights)
            jobs.setdefault((*job.names.values(),), job)
    return [*jobs.values()]


def _towers(encoder: str, options: Options, store: Store, bit_depth: int | None) -> list[Tower]:
    """An encoder's towers, with the given bit depth, or that of their rows in the store."""
    towers = encoders.towers(encoder, options)
    for tower in towers:
        if tower.modality == "image":
            names = {str(FeatureName(encoder, output)) for output in tower.specs} & {*store.features()}
            depths = [int(store.feature(name).spec.get(BIT_DEPTH, FULL_DEPTH)) for name in names]
            tower.set_bit_depth(bit_depth or min(depths, default=FULL_DEPTH))
    return towers


def _set_bit_depth(jobs: Sequence[Job], bit_depth: int | None, report: Report, workers: int) -> None:
    """Find the bit depth of the data's 16-bit images, for encoders without rows in the store."""
    new = [job for job in jobs if not job.has_rows]
    if bit_depth is None and new:
        paths = [*dict.fromkeys(path for table in report.tables for path in table.images if path)]
        depth, warnings = common_bit_depth(paths, workers)
        report.warnings += warnings
        for job in new:
            job.set_bit_depth(depth)
