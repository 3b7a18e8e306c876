"""How fast images are encoded: each part of the work alone, all of it, and the limit the parts set."""

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

from encode_once.cache import Shard, Store, Table, UsageError
from encode_once.extract import encoders
from encode_once.extract.encoders.base import Options, Tower, torch_threads
from encode_once.extract.encoders.clip import ClipCaptions
from encode_once.extract.encoders.image_network import ImageNetwork
from encode_once.extract.encoders.runtime import plain_attention
from encode_once.extract.images.decode import decode, large_photos
from encode_once.extract.images.hashing import add_keys, read_file
from encode_once.extract.pipeline import choose_device
from encode_once.extract.readers import read
from encode_once.extract.workers import How, Input, Job, Opened, distinct_inputs, encode_inputs, pace

PREPARED = 512  # inputs held ready at once while networks are timed
PARTS = {
    "read": "read",
    "picture": "read and decode",
    "decode": "read, decode and prepare",
    "model": "networks",
    "limit": "limit",
    "end_to_end": "end to end",
}
SCRIPTED = 320  # images that scripts take: some are slow
PRODUCT = 2048  # rows and columns of the matrices whose product tells the arithmetic peak


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
    """Rates of the image towers of encoders, a second: medians of rounds in which each part is timed in turn.

    On a CPU all parts share the cores, so the limit is 1 / (1/decode + 1/model); on a GPU it is the slower of
    the two. `read_per_s` is reading files, `picture_per_s` also decoding them, `decode_per_s` also preparing
    the pictures for each encoder, all by threads; `model_per_s` all networks one
    after the other; `end_to_end_per_s` an extraction into a new store, from hashing the files to the last
    commit, the encoders' loading left out.

    Args:
        images: how many of the folder's first images to take.
        scripts: also time what one would write with torch alone.
    """
    device = choose_device(device)
    table = _first(next(iter(read(Path(data))[0].values())), images)
    options = {name: Options((weights or {}).get(name), precision, backend) for name in names}
    made = [(name, tower) for name in names for tower in encoders.towers(name, options[name])]
    towers = [(name, tower) for name, tower in made if tower.modality == "image"]
    if not towers:
        raise UsageError(f"{', '.join(names)} encodes no images")
    with tempfile.TemporaryDirectory() as folder, torch_threads(1), large_photos():
        store = Store(Path(folder) / "keys")
        add_keys(table, store.files, _cores())
        _, inputs = distinct_inputs([table], "image", Shard())
        for _, tower in towers:
            tower.expected = len(inputs)
            tower.load(device)
        parts: dict[str, Callable[[], float]] = {
            "read": partial(_timed, lambda one: read_file(one.source), inputs),
            "picture": partial(_timed, partial(_decoded, towers[0][1]), inputs),
            "decode": partial(_timed, partial(_prepared, towers), inputs),
        }
        for name, tower in towers:
            parts[f"model {name}"] = partial(_model_seconds, tower, inputs, device)
            if len(towers) > 1:
                parts[f"end to end {name}"] = partial(_end_to_end, table, [(name, tower)], device)
        parts["end to end"] = partial(_end_to_end, table, towers, device)
        rounds = [{part: run() for part, run in parts.items()} for _ in range(repeats)]
    seconds = {part: median(one[part] for one in rounds) for part in parts}
    found = _summary(seconds, [name for name, _ in towers], len(inputs), device)
    found["backends"] = {name: tower.provenance().get("backend", "") for name, tower in towers}
    networks = [(name, tower) for name, tower in towers if isinstance(tower, ImageNetwork)]
    found["arithmetic"] = {name: _arithmetic(tower, device) for name, tower in networks}
    if scripts:
        found["scripts"] = [_against_scripts(name, tower, table, repeats) for name, tower in networks]
        texts = [(name, tower) for name, tower in made if isinstance(tower, ClipCaptions)]
        found["captions"] = [_against_padding(name, tower, table, device) for name, tower in texts]
    return found


def _first(table: Table, n: int) -> Table:
    columns = {name: getattr(table, name)[:n] for name in ("ids", "images", "captions")}
    return replace(table, **columns, labels=None, columns={}, more_captions=[], more_caption_keys=[])


def _summary(seconds: Mapping[str, float], names: Sequence[str], n: int, device: str) -> dict[str, Any]:
    model = sum(seconds[f"model {name}"] for name in names)
    parts = seconds["decode"], model
    limit = max(parts) if device.startswith("cuda") else sum(parts)
    found = {
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
        found["together_over_alone_less_decoding"] = seconds["end to end"] / alone
    return found


def _cores() -> int:
    return os.cpu_count() or 1


def _timed(function: Callable[[Any], Any], items: Sequence[Any], threads: int | None = None) -> float:
    """The seconds it takes threads to do that to each item."""
    with ThreadPoolExecutor(threads or _cores()) as pool:
        started = time.perf_counter()
        for future in [pool.submit(function, item) for item in items]:
            future.result()
        return time.perf_counter() - started


def _decoded(tower: Tower, one: Input) -> None:
    decode(read_file(one.source), tower.shorter_side)


def _prepared(towers: Sequence[tuple[str, Tower]], one: Input) -> None:
    opened = one.open()
    for _, tower in towers:
        opened.prepared(tower)


def _model_seconds(tower: Tower, inputs: Sequence[Input], device: str) -> float:
    """What the network alone takes for all inputs; only some are held ready at a time."""
    size, at_once = pace(tower, device, _cores())
    total = 0.0
    for start in range(0, len(inputs), PREPARED):
        ready = [one.open().prepared(tower) for one in inputs[start : start + PREPARED]]
        batches = [ready[at : at + size] for at in range(0, len(ready), size)]
        total += _timed(tower.encode, batches, at_once)
    return total


def _end_to_end(table: Table, towers: Sequence[tuple[str, Tower]], device: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        jobs = [Job(name, tower, store, None) for name, tower in towers]
        started = time.perf_counter()
        fresh = replace(table, image_keys=None, caption_keys=None)
        add_keys(fresh, store.files, _cores())
        _, inputs = distinct_inputs([fresh], "image", Shard())
        loading = encode_inputs(inputs, jobs, How(device, _cores(), max_failures=0))
        return time.perf_counter() - started - loading


def _against_scripts(name: str, tower: ImageNetwork, table: Table, repeats: int) -> dict[str, Any]:
    """Images a second of scripts, each over the same files; and how far their vectors are from ours."""
    from encode_once.extract.bench import torch_scripts as scripts

    paths = table.images[:SCRIPTED]
    output = next(iter(tower.specs))
    ready = [Opened(content=read_file(path)).prepared(tower) for path in paths]
    ours = np.concatenate([tower.encode([one])[output] for one in ready])
    found: dict[str, Any] = {"encoder": name, "images": len(paths)}
    for script in ("with_data_loader", "with_threads"):
        runs = [scripts.run(script, name, tower.options, tower.device, paths) for _ in range(repeats)]
        theirs = runs[-1][1]
        far = np.linalg.norm(theirs - ours, axis=1) / np.linalg.norm(theirs, axis=1)
        found[f"{script}_per_s"] = len(paths) / median(seconds for seconds, _ in runs)
        found[f"{script}_differs_by"] = float(far.max())
    return found


def _against_padding(name: str, tower: ClipCaptions, table: Table, device: str) -> dict[str, Any]:
    """Captions a second, and by open_clip with the padding it puts behind them; how far the vectors are."""
    import torch

    captions = list(dict.fromkeys(table.captions))[:SCRIPTED]
    tower.load(device)
    ready = [tower.prepare(caption) for caption in captions]
    batches = [ready[start : start + tower.cpu_batch] for start in range(0, len(ready), tower.cpu_batch)]
    with torch.inference_mode():
        with torch_threads(_cores()):
            started = time.perf_counter()
            padded = [tower.model.encode_text(torch.stack(batch).to(device)).cpu() for batch in batches]
            theirs = time.perf_counter() - started
        with torch_threads(1):
            ours = _timed(tower.encode, batches)
    found = np.concatenate([tower.encode(batch)["text"] for batch in batches])
    return {
        "encoder": name,
        "captions": len(captions),
        "per_s": len(captions) / ours,
        "padded_per_s": len(captions) / theirs,
        "differs_by": float(np.abs(found - torch.cat(padded).numpy()).max()),
    }


def _arithmetic(tower: ImageNetwork, device: str) -> dict[str, float]:
    """Floating-point operations of an image, and how many a second this machine does in matrix products."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.inference_mode(), torch_threads(_cores()):
        model = tower.build_model().eval().to(device)
        with plain_attention(), FlopCounterMode(display=False) as counter:
            grey = torch.zeros(1, 3, *tower.size, device=device)
            tower.vectors(model, grey)
        a = torch.randn(PRODUCT, PRODUCT, device=device).to(getattr(torch, tower.options.precision))
        best = min(_timed(lambda a: (a @ a).sum().item(), [a], 1) for _ in range(5))
    return {
        "gflop_per_image": counter.get_total_flops() / 1e9,
        "peak_gflop_per_s": 2 * PRODUCT**3 / best / 1e9,
    }


def text(found: Mapping[str, Any]) -> str:
    """The rates for a terminal."""
    per_s = {told: found[f"{part}_per_s"] for part, told in PARTS.items()}
    lines = [
        f"{found['images']} images on {found['device']}, {found['threads']} threads; images a second:",
        *(f"  {told:<34} {rate:8,.1f}" for told, rate in per_s.items()),
        f"{found['end_to_end_over_limit']:.2f} of the limit",
    ]
    if "together_over_alone_less_decoding" in found:
        ratio = found["together_over_alone_less_decoding"]
        lines.append(f"together {ratio:.2f} × the time of each alone, with the repeated decoding left out")
    for name, of in found["arithmetic"].items():
        done = found["images"] / found["seconds"][f"model {name}"] * of["gflop_per_image"]
        peak = of["peak_gflop_per_s"]
        lines.append(
            f"{name} by {found['backends'][name]}: {of['gflop_per_image']:.2f} GFLOP an image, "
            f"{done / peak:.0%} of the {peak:,.0f} GFLOP/s of a matrix product"
        )
    for script in found.get("scripts", []):
        for kind, what in (("with_data_loader", "DataLoader, 2 workers"), ("with_threads", "threads")):
            rate = script[f"{kind}_per_s"]
            lines.append(
                f"{script['encoder']} by a script ({what}): {rate:.1f} a second, vectors differ by "
                f"{script[f'{kind}_differs_by']:.0e}; here {found['end_to_end_per_s'] / rate:.1f} × as many"
            )
    texts = (
        f"{of['encoder']}: {of['per_s']:.1f} captions a second, {of['per_s'] / of['padded_per_s']:.1f} × "
        f"as many as padded ones; values differ by {of['differs_by']:.0e} at most"
        for of in found.get("captions", [])
    )
    return "\n".join([*lines, *texts])
