"""Measure a Predictor: rows per second compared with an extraction, and one row with the networks alone."""

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from encode_once.cache import Store, Table, UsageError
from encode_once.deploy.predictor import Predictor
from encode_once.extract.batches import DecodedInput, TowerRunner
from encode_once.extract.bench.throughput import first_rows
from encode_once.extract.compute import ComputeOptions
from encode_once.extract.images.decode import quiet_pillow
from encode_once.extract.images.hashing import add_keys, read_file
from encode_once.extract.readers import read
from encode_once.extract.workers import EncodeSettings, EncodingPass, Job

WARM_UP = 3  # rows that are labelled before the clock starts


def rates(
    run: str,
    data: str,
    *,
    rows: int = 500,
    single: int = 50,
    repeats: int = 3,
    compute: ComputeOptions = ComputeOptions(),
    **options: Any,
) -> dict[str, Any]:
    """Rows per second and milliseconds for one row: medians of rounds in which each is timed in turn.

    `batch_per_s` is a Predictor that is called with all rows at once; `extract_per_s` is an extraction of the
    same rows with the same loaded encoders into a new store, from hashing the files to the last commit.
    `single_ms` is the Predictor called with one row, `networks_ms` its networks on the same prepared input.

    Args:
        rows: number of rows, taken from the start of the table.
        single: rows of them that are also labelled one by one.
        compute, options: of the Predictor, which has a thread for each core.

    Raises:
        UsageError: the run needs no encoder, or captions that a captioner writes.
    """
    predictor = Predictor(run, compute=replace(compute, workers=os.cpu_count()), **options)
    record = predictor.run.record
    if not predictor.runners or record.captioners:
        raise UsageError(f"{run} has no encoders, or captions of a captioner, which are not timed")
    table = first_rows(next(iter(read(Path(data))[0].values())), rows)
    images = table.images if any(runner.tower.modality == "image" for runner in predictor.runners) else None
    captions = (
        table.captions if any(runner.tower.modality == "caption" for runner in predictor.runners) else None
    )

    def batch(chosen: slice) -> None:
        predictor(images and images[chosen], captions and captions[chosen])

    batch(slice(WARM_UP))
    for row in range(WARM_UP):
        batch(slice(row, row + 1))
    rounds = [
        {
            "extract": _timed(lambda: _extract(table, predictor)),
            "batch": _timed(lambda: batch(slice(None))),
            **_single(predictor, table, batch, min(single, len(table))),
        }
        for _ in range(repeats)
    ]
    seconds = {part: median(times[part] for times in rounds) for part in rounds[0]}
    return {
        "rows": len(table),
        "device": predictor.device,
        "threads": os.cpu_count() or 1,
        "features": [*record.features],
        "backends": {r.encoder: r.tower.provenance().get("backend", "") for r in predictor.runners},
        "extract_per_s": len(table) / seconds["extract"],
        "batch_per_s": len(table) / seconds["batch"],
        "batch_over_extract": seconds["extract"] / seconds["batch"],
        "single_ms": 1000 * seconds["single"],
        "networks_ms": 1000 * seconds["networks"],
        "prepare_ms": 1000 * seconds["prepare"],
        "single_over_networks": seconds["single"] / seconds["networks"],
    }


def _timed(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def _extract(table: Table, predictor: Predictor) -> None:
    """Encode the rows into a new store, with the loaded encoders of the predictor."""
    threads = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        fresh = replace(table, image_keys=None, caption_keys=None)
        add_keys(fresh, store.files, threads)
        settings = EncodeSettings(predictor.device, threads)
        for modality in ("image", "caption"):
            runners = [runner for runner in predictor.runners if runner.tower.modality == modality]
            jobs = [Job(runner.encoder, runner.tower, store, runner.weights) for runner in runners]
            for job in jobs:
                job.set_pace(predictor.device, threads)
            if jobs:
                EncodingPass([fresh], jobs, settings).encode()


def _single(
    predictor: Predictor, table: Table, label: Callable[[slice], None], rows: int
) -> Mapping[str, float]:
    """Median seconds of one row: labelled from its file, read and prepared, and in the networks alone."""
    times: dict[str, list[float]] = {"single": [], "prepare": [], "networks": []}
    with quiet_pillow():
        for row in range(rows):
            times["single"].append(_timed(lambda row=row: label(slice(row, row + 1))))  # type: ignore[misc]
            started = time.perf_counter()
            prepared = [(runner, _prepared(runner, table, row)) for runner in predictor.runners]
            times["prepare"].append(time.perf_counter() - started)
            started = time.perf_counter()
            for runner, item in prepared:
                runner.tower.encode([item])
            times["networks"].append(time.perf_counter() - started)
    return {part: median(seconds) for part, seconds in times.items()}


def _prepared(runner: TowerRunner, table: Table, row: int) -> Any:
    if runner.tower.modality == "caption":
        return DecodedInput(text=table.captions[row]).prepared(runner.tower)
    return DecodedInput(content=read_file(table.images[row])).prepared(runner.tower)


def text(result: Mapping[str, Any]) -> str:
    """Format the figures for a terminal."""
    features, device = ", ".join(result["features"]), result["device"]
    backends = [f"{encoder} with {backend}" for encoder, backend in result["backends"].items() if backend]
    return "\n".join(
        [
            f"{result['rows']} rows, {features}, on {device}, {result['threads']} threads:",
            *backends,
            f"  rows per second, in one call   {result['batch_per_s']:8,.1f}",
            f"  rows per second, extraction    {result['extract_per_s']:8,.1f}",
            f"  {result['batch_over_extract']:.2f} of the extraction",
            f"  one row, milliseconds          {result['single_ms']:8,.1f}",
            f"  its networks alone             {result['networks_ms']:8,.1f}",
            f"  reading and preparing it alone {result['prepare_ms']:8,.1f}",
            f"  {result['single_over_networks']:.2f} of the networks",
        ]
    )
