"""Run image networks on a CPU with torch, or with onnxruntime if that is faster and gives equal vectors."""

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

MIN_INPUTS = 500  # to export a network, which takes seconds
TOLERANCE = 1e-4  # difference relative to a vector's norm: the order of operations differs
Run = Callable[[Any], tuple[Any, ...]]  # pixels (b, 3, h, w) uint8 → a torch tensor for each output


def choose(
    network: Any, run: Run, pixels: Any, options: Options, expected: int, specs: Mapping[str, Spec]
) -> tuple[Run, str]:
    """Return the faster of torch and onnxruntime, and its name.

    Args:
        network: the torch network to export.
        run: the same network run with torch.
        pixels: example images (b, 3, h, w) uint8 on the network's device, to export and compare with.
        options: with backend "auto", onnxruntime is tried on a CPU in float32 if at least MIN_INPUTS inputs
            are expected.
        expected: approximate number of inputs to encode.
        specs: of the outputs; exported networks are cached under their keys.

    Raises:
        WeightsError: onnxruntime was requested, but is not installed or gives different vectors.
    """
    backend, exact = options.backend, options.precision == "float32"
    worthwhile = pixels.device.type == "cpu" and exact and expected >= MIN_INPUTS
    if backend == "onnxruntime" and not exact:
        raise WeightsError(f"--backend onnxruntime computes in float32, not in {options.precision}")
    if backend == "torch" or (backend == "auto" and not worthwhile):
        return run, "torch"
    try:
        exported = _exported(network, pixels, specs)
    except Exception as error:  # missing libraries, unsupported operators, …: torch is used instead
        if backend == "auto":
            return run, "torch"
        raise WeightsError(
            f"--backend onnxruntime: {brief(error)}; it needs pip install 'encode-once[onnxruntime]'"
        ) from error
    difference = _difference(exported(pixels), run(pixels))
    if backend == "onnxruntime" and difference > TOLERANCE:
        raise WeightsError(f"--backend onnxruntime: its vectors differ from torch's by {difference:.1e}")
    if backend == "auto" and (difference > TOLERANCE or _seconds(exported, pixels) > _seconds(run, pixels)):
        return run, "torch"
    return exported, "onnxruntime"


def session(content: bytes, device: str) -> Any:
    """An onnxruntime session for a network, with as many threads as torch."""
    import onnxruntime
    import torch

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    settings.log_severity_level = 3  # errors only; its warnings are for its developers
    # Busy waiting would take cores from the threads that decode images.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = ["CPUExecutionProvider"]
    cuda = "CUDAExecutionProvider"
    if device.startswith("cuda") and cuda in onnxruntime.get_available_providers():
        providers.insert(0, cuda)
    return onnxruntime.InferenceSession(content, settings, providers=providers)


def exports_folder() -> Path:
    """The folder of exported networks, next to the weights that torch downloads."""
    import torch

    return Path(torch.hub.get_dir()) / "encode-once"


def _exported(network: Any, pixels: Any, specs: Mapping[str, Spec]) -> Run:
    """Run the network with onnxruntime; export it unless the export is cached."""
    import torch

    identity = [torch.__version__, *(f"{output} {spec_key(spec)}" for output, spec in specs.items())]
    path = exports_folder() / f"{content_key(' '.join(identity).encode()).hex()}.onnx"
    ort_session = None
    with suppress(Exception):  # missing or damaged
        ort_session = session(path.read_bytes(), "cpu")
    if ort_session is None:
        content = _export(network, pixels, list(specs))
        ort_session = session(content, "cpu")
        with suppress(OSError), replacing(path) as temporary:  # the disk may be full or read-only
            temporary.write_bytes(content)

    def run(pixels: Any) -> tuple[Any, ...]:
        images = pixels.contiguous().numpy()
        parts = [ort_session.run(None, {"pixels": images[row : row + 1]}) for row in range(len(images))]
        return tuple(torch.from_numpy(np.concatenate(vectors)) for vectors in zip(*parts, strict=True))

    return run


def _export(network: Any, pixels: Any, outputs: list[str]) -> bytes:
    """The network as an ONNX file, for a batch size of 1.

    With a variable batch size onnxruntime would compute paddings in every run and convert the layout of
    feature maps around them: EfficientNet-lite0 then encoded 130 images per second instead of 170.
    """
    import torch

    # This exporter warns that it is deprecated; its successor needs another library. If the export fails,
    # torch's C++ code prints the whole graph to stdout, which is for our results.
    with TemporaryDirectory() as folder, silenced(1), plain_attention():
        path = Path(folder) / "network.onnx"
        torch.onnx.export(
            network, (pixels[:1],), path, input_names=["pixels"], output_names=outputs, dynamo=False
        )
        return path.read_bytes()


@contextmanager
def plain_attention() -> Iterator[None]:
    """Disable torch's fast path for attention, which exporters and FLOP counters do not support."""
    import torch

    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _difference(outputs: tuple[Any, ...], expected: tuple[Any, ...]) -> float:
    """The largest relative difference, in norm, between two tensors of the same output."""
    return max(float((a - b).norm() / b.norm()) for a, b in zip(outputs, expected, strict=True))


def _seconds(run: Run, pixels: Any) -> float:
    times = []
    for _ in range(3):
        started = time.perf_counter()
        run(pixels)
        times.append(time.perf_counter() - started)
    return min(times)
