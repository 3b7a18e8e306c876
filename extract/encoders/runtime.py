"""Running a torch network of images on a CPU: by torch, or by onnxruntime where that is faster and equal."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from encode_once.cache import Spec, content_key, spec_key
from encode_once.cache.errors import brief
from encode_once.cache.format.atomic import replacing
from encode_once.cache.process import silenced
from encode_once.extract.encoders.base import Options
from encode_once.extract.errors import WeightsError

WORTH_EXPORTING = 500  # inputs; an export takes seconds
TOLERANCE = 1e-4  # of a vector's length: the same arithmetic in another order
Run = Callable[[Any], tuple[Any, ...]]  # pixels (b, 3, h, w) uint8 → a torch tensor for each output


def choose(
    network: Any, run: Run, pixels: Any, options: Options, expected: int, specs: Mapping[str, Spec]
) -> tuple[Run, str]:
    """`run`, which has a torch network compute, or what does the same through onnxruntime; and which it is.

    Args:
        pixels: images (b, 3, h, w) uint8 to export and to compare with, on the network's device.
        options: their backend "auto" takes the faster on the example, on a CPU in float32, if about
            `expected` inputs to come are worth the export.
        specs: of the outputs; they tell exports apart that are kept beside downloaded weights.

    Raises:
        WeightsError: onnxruntime was asked for and is not installed, or gives other vectors.
    """
    wanted, exact = options.backend, options.precision == "float32"
    worthwhile = pixels.device.type == "cpu" and exact and expected >= WORTH_EXPORTING
    if wanted == "onnxruntime" and not exact:
        raise WeightsError(f"--backend onnxruntime computes in float32, not in {options.precision}")
    if wanted == "torch" or (wanted == "auto" and not worthwhile):
        return run, "torch"
    try:
        exported = _exported(network, pixels, specs)
    except Exception as error:  # libraries missing, operators unknown: many ways, one consequence
        if wanted == "auto":
            return run, "torch"
        raise WeightsError(
            f"--backend onnxruntime: {brief(error)}; it needs pip install 'encode-once[onnxruntime]'"
        ) from error
    difference = _difference(exported(pixels), run(pixels))
    if wanted == "onnxruntime" and difference > TOLERANCE:
        raise WeightsError(f"--backend onnxruntime: its vectors differ from torch's by {difference:.1e}")
    if wanted == "auto" and (difference > TOLERANCE or _seconds(exported, pixels) > _seconds(run, pixels)):
        return run, "torch"
    return exported, "onnxruntime"


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


def exports_folder() -> Path:
    """Where exported networks are kept: beside the weights that torch downloads."""
    import torch

    return Path(torch.hub.get_dir()) / "encode-once"


def _exported(network: Any, pixels: Any, specs: Mapping[str, Spec]) -> Run:
    """The network through onnxruntime, exported unless it was before."""
    import torch

    told = [torch.__version__, *(f"{output} {spec_key(spec)}" for output, spec in specs.items())]
    kept = exports_folder() / f"{content_key(' '.join(told).encode()).hex()}.onnx"
    at_work = None
    with suppress(Exception):  # none is there yet, or a damaged one
        at_work = session(kept.read_bytes(), "cpu")
    if at_work is None:
        content = _export(network, pixels, list(specs))
        at_work = session(content, "cpu")
        with suppress(OSError), replacing(kept) as temporary:  # a full or read-only disk: it works without
            temporary.write_bytes(content)

    def run(pixels: Any) -> tuple[Any, ...]:
        images = pixels.contiguous().numpy()
        parts = [at_work.run(None, {"pixels": images[row : row + 1]}) for row in range(len(images))]
        return tuple(torch.from_numpy(np.concatenate(vectors)) for vectors in zip(*parts, strict=True))

    return run


def _export(network: Any, pixels: Any, outputs: list[str]) -> bytes:
    """The network for one image at a time, as an ONNX file.

    For a batch of any size onnxruntime would work out paddings anew in each run, and change the layout of
    feature maps around them: EfficientNet-lite0 then gave 130 images a second instead of 170.
    """
    import torch

    # The exporter calls itself deprecated, and its successor needs a further library. Where it cannot export,
    # its C++ prints the whole graph on the stdout that is our results'.
    with TemporaryDirectory() as folder, silenced(1), plain_attention():
        path = Path(folder) / "network.onnx"
        torch.onnx.export(
            network, (pixels[:1],), path, input_names=["pixels"], output_names=outputs, dynamo=False
        )
        return path.read_bytes()


@contextmanager
def plain_attention() -> Iterator[None]:
    """Attention by torch's common operators; its own fast path is one that no exporter or counter knows."""
    import torch

    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _difference(found: tuple[Any, ...], wanted: tuple[Any, ...]) -> float:
    """The largest distance of an output's vectors from those wanted, as a share of their length."""
    return max(float((a - b).norm() / b.norm()) for a, b in zip(found, wanted, strict=True))


def _seconds(run: Run, pixels: Any) -> float:
    times = []
    for _ in range(3):
        started = time.perf_counter()
        run(pixels)
        times.append(time.perf_counter() - started)
    return min(times)
