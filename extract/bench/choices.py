"""Compare the backends and precisions in which an encoder can run on a CPU, and the one that is chosen.

Everything runs in one thread and is timed in processor time, so that other processes matter little.
"""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

from PIL import Image

from encode_once.cache import Store, UsageError
from encode_once.cache.text_table import table_text
from encode_once.extract import encoders
from encode_once.extract.batches import MANY, TowerRunner
from encode_once.extract.bench.torch_scripts import BATCH, preprocessing
from encode_once.extract.encoders.base import Modality, Options, Tower, torch_threads
from encode_once.extract.encoders.clip import ClipCaptions
from encode_once.extract.encoders.image_network import ImageNetwork
from encode_once.extract.encoders.precision import (
    AUTOCAST,
    EXAMPLES,
    LEAST_COSINE,
    WEIGHTS,
    PrecisionRule,
    least_cosine,
    lowered_copy,
)
from encode_once.extract.encoders.transformers_models import TransformerCaptions
from encode_once.extract.errors import WeightsError
from encode_once.extract.images.decode import quiet_pillow
from encode_once.extract.images.hashing import add_keys
from encode_once.extract.readers import read
from encode_once.extract.workers import Input, distinct_inputs

REDUCED = "bfloat16"
TIMED = 16  # inputs, or those of a batch
ROUNDS = 3  # in which everything is timed in turn; the fastest counts

Run = tuple[Sequence[Any], Callable[[Sequence[Any]], Any]]  # inputs, and what encodes them


def choices(
    data: str, names: Sequence[str], *, weights: Mapping[str, str] | None = None, images: int = EXAMPLES
) -> list[dict[str, Any]]:
    """A record for each tower of the encoders, see `_compared`.

    Args:
        images: number of images and of captions, taken from the start of the table.
    """
    table = next(iter(read(Path(data))[0].values()))
    records = []
    with tempfile.TemporaryDirectory() as folder, torch_threads(1), quiet_pillow():
        add_keys(table, Store(Path(folder) / "keys").files, 1)
        for name in names:
            for modality in get_args(Modality):
                inputs = distinct_inputs([table], modality)[1][:images]
                file = (weights or {}).get(name)
                tower = _tower(name, Options(file), modality)
                if inputs and tower and tower.casts:
                    records.append({"encoder": name, "inputs": modality, **_compared(name, file, inputs)})
    if not records:
        raise UsageError(f"{', '.join(names)}: nothing in {data} is encoded in one of several precisions")
    return records


def _tower(name: str, options: Options, modality: Modality) -> Tower | None:
    return next((tower for tower in encoders.towers(name, options) if tower.modality == modality), None)


def _compared(name: str, weights: str | None, inputs: Sequence[Input]) -> dict[str, Any]:
    """`choices`: for each, inputs per processor second and the least cosine to float32 with torch.

    `automatic` is the choice of `--precision fast --backend auto`. `over_float32` compares it with torch in
    float32, `over_best` with the fastest choice whose cosine suffices, and `over_script` from file to vector
    with a script.
    """
    tower = partial(_tower, name, modality=inputs[0].modality)
    exact, automatic = tower(Options(weights, backend="torch")), tower(Options(weights))
    assert exact  # `choices` checked it
    assert automatic
    exact.load("cpu")
    ready = [item.open().prepared(exact) for item in inputs]
    towers = {"torch": exact}
    exported = tower(Options(weights, backend="onnxruntime"))
    if isinstance(exported, ImageNetwork):
        try:
            exported.load("cpu")
            towers["onnxruntime"] = exported
        except WeightsError:  # it is not installed, or cannot run the network
            pass
    reduced = [lowered_copy(exact, REDUCED, way) for way in (WEIGHTS, AUTOCAST)]
    towers |= {lowered.provenance()["backend"]: lowered for lowered in reduced}
    runner = TowerRunner(name, automatic, weights)
    runner.rule = PrecisionRule(if_faster="used")
    runner.load("cpu", 1, None, MANY, lambda: ready)
    automatic = runner.tower
    chosen = automatic.provenance()["backend"]
    sizes = dict.fromkeys(towers, exact.cpu_batch) | {chosen: runner.batch_size}
    runs: dict[str, Run] = {
        choice: (ready[: max(TIMED, size)], partial(_encode, towers[choice], size))
        for choice, size in sizes.items()
    }
    files, script = inputs[: max(TIMED, runner.batch_size)], _script(exact)
    runs["here"] = files, lambda items: runner.encode([item.open().prepared(automatic) for item in items])
    runs["script"] = files, lambda items: script([item.source for item in items])
    per_s = _rates(runs)
    cosines = {choice: least_cosine(exact, candidate, ready, 1) for choice, candidate in towers.items()}
    suffices = [choice for choice, value in cosines.items() if value >= LEAST_COSINE[REDUCED]]
    return {
        "choices": {choice: {"per_s": per_s[choice], "cosine": cosines[choice]} for choice in towers},
        "automatic": chosen,
        "over_float32": per_s[chosen] / per_s["torch"],
        "over_best": per_s[chosen] / max(per_s[choice] for choice in suffices),
        "over_script": per_s["here"] / per_s["script"],
    }


def _encode(tower: Tower, size: int, ready: Sequence[Any]) -> None:
    for start in range(0, len(ready), size):
        tower.encode(ready[start : start + size])


def _rates(runs: Mapping[str, Run]) -> dict[str, float]:
    """Inputs per processor second of each function; one that is much slower than the first runs once."""
    rates = dict.fromkeys(runs, 0.0)
    for _ in range(ROUNDS + 1):
        for name, (inputs, run) in runs.items():
            if 0 < rates[name] < rates[next(iter(runs))] / 4:
                continue
            started = time.thread_time()
            run(inputs)
            rates[name] = max(rates[name], len(inputs) / (time.thread_time() - started))
    return rates


def _script(tower: Tower) -> Callable[[Sequence[str]], None]:
    """What one writes with the encoder's own library: files or captions to vectors, in batches."""
    import torch

    if isinstance(tower, ImageNetwork):
        model, prepare = tower.build_model().eval(), preprocessing(tower)

        def encode(sources: Sequence[str]) -> None:
            tower.vectors(model, torch.stack([prepare(Image.open(path).convert("RGB")) for path in sources]))

    elif isinstance(tower, ClipCaptions):

        def encode(sources: Sequence[str]) -> None:
            tower.model.encode_text(tower.tokenizer(sources))

    else:
        assert isinstance(tower, TransformerCaptions)

        def encode(sources: Sequence[str]) -> None:
            tokens = tower.tokenizer(sources, padding=True, truncation=True, return_tensors="pt")
            hidden, mask = tower.model(**tokens).last_hidden_state, tokens["attention_mask"][..., None]
            (hidden * mask).sum(1) / mask.sum(1)

    def script(sources: Sequence[str]) -> None:
        with torch.inference_mode():
            for start in range(0, len(sources), BATCH):
                encode(sources[start : start + BATCH])

    return script


def text(records: Sequence[Mapping[str, Any]]) -> str:
    """The records as a table, and a line on each automatic choice."""
    rows = [
        {
            "encoder": record["encoder"],
            "inputs": record["inputs"],
            "choice": choice,
            "per processor second": f"{measured['per_s']:.1f}",
            "least cosine": f"{measured['cosine']:.5f}",
        }
        for record in records
        for choice, measured in record["choices"].items()
    ]
    lines = [
        f"{record['encoder']}, {record['inputs']}s: {record['automatic']} is chosen: "
        f"{record['over_float32']:.2f} × float32 with torch, {record['over_best']:.2f} × the best that is "
        f"equal, {record['over_script']:.2f} × a script from file to vector"
        for record in records
    ]
    return "\n".join([table_text(rows), "", *lines])
