"""Measure the speed of encoding images: each part alone, all together, and the limit set by the parts."""

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from encode_once.cache import Store, Table, UsageError
from encode_once.cache.device import device_name
from encode_once.cache.views import without_view
from encode_once.extract import encoders
from encode_once.extract.batches import DecodedInput, pace
from encode_once.extract.encoders.base import Options, Tower, torch_threads
from encode_once.extract.encoders.clip import ClipCaptions
from encode_once.extract.encoders.image_network import ImageNetwork
from encode_once.extract.encoders.precision import loaded
from encode_once.extract.encoders.runtime import plain_attention
from encode_once.extract.images.decode import decode, quiet_pillow
from encode_once.extract.images.hashing import add_keys, read_file
from encode_once.extract.readers import read
from encode_once.extract.workers import EncodeSettings, EncodingPass, Input, Job, distinct_inputs

PREPARED = 512  # inputs prepared at a time while networks are timed
PARTS = {
    "read": "read",
    "picture": "read and decode",
    "decode": "read, decode and prepare",
    "model": "networks",
    "limit": "limit",
    "end_to_end": "end to end",
}
SCRIPT_IMAGES = 320  # few, because some scripts are slow
PRODUCT = 2048  # rows and columns of the matrix product that measures peak FLOP/s


def rates(
    data: str,
    names: Sequence[str],
    *,
    weights: Mapping[str, str] | None = None,
    device: str = "auto",
    backend: str = "auto",
    precision: str = "float32",
    images: int = 2000,
    repeats: int = 3,
    scripts: bool = False,
) -> dict[str, Any]:
    """Images per second of the encoders' image towers: medians of rounds in which each part is timed in turn.

    On a CPU all parts share the cores, so the limit is 1 / (1/decode + 1/model); on a GPU it is the slower of
    the two. `read_per_s` is reading files, `picture_per_s` also decoding them, `decode_per_s` also preparing
    the images for each encoder, all with threads; `model_per_s` is all networks one after the other;
    `end_to_end_per_s` is an extraction into a new store, from hashing the files to the last commit, without
    loading the encoders.

    Args:
        images: number of images, taken from the start of the table.
        scripts: also time scripts that use torch alone.
    """
    device = device_name(device)
    table = first_rows(next(iter(read(Path(data))[0].values())), images)
    options = {name: Options((weights or {}).get(without_view(name)), precision, backend) for name in names}
    all_towers = [(name, tower) for name in names for tower in encoders.towers(name, options[name])]
    towers = [(name, tower) for name, tower in all_towers if tower.modality == "image"]
    if not towers:
        raise UsageError(f"{', '.join(names)} encodes no images")
    with tempfile.TemporaryDirectory() as folder, torch_threads(1), quiet_pillow():
        store = Store(Path(folder) / "keys")
        add_keys(table, store.files, _cores())
        _, inputs = distinct_inputs([table], "image")
        for _, tower in towers:
            tower.expected = len(inputs)
        towers = [(name, loaded(tower, device)[0]) for name, tower in towers]
        parts: dict[str, Callable[[], float]] = {
            "read": partial(_timed, lambda item: read_file(item.source), inputs),
            "picture": partial(_timed, partial(_decoded, towers[0][1]), inputs),
            "decode": partial(_timed, partial(_prepared, towers), inputs),
        }
        for name, tower in towers:
            parts[f"model {name}"] = partial(_model_seconds, tower, inputs, device)
            if len(towers) > 1:
                parts[f"end to end {name}"] = partial(_end_to_end, table, [(name, tower)], device)
        parts["end to end"] = partial(_end_to_end, table, towers, device)
        rounds = [{part: run() for part, run in parts.items()} for _ in range(repeats)]
    seconds = {part: median(times[part] for times in rounds) for part in parts}
    result = _summary(seconds, [name for name, _ in towers], len(inputs), device)
    result["backends"] = {name: tower.provenance().get("backend", "") for name, tower in towers}
    networks = [(name, tower) for name, tower in towers if isinstance(tower, ImageNetwork)]
    result["arithmetic"] = {name: _arithmetic(tower, device) for name, tower in networks}
    if scripts:
        result["scripts"] = [_against_scripts(name, tower, table, repeats) for name, tower in networks]
        texts = [(name, tower) for name, tower in all_towers if isinstance(tower, ClipCaptions)]
        result["captions"] = [_against_padding(name, tower, table, device) for name, tower in texts]
    return result


def first_rows(table: Table, n: int) -> Table:
    """The ids, images and first captions of a table's first rows."""
    columns = {name: getattr(table, name)[:n] for name in ("ids", "images", "captions")}
    return replace(table, **columns, labels=None, columns={}, more_captions=[], more_caption_keys=[])


def _summary(seconds: Mapping[str, float], names: Sequence[str], n: int, device: str) -> dict[str, Any]:
    model = sum(seconds[f"model {name}"] for name in names)
    parts = seconds["decode"], model
    limit = max(parts) if device.startswith("cuda") else sum(parts)
    result = {
        "images": n,
        "device": device,
        "threads": _cores(),
        "read_per_s": n / seconds["read"],
        "picture_per_s": n / seconds["picture"],
        "decode_per_s": n / seconds["decode"],
        "model_per_s": n / model,
        "end_to_end_per_s": n / seconds["end to end"],
        "limit_per_s": n / limit,
        "end_to_end_over_limit": limit / seconds["end to end"],
        "seconds": dict(seconds),
    }
    if len(names) > 1:
        alone = sum(seconds[f"end to end {name}"] for name in names) - (len(names) - 1) * seconds["picture"]
        result["together_over_alone_less_decoding"] = seconds["end to end"] / alone
    return result


def _cores() -> int:
    return os.cpu_count() or 1


def _timed(function: Callable[[Any], Any], items: Sequence[Any], threads: int | None = None) -> float:
    """Seconds to apply a function to each item with threads."""
    with ThreadPoolExecutor(threads or _cores()) as pool:
        started = time.perf_counter()
        for future in [pool.submit(function, item) for item in items]:
            future.result()
        return time.perf_counter() - started


def _decoded(tower: Tower, item: Input) -> None:
    decode(read_file(item.source), tower.shorter_side)


def _prepared(towers: Sequence[tuple[str, Tower]], item: Input) -> None:
    decoded = item.open()
    for _, tower in towers:
        decoded.prepared(tower)


def _model_seconds(tower: Tower, inputs: Sequence[Input], device: str) -> float:
    """Seconds of the network alone for all inputs; PREPARED of them are in memory at a time."""
    size, concurrent = pace(tower, device, _cores())
    total = 0.0
    for start in range(0, len(inputs), PREPARED):
        ready = [item.open().prepared(tower) for item in inputs[start : start + PREPARED]]
        batches = [ready[row : row + size] for row in range(0, len(ready), size)]
        total += _timed(tower.encode, batches, concurrent)
    return total


def _end_to_end(table: Table, towers: Sequence[tuple[str, Tower]], device: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        jobs = [Job(name, tower, store, None) for name, tower in towers]
        started = time.perf_counter()
        fresh = replace(table, image_keys=None, caption_keys=None)
        add_keys(fresh, store.files, _cores())
        encoding_pass = EncodingPass([fresh], jobs, EncodeSettings(device, _cores(), max_failures=0))
        seconds = time.perf_counter() - started
        encoding_pass.load()
        started = time.perf_counter()
        encoding_pass.encode()
        return seconds + time.perf_counter() - started


def _against_scripts(name: str, tower: ImageNetwork, table: Table, repeats: int) -> dict[str, Any]:
    """Images per second of scripts on the same files, and the difference between their vectors and ours."""
    from encode_once.extract.bench import torch_scripts as scripts

    paths = table.images[:SCRIPT_IMAGES]
    output = next(iter(tower.specs))
    ready = [DecodedInput(content=read_file(path)).prepared(tower) for path in paths]
    ours = np.concatenate([tower.encode([item])[output] for item in ready])
    result: dict[str, Any] = {"encoder": name, "images": len(paths)}
    for script in ("with_data_loader", "with_threads"):
        runs = [scripts.run(script, name, tower.options, tower.device, paths) for _ in range(repeats)]
        vectors = runs[-1][1]
        difference = np.linalg.norm(vectors - ours, axis=1) / np.linalg.norm(vectors, axis=1)
        result[f"{script}_per_s"] = len(paths) / median(seconds for seconds, _ in runs)
        result[f"{script}_differs_by"] = float(difference.max())
    return result


def _against_padding(name: str, tower: ClipCaptions, table: Table, device: str) -> dict[str, Any]:
    """Captions per second, also with open_clip's padding, and the difference between the vectors."""
    import torch

    captions = list(dict.fromkeys(table.captions))[:SCRIPT_IMAGES]
    tower.load(device)
    ready = [tower.prepare(caption) for caption in captions]
    batches = [ready[start : start + tower.cpu_batch] for start in range(0, len(ready), tower.cpu_batch)]
    with torch.inference_mode():
        with torch_threads(_cores()):
            started = time.perf_counter()
            padded = [tower.model.encode_text(torch.stack(batch).to(device)).cpu() for batch in batches]
            padded_seconds = time.perf_counter() - started
        with torch_threads(1):
            seconds = _timed(tower.encode, batches)
    vectors = np.concatenate([tower.encode(batch)["text"] for batch in batches])
    return {
        "encoder": name,
        "captions": len(captions),
        "per_s": len(captions) / seconds,
        "padded_per_s": len(captions) / padded_seconds,
        "differs_by": float(np.abs(vectors - torch.cat(padded).numpy()).max()),
    }


def _arithmetic(tower: ImageNetwork, device: str) -> dict[str, float]:
    """GFLOP per image, and the GFLOP/s of this machine in matrix products."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.inference_mode(), torch_threads(_cores()):
        model = tower.build_model().eval().to(device)
        with plain_attention(), FlopCounterMode(display=False) as counter:
            grey = torch.zeros(1, 3, *tower.size, device=device)
            tower.vectors(model, grey)
        a = torch.randn(PRODUCT, PRODUCT, device=device).to(getattr(torch, tower.precision))
        best = min(_timed(lambda a: (a @ a).sum().item(), [a], 1) for _ in range(5))
    return {
        "gflop_per_image": counter.get_total_flops() / 1e9,
        "peak_gflop_per_s": 2 * PRODUCT**3 / best / 1e9,
    }


def text(result: Mapping[str, Any]) -> str:
    """Format the rates for a terminal."""
    per_s = {label: result[f"{part}_per_s"] for part, label in PARTS.items()}
    lines = [
        f"{result['images']} images on {result['device']}, {result['threads']} threads; images per second:",
        *(f"  {label:<34} {rate:8,.1f}" for label, rate in per_s.items()),
        f"{result['end_to_end_over_limit']:.2f} of the limit",
    ]
    if "together_over_alone_less_decoding" in result:
        ratio = result["together_over_alone_less_decoding"]
        lines.append(f"together {ratio:.2f} × the time of each alone, without the repeated decoding")
    for name, arithmetic in result["arithmetic"].items():
        gflop = arithmetic["gflop_per_image"]
        rate = result["images"] / result["seconds"][f"model {name}"] * gflop
        peak = arithmetic["peak_gflop_per_s"]
        lines.append(
            f"{name} with {result['backends'][name]}: {gflop:.2f} GFLOP per image, "
            f"{rate / peak:.0%} of the {peak:,.0f} GFLOP/s of a matrix product"
        )
    for script in result.get("scripts", []):
        for kind, label in (("with_data_loader", "DataLoader, 2 workers"), ("with_threads", "threads")):
            rate = script[f"{kind}_per_s"]
            lines.append(
                f"{script['encoder']} by a script ({label}): {rate:.1f} per second, vectors differ by "
                f"{script[f'{kind}_differs_by']:.0e}; here {result['end_to_end_per_s'] / rate:.1f} × as many"
            )
    texts = (
        f"{row['encoder']}: {row['per_s']:.1f} captions per second, "
        f"{row['per_s'] / row['padded_per_s']:.1f} × as many as with padding; "
        f"values differ by at most {row['differs_by']:.0e}"
        for row in result.get("captions", [])
    )
    return "\n".join([*lines, *texts])
