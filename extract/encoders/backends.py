"""Running a torch network of images on a CPU: by torch, or by onnxruntime where that is faster and equal."""

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cache.errors import brief
from extract.encoders.base import Options
from extract.errors import WeightsError

WORTH_EXPORTING = 500  # inputs; an export takes seconds
TOLERANCE = 1e-4  # of a vector's length: the same arithmetic in another order
Run = Callable[[Any], Any]  # images (b, 3, h, w) → vectors (b, d), both torch tensors


def choose(network: Any, run: Run, example: Any, options: Options, expected: int) -> Run:
    """`run`, which has a torch network compute, or what does the same through onnxruntime.

    Args:
        example: images (b, 3, h, w) to export and to compare with, on the network's device.
        options: their backend "auto" takes the faster on the example, on a CPU in float32, if about
            `expected` inputs to come are worth the export.

    Raises:
        WeightsError: onnxruntime was asked for and is not installed, or gives other vectors.
    """
    wanted, exact = options.backend, options.precision == "float32"
    worthwhile = example.device.type == "cpu" and exact and expected >= WORTH_EXPORTING
    if wanted == "onnxruntime" and not exact:
        raise WeightsError(f"--backend onnxruntime computes in float32, not in {options.precision}")
    if wanted == "torch" or (wanted == "auto" and not worthwhile):
        return run
    try:
        exported = _export(network, run, example)
    except Exception as error:  # libraries missing, operators unknown: many ways, one consequence
        if wanted == "auto":
            return run
        raise WeightsError(
            f"--backend onnxruntime: {brief(error)}; it needs pip install 'encode-once[onnxruntime]'"
        ) from error
    difference = float((exported(example) - run(example)).norm() / run(example).norm())
    if wanted == "onnxruntime" and difference > TOLERANCE:
        raise WeightsError(f"--backend onnxruntime: its vectors differ from torch's by {difference:.1e}")
    if wanted == "auto" and (difference > TOLERANCE or _seconds(exported, example) > _seconds(run, example)):
        return run
    return exported


def session(content: bytes, device: str) -> Any:
    """onnxruntime at work on a network, with as many threads as torch has."""
    import onnxruntime
    import torch

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    settings.log_severity_level = 3  # errors: what it says below is for its developers
    # Threads that wait busily would take the cores from those that decode.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    wanted = ["CUDAExecutionProvider"] if device.startswith("cuda") else []
    there = [one for one in wanted if one in onnxruntime.get_available_providers()]
    return onnxruntime.InferenceSession(content, settings, providers=[*there, "CPUExecutionProvider"])


def _export(network: Any, run: Run, example: Any) -> Run:
    import torch

    module = torch.nn.Module()
    module.network, module.forward = network, run
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls itself deprecated; its successor needs a further library
        path = Path(folder) / "network.onnx"
        torch.onnx.export(
            module.eval(),
            (example,),
            path,
            input_names=["images"],
            output_names=["vectors"],
            dynamic_axes={"images": {0: "batch"}, "vectors": {0: "batch"}},
            dynamo=False,
        )
        exported = session(path.read_bytes(), "cpu")

    def run_exported(images: Any) -> Any:
        (vectors,) = exported.run(None, {"images": images.contiguous().numpy()})
        return torch.from_numpy(vectors)

    return run_exported


def _seconds(run: Run, example: Any) -> float:
    times = []
    for _ in range(3):
        started = time.perf_counter()
        run(example)
        times.append(time.perf_counter() - started)
    return min(times)
