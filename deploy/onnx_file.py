"""ONNX files: made from torch modules, run by onnxruntime, and written completely or not at all."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from encode_once.cache import DataError, EncodeOnceError
from encode_once.cache.errors import brief
from encode_once.cache.format.atomic import replacing
from encode_once.cache.input_files import read_regular
from encode_once.cache.process import silenced
from encode_once.extract.encoders.runtime import plain_attention

OPSET = 17
LARGEST = 2**31 - 2**20  # bytes of a file, which is a message of protobuf's


class ExportError(EncodeOnceError, ValueError):
    """The ONNX file would not give the run's scores, or cannot be made."""


def onnx_library() -> Any:
    """The module onnx, if onnxruntime is there too.

    Raises:
        DataError: one is missing.
    """
    try:
        import onnx
        import onnx.compose
        import onnx.version_converter
        import onnxruntime  # noqa: F401 — needed later
    except ImportError as error:
        raise DataError(
            "export needs onnxruntime and onnx: pip install 'encode-once[onnxruntime]'"
        ) from error
    return onnx


def graph_of(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    what: str,
    free: Sequence[str] = (),
) -> Any:
    """A module as an onnx.ModelProto, for any batch size.

    Args:
        inputs: name → example, whose first axis is the batch.
        free: inputs whose second axis has any length, too.
        what: what the module is, for the error message.

    Raises:
        ExportError: torch cannot export it, or it is too large.
    """
    onnx = onnx_library()
    size = sum(tensor.nbytes for tensor in module.state_dict().values())
    if size > LARGEST:
        raise ExportError(f"{what} takes {size / 1e9:.1f} GB, and one ONNX file holds at most 2 GB")
    axes = {name: {0: "batch"} for name in [*inputs, *outputs]}
    for name in free:
        axes[name][1] = "length"
    # With parameters that need gradients, torch does not use its fast path for attention, which ONNX lacks.
    module.eval().requires_grad_()
    with TemporaryDirectory() as folder, silenced(1, 2), plain_attention():
        path = Path(folder) / "module.onnx"
        try:
            torch.onnx.export(
                module,
                tuple(inputs.values()),
                path,
                input_names=[*inputs],
                output_names=[*outputs],
                dynamic_axes=axes,
                opset_version=OPSET,
                dynamo=False,  # its successor needs another library
            )
        except (torch.onnx.OnnxExporterError, RuntimeError, TypeError, ValueError) as error:
            raise ExportError(f"torch cannot export {what}: {brief(error)}") from error
        return onnx.load(path)


def load(file: str) -> Any:
    """The onnx.ModelProto in a file, with its newer operators if they are old.

    Raises:
        ExportError: it cannot be read or converted.
    """
    onnx = onnx_library()
    try:
        return converted(onnx.load_from_string(read_regular(file)), OPSET)
    except Exception as error:  # the libraries raise anything for a file they do not understand
        raise ExportError(f"{file} cannot be a part of a graph: {brief(error)}") from error


def converted(model: Any, opset: int) -> Any:
    """The model with the operators of that version of ONNX, if its own are older."""
    onnx = onnx_library()
    return onnx.version_converter.convert_version(model, opset) if opset_of(model) < opset else model


def opset_of(model: Any) -> int:
    """The version of ONNX's operators that a model uses."""
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), OPSET)


def joined(first: Any, second: Any, links: Mapping[str, str], outputs: Sequence[str] | None = None) -> Any:
    """One model of two; links: output of the first → input of the second.

    outputs: to keep; by default all that are not linked.

    Raises:
        ExportError: onnx cannot join them.
    """
    onnx = onnx_library()
    opset = max(map(opset_of, (first, second)))
    try:
        first, second = (converted(model, opset) for model in (first, second))
        first.ir_version = second.ir_version = max(first.ir_version, second.ir_version)
        # Names inside must differ. Outputs keep theirs, and inputs of the first, which are the user's.
        first = onnx.compose.add_prefix(first, "a/", rename_inputs=False, rename_outputs=False)
        second = onnx.compose.add_prefix(second, "b/", rename_inputs=False, rename_outputs=False)
        return onnx.compose.merge_models(first, second, [*links.items()], outputs=outputs)
    except Exception as error:
        raise ExportError(f"onnx cannot join the parts of the graph: {brief(error)}") from error


def with_properties(model: Any, metadata: Mapping[str, Any]) -> Any:
    """The model with metadata: texts as they are, other values as JSON."""
    texts = {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in metadata.items()
    }
    onnx_library().helper.set_model_props(model, texts)
    return model


def serialised(model: Any) -> bytes:
    """The content of a file.

    Raises:
        ExportError: it is too large.
    """
    if model.ByteSize() > LARGEST:
        size = f"{model.ByteSize() / 1e9:.1f} GB"
        raise ExportError(f"the whole graph takes {size}, and one ONNX file holds at most 2 GB")
    content: bytes = model.SerializeToString()
    return content


def session(content: bytes) -> Any:
    """An onnxruntime session on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only; its warnings are for its developers
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def write(path: Path, content: bytes) -> int:
    """Write a file completely or not at all; returns its size in bytes."""
    with replacing(path) as temporary:
        return temporary.write_bytes(content)
