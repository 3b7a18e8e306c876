"""What a row costs stage 1, next to the store: its image, its vectors, and its line of the table."""

import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import mean, median
from typing import get_args

from encode_once.cache import Store, UsageError
from encode_once.cache.bench.peak_memory import peak_traced
from encode_once.cache.bench.stopwatch import timed
from encode_once.cache.device import device_name
from encode_once.cache.process import cores
from encode_once.cache.views import without_view
from encode_once.extract import encoders
from encode_once.extract.batches import Row, encode_in_batches
from encode_once.extract.bench.throughput import first_rows
from encode_once.extract.bench.unchanged import write_captions
from encode_once.extract.encoders.base import EXACT, Modality, Options, torch_threads
from encode_once.extract.errors import InputError
from encode_once.extract.images.decode import quiet_pillow
from encode_once.extract.images.hashing import add_keys, read_file
from encode_once.extract.pipeline import encode
from encode_once.extract.readers import read
from encode_once.extract.workers import Input, Job, distinct_inputs


@dataclass(frozen=True)
class EncodingCost:
    """What a row takes to read and encode.

    Attributes:
        rows: number of rows that were measured.
        read: seconds, to read the image and hash it.
        encode: seconds, to read it again, decode and prepare it, and compute all vectors; also of captions.
        image_bytes: of the image's file.
        width: number of float16 values in all its vectors and sequences of them.
        vector_width: number of values in its vectors, without sequences, which heads learn from.
        features: number of features that these are in.
    """

    rows: int
    read: float
    encode: float
    image_bytes: float
    width: float
    vector_width: float
    features: int


def encoding_cost(
    data: str,
    encoder: str,
    *,
    weights: Mapping[str, str] | None = None,
    device: str = "auto",
    backend: str = "auto",
    rows: int = 1000,
    repeats: int = 3,
) -> EncodingCost:
    """Read, hash and encode the first rows of a table as `extract` does, but without a store.

    Seconds are medians of rounds, with all cores.

    Raises:
        UsageError: the data has nothing for the encoder.
    """
    device, workers = device_name(device), cores()
    precision = "float16" if device.startswith("cuda") else EXACT  # as `extract` by default
    options = Options((weights or {}).get(without_view(encoder)), precision, backend)
    table = first_rows(next(iter(read(Path(data))[0].values())), rows)
    with tempfile.TemporaryDirectory() as folder, torch_threads(1), quiet_pillow():
        stores = [Store(Path(folder) / str(number)) for number in range(repeats)]
        to_read = median(timed(partial(add_keys, table, store.files, workers))[0] for store in stores)
        jobs = [
            Job(encoder, tower, stores[0], options.weights) for tower in encoders.towers(encoder, options)
        ]
        passes: list[tuple[Sequence[Input], list[Job]]] = []
        for modality in get_args(Modality):
            _, distinct = distinct_inputs([table], modality)
            if of_modality := [job for job in jobs if distinct and job.tower.modality == modality]:
                passes.append((distinct, of_modality))
        if not passes:
            raise UsageError(f"{data} has nothing that {encoder} encodes")
        for inputs, of_modality in passes:
            for job in of_modality:
                job.load(device, workers, None, len(inputs))
        seconds, widths = timed(lambda: [_widths(*of_pass, workers) for of_pass in passes], repeats)
    images = {path for path in table.images if path}
    return EncodingCost(
        rows=len(table),
        read=to_read / len(table),
        encode=seconds / len(table),
        image_bytes=mean(len(read_file(path)) for path in images) if images else 0.0,
        width=sum(width for width, _ in widths),
        vector_width=sum(width for _, width in widths),
        features=sum(len(job.names) for _, of_modality in passes for job in of_modality),
    )


def _widths(inputs: Sequence[Input], jobs: Sequence[Job], workers: int) -> tuple[float, float]:
    """Encode inputs; returns `width` and `vector_width` of `EncodingCost`."""
    rows: list[Row] = []
    with ThreadPoolExecutor(workers) as pool:
        for _, encoded in encode_in_batches([(item, jobs) for item in inputs], jobs, workers, pool):
            of_outputs = chain.from_iterable(results.values() for _, _, results in encoded)
            rows += [row for row in chain.from_iterable(of_outputs) if not isinstance(row, InputError)]
    sizes = [(row.nbytes / 2, row.ndim) for row in rows]
    return (
        sum(size for size, _ in sizes) / len(inputs),
        sum(size for size, dimensions in sizes if dimensions == 1) / len(inputs),
    )


@dataclass(frozen=True)
class TableCost:
    """What a row of a CSV file with an id, a label and a caption takes.

    Attributes:
        read: seconds, to read it and save it in the store's table.
        load: seconds, to read it from there.
        bytes: in the store's table.
        memory: bytes that the process holds to read it, at most.
    """

    read: float
    load: float
    bytes: float
    memory: float


def table_cost(few: int, many: int, repeats: int = 3) -> TableCost:
    """The difference of two tables, of few and of many rows, so that what is done once does not count."""
    small, large = (_table_totals(rows, repeats) for rows in (few, many))
    return TableCost(*(max(0.0, b - a) / (many - few) for a, b in zip(small, large, strict=True)))


def _table_totals(rows: int, repeats: int) -> tuple[float, float, float, float]:
    """The attributes of `TableCost`, of all rows together."""
    with tempfile.TemporaryDirectory() as folder:
        write_captions(Path(folder) / "train.csv", rows)
        store = Store(Path(folder) / "store")

        def read_and_save() -> None:
            encode(folder, [], store, progress=False)

        to_read, _ = timed(read_and_save, repeats)
        to_load, _ = timed(store.tables, repeats)
        size = sum(path.stat().st_size for path in store.table_files())
        return to_read, to_load, size, peak_traced(read_and_save)
